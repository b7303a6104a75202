"""Records of activations, losses, convolution and pooling."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..errors import DTypeError, ShapeError
from .record import Bad, Kink, Of, Record, at, call, fixed, on, unary_samples

_ZERO: Final = np.array([0.0])


def _sigmoid(x: Any) -> Any:
    from scipy.special import expit

    return expit(x)


def _erf(x: Any) -> Any:
    from scipy.special import erf

    return erf(x)


def _softplus(x: Any) -> Any:
    return np.logaddexp(x, 0)


def _elu(x: Any, alpha: float = 1.0) -> Any:
    return np.where(x > 0, x, alpha * np.expm1(x))


def _gelu(x: Any, approximate: str = "none") -> Any:
    if approximate == "none":
        return 0.5 * x * (1 + _erf(x / np.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _softmax(x: Any, axis: Any = -1) -> Any:
    e = np.exp(x - np.max(x, axis, keepdims=True, initial=-np.inf))
    return e / np.sum(e, axis, keepdims=True)


def _attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
    enable_gqa: bool = False,
) -> Any:
    del dropout_p  # 0
    if enable_gqa:
        k, v = (np.repeat(x, q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    s = q @ np.swapaxes(k, -1, -2) * (1 / np.sqrt(q.shape[-1]) if scale is None else scale)
    if is_causal:
        mask = np.tri(*s.shape[-2:], dtype=bool)
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype.kind == "b" else s + mask
    top = np.max(s, -1, keepdims=True)
    e = np.exp(s - np.where(np.isneginf(top), 0, top))
    total = np.sum(e, -1, keepdims=True)
    return e / np.where(total == 0, 1, total) @ v


def _log_softmax(x: Any, axis: Any = -1) -> Any:
    z = x - np.max(x, axis, keepdims=True, initial=-np.inf)
    return z - np.log(np.sum(np.exp(z), axis, keepdims=True))


def _reduce(y: Any, reduction: str) -> Any:
    return y if reduction == "none" else np.sum(y) if reduction == "sum" else np.mean(y)


def _nll(logp: Any, target: Any, axis: int = -1, reduction: str = "mean") -> Any:
    picked = np.take_along_axis(logp, np.expand_dims(target, axis), axis)
    return _reduce(-np.squeeze(picked, axis), reduction)


def _cross_entropy(x: Any, target: Any, axis: int = -1, reduction: str = "mean", label_smoothing: float = 0.0) -> Any:
    logp = _log_softmax(x, axis)
    loss = -np.sum(logp * target, axis) if target.dtype.kind == "f" else _nll(logp, target, axis, "none")
    return _reduce((1 - label_smoothing) * loss - label_smoothing * logp.mean(axis), reduction)


def _conv(rank: int) -> Any:
    """Σ over the taps of a convolution, one shifted slice of the input at a time."""

    def reference(
        x: Any, w: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
    ) -> Any:
        def each(v: Any) -> Any:
            return (v,) * rank if isinstance(v, int) else v

        s, d, kernel = each(stride), each(dilation), w.shape[2:]
        if padding == "same":
            widths = [(e * (k - 1) // 2, e * (k - 1) - e * (k - 1) // 2) for k, e in zip(kernel, d, strict=True)]
        else:
            widths = [(0, 0)] * rank if padding == "valid" else [(p, p) for p in each(padding)]
        x = np.pad(x, [(0, 0), (0, 0), *widths])
        out = [(n - e * (k - 1) - 1) // t + 1 for n, k, e, t in zip(x.shape[2:], kernel, d, s, strict=True)]
        n, c, o = x.shape[0], x.shape[1] // groups, w.shape[0] // groups
        y = np.zeros((n, groups, o, *out), x.dtype)
        for taps in np.ndindex(*kernel):
            cut = tuple(slice(k * e, k * e + (m - 1) * t + 1, t) for k, e, m, t in zip(taps, d, out, s, strict=True))
            part = x[(slice(None), slice(None), *cut)].reshape(n, groups, c, *out)
            y = y + np.einsum("ngc...,goc->ngo...", part, w[(..., *taps)].reshape(groups, o, c))
        y = y.reshape(n, groups * o, *out)
        return y if bias is None else y + bias.reshape(-1, *(1,) * rank)

    return reference


def _pool(rank: int, combine: Any, fill: float) -> Any:
    def reference(x: Any, kernel_size: Any, stride: Any = None, padding: int = 0, dilation: int = 1) -> Any:
        kernel = (kernel_size,) * rank if isinstance(kernel_size, int) else kernel_size
        s = kernel if stride is None else (stride,) * rank
        low = fill if x.dtype.kind == "f" or fill == 0 else False if x.dtype.kind == "b" else np.iinfo(x.dtype).min
        x = np.pad(x, [(0, 0)] * (x.ndim - rank) + [(padding, padding)] * rank, constant_values=low)
        out = [(n - dilation * (k - 1) - 1) // t + 1 for n, k, t in zip(x.shape[-rank:], kernel, s, strict=True)]
        parts = [
            x[
                (
                    ...,
                    *(
                        slice(k * dilation, k * dilation + (m - 1) * t + 1, t)
                        for k, m, t in zip(taps, out, s, strict=True)
                    ),
                )
            ]
            for taps in np.ndindex(*kernel)
        ]
        return combine(parts, axis=0)

    return reference


def _activation(name: str, reference: Any, *extra: Any, kinks: tuple[Kink, ...] = (), **rest: Any) -> Record:
    samples = unary_samples(-6, 6, ends=False) if not extra else fixed(on((7,)), on((3, 4)), *extra)
    return Record(
        name,
        "activations",
        rest.pop("kinds", "biuf"),
        samples,
        reference,
        rest.pop("result", "float"),
        2,
        at(on((2, 3)), *extra),
        kinks,
        **{"ulps": 6, **rest},
    )


_LABELS: Final = np.array([1, 0, 2])
_WRONG: Final = Bad(
    (np.zeros((3, 4)), np.zeros(2, int)),
    ShapeError,
    "expected labels of shape (3,) for the classes along axis 1, got (2,)",
)
_ATTENTION: Final = (
    call(Of(3, 4), Of(5, 4), Of(5, 6)),
    call(Of(2, 3, 5, 4), Of(2, 3, 5, 4), Of(2, 3, 5, 4), is_causal=True),
    call(Of(2, 1, 3, 4), Of(3, 5, 4), Of(5, 2), np.arange(15).reshape(3, 5) % 4 < 2),
    call(Of(2, 3, 4), Of(2, 5, 4), Of(2, 5, 6), np.array([0.0, 1.0, -9.0, -2.0, 0.5], np.float32), scale=0.3),
    call(Of(2, 6, 3, 4), Of(2, 2, 5, 4), Of(2, 2, 5, 4), np.eye(18, 5).reshape(6, 3, 5) < 1, enable_gqa=True),
)
_REDUCTION: Final = Bad(
    (np.zeros(3), np.zeros(3)), ValueError, "reduction must be one of mean, sum, none", {"reduction": "avg"}
)


def _loss(name: str, reference: Any, low: float, high: float, kinks: tuple[Kink, ...] = ()) -> Record:
    samples = (
        on((3, 2), (3, 2), low=low, high=high),
        on((5,), (), reduction="sum", low=low, high=high),
        on((4,), (4,), reduction="none", low=low, high=high),
    )
    return Record(
        name,
        "losses",
        "biuf",
        fixed(*samples),
        lambda a, b, reduction="mean": _reduce(reference(a, b), reduction),
        "float",
        2,
        at(*samples),
        kinks,
        (_REDUCTION,),
        ulps=8,
        scale=20,
    )


def _bce(x: Any, t: Any) -> Any:
    return np.logaddexp(x, 0) - t * x


def _huber(a: Any, b: Any) -> Any:
    d = np.abs(a - b)
    return np.where(d <= 1, d * d / 2, d - 0.5)


_CONV2: Final = (
    call(Of(2, 3, 5, 6), Of(4, 3, 3, 2)),
    call(Of(1, 2, 6, 5), Of(2, 2, 3, 3), Of(2), stride=2, padding=1),
    call(Of(1, 4, 5, 5), Of(4, 2, 2, 2), groups=2, dilation=2),
    call(Of(1, 2, 4, 4), Of(2, 1, 3, 3), groups=2, padding="same"),
    call(Of(1, 1, 7, 4), Of(1, 1, 2, 3), stride=(3, 1), padding=(0, 1), dilation=(2, 1)),
)
_CONV1: Final = (
    call(Of(2, 3, 7), Of(4, 3, 3)),
    call(Of(1, 2, 6), Of(2, 1, 3), Of(2), stride=2, padding=1, groups=2),
    call(Of(1, 1, 6), Of(1, 1, 2), padding="same"),
)
_POOL2: Final = (call(Of(2, 4, 6), 2), call(Of(1, 2, 5, 5), (3, 2), stride=1), call(Of(1, 4, 4), 3, 2, 1))
_POOL1: Final = (call(Of(2, 6), 2), call(Of(1, 2, 5), 3, stride=1), call(Of(1, 4), 3, 2, 1))
_SPAN: Final = "the window spans"

RECORDS: Final = (
    _activation(
        "relu",
        lambda x: np.maximum(x, 0).astype(x.dtype),
        result="same",
        kinks=(Kink((_ZERO,), (_ZERO,)),),
        kinds="biuf",
    ),
    _activation(
        "leaky_relu", lambda x, s=0.01: np.where(x > 0, x, s * x), kinks=(Kink((_ZERO,), (np.array([0.01]),)),)
    ),
    _activation("elu", _elu, call(Of(4), 2.0)),
    _activation("selu", lambda x: 1.0507009873554805 * _elu(x, 1.6732632423543772), ulps=8),
    _activation("sigmoid", _sigmoid, kinks=(Kink((_ZERO,), (np.array([0.25]),)),)),
    _activation("log_sigmoid", lambda x: -_softplus(-x)),
    _activation("softplus", _softplus, kinks=(Kink((_ZERO,), (np.array([0.5]),)),)),
    _activation("softsign", lambda x: x / (1 + np.abs(x)), kinks=(Kink((_ZERO,), (np.array([1.0]),)),)),
    _activation("silu", lambda x: x * _sigmoid(x), aliases=("swish",)),
    _activation(
        "gelu",
        _gelu,
        call(Of(5), "tanh"),
        scale=1,
        errors=(Bad((np.zeros(2), "fast"), ValueError, "approximate must be 'none' or 'tanh'"),),
    ),
    _activation(
        "softmax",
        _softmax,
        call(Of(3, 4), 0),
        call(Of(2, 3, 4), (1, 2)),
        call(Of(0, 3)),
        call(Of(3, 0)),
        call(Of(3, 40, low=-20, high=20)),
        kinks=(Kink((np.array([-np.inf, 0.0]),), (np.zeros(2),)),),
        ulps=40,
    ),
    _activation(
        "log_softmax",
        _log_softmax,
        call(Of(3, 4), 0),
        call(Of(2, 3, 4), (1, 2)),
        call(Of(3, 0)),
        call(Of(3, 40, low=-20, high=20)),
        ulps=8,
        scale=8,
    ),
    Record(
        "scaled_dot_product_attention",
        "activations",
        "f",
        fixed(*_ATTENTION, call(Of(3, 2, 4), Of(3, 5, 4), Of(3, 5, 6), np.zeros((2, 5), bool))),
        _attention,
        orders=2,
        smooth=at(*_ATTENTION),
        ulps=40,
        scale=20,
        errors=(
            Bad((np.zeros(4), np.zeros((3, 4)), np.zeros((3, 4))), ShapeError, "with at least 2 axes"),
            Bad((np.zeros((2, 4)), np.zeros((3, 5)), np.zeros((3, 4))), ShapeError, "expected query [.., L, E]"),
            Bad(
                (np.zeros((3, 2, 4)), np.zeros((2, 5, 4)), np.zeros((2, 5, 4))),
                ShapeError,
                "to be a multiple of those of key and value",
                {"enable_gqa": True},
            ),
            Bad((*[np.zeros((2, 4))] * 3, np.ones((2, 2), bool), 0.0, True), ValueError, "should not be set"),
            Bad((*[np.zeros((2, 4))] * 3, None, 0.5), ValueError, "dropout_p must be 0, got 0.5"),
            Bad((*[np.zeros((2, 4))] * 3, np.ones((2, 2), int)), DTypeError, "expected a mask of bools or floats"),
        ),
    ),
    Record(
        "nll_loss",
        "losses",
        "f",
        fixed(call(Of(3, 4), _LABELS), call(Of(4, 3), _LABELS, axis=0, reduction="none")),
        _nll,
        orders=2,
        scale=8,
        smooth=at(call(Of(3, 4), _LABELS)),
        linear=True,
        errors=(_WRONG, Bad((np.zeros((3, 4)), np.zeros(3)), DTypeError, "expected integer labels")),
    ),
    Record(
        "cross_entropy",
        "losses",
        "f",
        fixed(
            call(Of(3, 4), _LABELS),
            call(Of(4, 3), _LABELS, axis=0, reduction="sum"),
            call(Of(3, 4), Of(3, 4, low=0, high=1)),
            call(Of(3, 4), _LABELS, label_smoothing=0.1, reduction="none"),
            call(Of(2, 4, 3), np.array([[1, 0, 2], [3, 3, 0]]), axis=1),
        ),
        _cross_entropy,
        orders=2,
        scale=20,
        smooth=at(call(Of(3, 4), _LABELS), call(Of(3, 4), Of(3, 4, low=0, high=1), label_smoothing=0.2)),
        ulps=8,
        errors=(
            _WRONG,
            Bad((np.zeros((3, 4)), np.zeros(3)), ShapeError, "expected class probabilities of the logits' shape"),
            Bad((np.zeros((3, 4)), np.zeros(3, bool)), DTypeError, "expected integer labels or class probabilities"),
        ),
    ),
    _loss("mse_loss", lambda a, b: (a - b) ** 2, -4, 4),
    _loss("l1_loss", lambda a, b: np.abs(a - b), -4, 4, (Kink((_ZERO, _ZERO), (_ZERO, _ZERO)),)),
    _loss("huber_loss", _huber, -4, 4),
    _loss(
        "hinge_loss",
        lambda a, b: np.maximum(1 - a * b, 0),
        -4,
        4,
        (Kink((np.array([1.0]), np.array([1.0])), (_ZERO, _ZERO)),),
    ),
    _loss("binary_cross_entropy_with_logits", _bce, 0, 1, (Kink((_ZERO, np.array([1.0])), (np.array([-0.5]), _ZERO)),)),
    Record(
        "conv2d",
        "windows",
        "iuf",
        fixed(*_CONV2),
        _conv(2),
        orders=2,
        smooth=at(*_CONV2[1:4]),
        scale=400,
        errors=(
            Bad(
                (np.zeros((1, 3, 5, 5)), np.zeros((4, 2, 3, 3))),
                ShapeError,
                "expected weight [O, C/groups, *K] for 3 channels in 1 group(s)",
            ),
            Bad((np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 3, 3))), ShapeError, _SPAN),
            Bad(
                (np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 1, 1))),
                ValueError,
                "padding='same' needs stride 1",
                {"stride": 2, "padding": "same"},
            ),
        ),
    ),
    Record(
        "conv1d",
        "windows",
        "iuf",
        fixed(*_CONV1),
        _conv(1),
        orders=2,
        smooth=at(*_CONV1),
        scale=200,
        errors=(Bad((np.zeros((1, 1, 2)), np.zeros((1, 1, 3))), ShapeError, _SPAN),),
    ),
    Record(
        "max_pool2d",
        "windows",
        "biuf",
        fixed(*_POOL2),
        _pool(2, np.max, -np.inf),
        orders=2,
        smooth=at(*_POOL2),
        ulps=0,
        kinks=(Kink((np.ones((1, 2, 2)), 2), (np.full((1, 2, 2), 0.25),)),),
        errors=(Bad((np.zeros((1, 2, 2)), 3), ShapeError, _SPAN),),
    ),
    Record(
        "max_pool1d",
        "windows",
        "biuf",
        fixed(*_POOL1),
        _pool(1, np.max, -np.inf),
        orders=2,
        smooth=at(*_POOL1),
        ulps=0,
        errors=(Bad((np.zeros((1, 2)), 2, 1, 2), ValueError, "padding (2,) is more than half of the window (2,)"),),
    ),
    Record(
        "avg_pool2d",
        "windows",
        "biuf",
        fixed(*_POOL2),
        _pool(2, np.mean, 0),
        "float",
        2,
        at(*_POOL2),
        linear=True,
        scale=20,
        errors=(Bad((np.zeros((1, 2, 2)), 3), ShapeError, _SPAN),),
    ),
    Record(
        "avg_pool1d",
        "windows",
        "biuf",
        fixed(*_POOL1),
        _pool(1, np.mean, 0),
        "float",
        2,
        at(*_POOL1),
        linear=True,
        scale=20,
        errors=(Bad((np.zeros((1, 2)), 3), ShapeError, _SPAN),),
    ),
)
