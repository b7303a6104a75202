"""Transforms: derivatives and batching of Python functions of tensors, and of graphs already recorded.

A function is traced once on fresh INPUT nodes; the IR it leaves behind is differentiated or batched by
`tinyad.autodiff`; the result is plain IR again. Hence transforms nest in any order and depth.
"""

from .checking import check_grads
from .custom import checkpoint, custom_vjp, stop_gradient
from .edges import Edge, edges
from .jacobians import hessian, hvp, jacfwd, jacrev
from .recorded import backward, gradients
from .reverse import grad, value_and_grad, vjp
from .tangents import jvp, linearize
from .vectorize import vmap

__all__ = [
    "Edge",
    "backward",
    "check_grads",
    "checkpoint",
    "custom_vjp",
    "edges",
    "grad",
    "gradients",
    "hessian",
    "hvp",
    "jacfwd",
    "jacrev",
    "jvp",
    "linearize",
    "stop_gradient",
    "value_and_grad",
    "vjp",
    "vmap",
]
