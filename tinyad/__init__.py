"""tinyad: lazy arrays whose derivatives are made by transforming an IR and whose kernels are made by LLVM.

This module is the array namespace (names of the array API standard and NumPy), the function transforms and the means
of inspection. Importing it loads NumPy and nothing heavier.
"""

from __future__ import annotations

import sys as _sys
from importlib import import_module as _import_module
from math import e, inf, nan, pi
from typing import Any as _Any

from . import config as _config  # noqa: F401  # reads the environment, warns of unknown variables
from . import linalg  # after `tensor`, whose `public` it uses
from . import schedule as _schedule  # noqa: F401  # bound first: below, `schedule` is the function
from .conversion import asarray, from_dlpack, nonzero
from .dtypes import FLOAT16, FLOAT32, FLOAT64, INT32, INT64
from .errors import AxisError, DTypeError, GradError, ShapeError, TraceError
from .functions import activations as _activations
from .functions import attention as _attention
from .functions import creation as _creation
from .functions import elementwise as _elementwise
from .functions import indexing as _indexing
from .functions import linear as _linear
from .functions import logic as _logic
from .functions import losses as _losses
from .functions import movement as _movement
from .functions import reductions as _reductions
from .functions import windows as _windows
from .functions.types import can_cast, finfo, iinfo, isdtype, result_type
from .inspect import compiled_stats, graph, schedule
from .ir import BOOL, DTYPES
from .jit import jit
from .tensor import Tensor, no_grad
from .tensor import public as _public
from .transforms import (
    check_grads,
    checkpoint,
    custom_vjp,
    grad,
    gradients,
    hessian,
    hvp,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    stop_gradient,
    value_and_grad,
    vjp,
    vmap,
)

__version__ = "0.1.0"
__array_api_version__ = "2024.12"

tensor = array = Tensor
newaxis = None

# dtypes
bool_ = BOOL
int8, int16, int32, int64 = DTYPES["i8"], DTYPES["i16"], INT32, INT64
uint8, uint16, uint32, uint64 = DTYPES["u8"], DTYPES["u16"], DTYPES["u32"], DTYPES["u64"]
float16, float32, float64 = FLOAT16, FLOAT32, FLOAT64

# elementwise
abs = _public(_elementwise.abs)
acos = _public(_elementwise.acos)
acosh = _public(_elementwise.acosh)
add = _public(_elementwise.add)
asin = _public(_elementwise.asin)
asinh = _public(_elementwise.asinh)
astype = _public(_elementwise.astype)
atan = _public(_elementwise.atan)
atan2 = _public(_elementwise.atan2)
atanh = _public(_elementwise.atanh)
bitwise_and = _public(_logic.bitwise_and)
bitwise_invert = _public(_logic.bitwise_invert)
bitwise_left_shift = _public(_logic.bitwise_left_shift)
bitwise_or = _public(_logic.bitwise_or)
bitwise_right_shift = _public(_logic.bitwise_right_shift)
bitwise_xor = _public(_logic.bitwise_xor)
cbrt = _public(_elementwise.cbrt)
ceil = _public(_elementwise.ceil)
clip = _public(_elementwise.clip)
copysign = _public(_elementwise.copysign)
cos = _public(_elementwise.cos)
cosh = _public(_elementwise.cosh)
digamma = _public(_elementwise.digamma)
divide = _public(_elementwise.divide)
equal = _public(_logic.equal)
erf = _public(_elementwise.erf)
erfc = _public(_elementwise.erfc)
exp = _public(_elementwise.exp)
exp2 = _public(_elementwise.exp2)
expm1 = _public(_elementwise.expm1)
floor = _public(_elementwise.floor)
floor_divide = _public(_elementwise.floor_divide)
fmod = _public(_elementwise.fmod)
greater = _public(_logic.greater)
greater_equal = _public(_logic.greater_equal)
hypot = _public(_elementwise.hypot)
isfinite = _public(_elementwise.isfinite)
isinf = _public(_elementwise.isinf)
isnan = _public(_elementwise.isnan)
lerp = _public(_elementwise.lerp)
less = _public(_logic.less)
less_equal = _public(_logic.less_equal)
lgamma = _public(_elementwise.lgamma)
log = _public(_elementwise.log)
log10 = _public(_elementwise.log10)
log1p = _public(_elementwise.log1p)
log2 = _public(_elementwise.log2)
logaddexp = _public(_elementwise.logaddexp)
logical_and = _public(_logic.logical_and)
logical_not = _public(_logic.logical_not)
logical_or = _public(_logic.logical_or)
logical_xor = _public(_logic.logical_xor)
maximum = _public(_elementwise.maximum)
minimum = _public(_elementwise.minimum)
multiply = _public(_elementwise.multiply)
nan_to_num = _public(_elementwise.nan_to_num)
negative = _public(_elementwise.negative)
nextafter = _public(_elementwise.nextafter)
not_equal = _public(_logic.not_equal)
positive = _public(_elementwise.positive)
pow = _public(_elementwise.pow)
reciprocal = _public(_elementwise.reciprocal)
remainder = _public(_elementwise.remainder)
round = _public(_elementwise.round)
rsqrt = _public(_elementwise.rsqrt)
sign = _public(_elementwise.sign)
signbit = _public(_elementwise.signbit)
sin = _public(_elementwise.sin)
sinh = _public(_elementwise.sinh)
sqrt = _public(_elementwise.sqrt)
square = _public(_elementwise.square)
subtract = _public(_elementwise.subtract)
tan = _public(_elementwise.tan)
tanh = _public(_elementwise.tanh)
trunc = _public(_elementwise.trunc)
where = _public(_elementwise.where)
# reductions
all = _public(_reductions.all)
any = _public(_reductions.any)
argmax = _public(_reductions.argmax)
argmin = _public(_reductions.argmin)
count_nonzero = _public(_reductions.count_nonzero)
cummax = _public(_reductions.cummax)
cummin = _public(_reductions.cummin)
cumprod = _public(_reductions.cumprod)
cumsum = _public(_reductions.cumsum)
cumulative_prod = _public(_reductions.cumulative_prod)
cumulative_sum = _public(_reductions.cumulative_sum)
diff = _public(_reductions.diff)
logsumexp = _public(_reductions.logsumexp)
max = _public(_reductions.max)
mean = _public(_reductions.mean)
min = _public(_reductions.min)
prod = _public(_reductions.prod)
std = _public(_reductions.std)
sum = _public(_reductions.sum)
var = _public(_reductions.var)
# movement
broadcast_arrays = _public(_movement.broadcast_arrays)
broadcast_to = _public(_movement.broadcast_to)
chunk = _public(_movement.chunk)
concat = _public(_movement.concat)
diag = _public(_movement.diag)
diagonal = _public(_movement.diagonal)
expand_dims = _public(_movement.expand_dims)
flatten = _public(_movement.flatten)
flip = _public(_movement.flip)
matrix_transpose = _public(_movement.matrix_transpose)
moveaxis = _public(_movement.moveaxis)
pad = _public(_movement.pad)
permute_dims = _public(_movement.permute_dims)
ravel = _public(_movement.ravel)
repeat = _public(_movement.repeat)
reshape = _public(_movement.reshape)
roll = _public(_movement.roll)
rot90 = _public(_movement.rot90)
split = _public(_movement.split)
squeeze = _public(_movement.squeeze)
stack = _public(_movement.stack)
swapaxes = _public(_movement.swapaxes)
tile = _public(_movement.tile)
transpose = _public(_movement.transpose)
tril = _public(_movement.tril)
triu = _public(_movement.triu)
unstack = _public(_movement.unstack)
# indexing
argsort = _public(_indexing.argsort)
one_hot = _public(_indexing.one_hot)
scatter_add = _public(_indexing.scatter_add)
searchsorted = _public(_indexing.searchsorted)
segment_sum = _public(_indexing.segment_sum)
sort = _public(_indexing.sort)
take = _public(_indexing.take)
take_along_axis = _public(_indexing.take_along_axis)
topk = _public(_indexing.topk)
# linear
cross = _public(_linear.cross)
dot = _public(_linear.dot)
einsum = _public(_linear.einsum)
inner = _public(_linear.inner)
kron = _public(_linear.kron)
matmul = _public(_linear.matmul)
outer = _public(_linear.outer)
tensordot = _public(_linear.tensordot)
trace = _public(_linear.trace)
vecdot = _public(_linear.vecdot)
# attention
scaled_dot_product_attention = _public(_attention.scaled_dot_product_attention)
# activations
elu = _public(_activations.elu)
gelu = _public(_activations.gelu)
leaky_relu = _public(_activations.leaky_relu)
log_sigmoid = _public(_activations.log_sigmoid)
log_softmax = _public(_activations.log_softmax)
relu = _public(_activations.relu)
selu = _public(_activations.selu)
sigmoid = _public(_activations.sigmoid)
silu = _public(_activations.silu)
softmax = _public(_activations.softmax)
softplus = _public(_activations.softplus)
softsign = _public(_activations.softsign)
# losses
binary_cross_entropy_with_logits = _public(_losses.binary_cross_entropy_with_logits)
cross_entropy = _public(_losses.cross_entropy)
hinge_loss = _public(_losses.hinge_loss)
huber_loss = _public(_losses.huber_loss)
l1_loss = _public(_losses.l1_loss)
mse_loss = _public(_losses.mse_loss)
nll_loss = _public(_losses.nll_loss)
# windows
avg_pool1d = _public(_windows.avg_pool1d)
avg_pool2d = _public(_windows.avg_pool2d)
conv1d = _public(_windows.conv1d)
conv2d = _public(_windows.conv2d)
max_pool1d = _public(_windows.max_pool1d)
max_pool2d = _public(_windows.max_pool2d)
# creation
arange = _public(_creation.arange)
empty = _public(_creation.empty)
empty_like = _public(_creation.empty_like)
eye = _public(_creation.eye)
full = _public(_creation.full)
full_like = _public(_creation.full_like)
linspace = _public(_creation.linspace)
meshgrid = _public(_creation.meshgrid)
ones = _public(_creation.ones)
ones_like = _public(_creation.ones_like)
zeros = _public(_creation.zeros)
zeros_like = _public(_creation.zeros_like)
# NumPy's other spellings
absolute = abs
arccos = acos
arccosh = acosh
arcsin = asin
arcsinh = asinh
arctan = atan
arctan2 = atan2
arctanh = atanh
bitwise_not = bitwise_invert
invert = bitwise_invert
left_shift = bitwise_left_shift
right_shift = bitwise_right_shift
concatenate = concat
power = pow
mod = remainder
true_divide = divide
gather = take_along_axis
swish = silu
amax = max
amin = min


def __getattr__(name: str) -> _Any:
    """The subpackages that are loaded when they are first used."""
    if name in ("nn", "optim", "random"):
        return _import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=_sys.modules[__name__])


bool = BOOL  # last: the builtin has no use above

__all__ = [  # noqa: RUF022
    "AxisError", "DTypeError", "GradError", "ShapeError", "Tensor", "TraceError", "__array_api_version__",
    "__version__", "abs", "absolute", "acos", "acosh", "add", "all", "amax", "amin", "any", "arange", "arccos",
    "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "argmax", "argmin", "argsort", "array",
    "asarray", "asin", "asinh", "astype", "atan", "atan2", "atanh", "avg_pool1d", "avg_pool2d",
    "binary_cross_entropy_with_logits", "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_not",
    "bitwise_or", "bitwise_right_shift", "bitwise_xor", "bool", "bool_", "broadcast_arrays", "broadcast_to",
    "can_cast", "cbrt", "ceil", "check_grads", "checkpoint", "chunk", "clip", "compiled_stats", "concat", "concatenate",
    "conv1d", "conv2d", "copysign", "cos", "cosh", "count_nonzero", "cross", "cross_entropy", "cummax",
    "cummin", "cumprod", "cumsum", "cumulative_prod", "cumulative_sum", "custom_vjp", "diag", "diagonal",
    "diff", "digamma", "divide", "dot", "e", "einsum", "elu", "empty", "empty_like", "equal", "erf", "erfc", "exp",
    "exp2", "expand_dims", "expm1", "eye", "finfo", "flatten", "flip", "float16", "float32", "float64", "floor",
    "floor_divide", "fmod", "from_dlpack", "full", "full_like", "gather", "gelu", "grad", "gradients", "graph",
    "greater", "greater_equal", "hessian", "hinge_loss", "huber_loss", "hvp", "hypot", "iinfo", "inf", "inner",
    "int16", "int32", "int64", "int8", "invert", "isdtype", "isfinite", "isinf", "isnan", "jacfwd", "jacrev",
    "jit", "jvp", "kron", "l1_loss", "leaky_relu", "left_shift", "lerp", "less", "less_equal", "lgamma", "linalg",
    "linearize", "linspace", "log", "log10", "log1p", "log2", "log_sigmoid", "log_softmax", "logaddexp", "logical_and",
    "logical_not", "logical_or", "logical_xor", "logsumexp", "matmul", "matrix_transpose", "max", "max_pool1d",
    "max_pool2d", "maximum", "mean", "meshgrid", "min", "minimum", "mod", "moveaxis", "mse_loss", "multiply",
    "nan", "nan_to_num", "negative", "newaxis", "nextafter", "nll_loss", "no_grad", "nonzero", "not_equal",
    "one_hot", "ones", "ones_like", "outer", "pad", "permute_dims", "pi", "positive", "pow", "power", "prod",
    "ravel", "reciprocal", "relu", "remainder", "repeat", "reshape", "result_type", "right_shift", "roll",
    "rot90", "round", "rsqrt", "scaled_dot_product_attention", "scatter_add", "schedule", "searchsorted", "segment_sum",
    "selu", "sigmoid",
    "sign", "signbit", "silu", "sin", "sinh", "softmax", "softplus", "softsign", "sort", "split", "sqrt",
    "square", "squeeze", "stack", "std", "stop_gradient", "subtract", "sum", "swapaxes", "swish", "take",
    "take_along_axis", "tan", "tanh", "tensor", "tensordot", "tile", "topk", "trace", "transpose", "tril",
    "triu", "true_divide", "trunc", "uint16", "uint32", "uint64", "uint8", "unstack", "value_and_grad", "var",
    "vecdot", "vjp", "vmap", "where", "zeros", "zeros_like",
]
