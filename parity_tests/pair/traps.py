"""The traps between the frameworks: for each call of a PyTorch function, what else the other side may have meant.

A row of the table names the trap, the functions that it may lie in, and the ways in which such a call can be run
instead. Each way is tried on the pair before anything is said.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from parity_tests.pair.calls import Call, Change


class Mend(NamedTuple):
    """One way to run a call, and what it would mean to write it so."""

    trap: str
    sentence: str
    change: Change


class Around(NamedTuple):
    """What a trap may look at besides the call."""

    shapes: list[tuple[int, ...]]
    """That the output may have, were it JAX's: with channels first, and as it is."""
    maps: tuple[tuple[int, ...], ...]
    """Shapes of the maps, [C, H, W], that came before."""
    weights: tuple[tuple[str, torch.Tensor], ...]
    """All parameters, by name."""


Way = tuple[str, Change]


def _with(**others: Any) -> Change:
    """Other arguments; a function is applied to the argument that the call has then."""

    def change(function: Callable[..., Any], call: Call) -> Any:
        return call.run(function, **{k: v(call.given[k]) if callable(v) else v for k, v in others.items()})

    return change


def _instead(other: Callable[..., Any]) -> Change:
    """Another function of the first argument."""
    return lambda function, call: other(next(iter(call.given.values())))


def _number(call: Call, name: str, default: Any) -> Any:
    return call.given.get(name, default)


def _sides(value: Any, rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value) * (rank if len(value) == 1 else 1)


def _padding(call: Call, around: Around) -> Iterator[Way]:
    weight, x = call.given["weight"], call.given["input"]
    rank = weight.ndim - 2
    stride, dilation = (_sides(_number(call, name, 1), rank) for name in ("stride", "dilation"))
    reach = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    totals = [max((math.ceil(n / s) - 1) * s + k - n, 0) for n, s, k in zip(x.shape[2:], stride, reach, strict=True)]
    same = [(total // 2, total - total // 2) for total in totals]
    for label, margins in {
        '"SAME", as JAX pads it': same,
        '"SAME", with the larger half before': [(b, a) for a, b in same],
        "no padding": [(0, 0)] * rank,
        "half a kernel on both sides": [(k // 2, k // 2) for k in reach],
    }.items():
        yield (
            f"pad by {margins} before and after each side ({label}) and convolve without padding",
            partial(_padded, margins=margins),
        )


def _padded(function: Any, call: Call, margins: list[tuple[int, int]]) -> Any:
    flat = [number for pair in reversed(margins) for number in pair]
    return call.run(function, input=F.pad(call.given["input"], flat), padding=0)


def _crop(call: Call, around: Around) -> Iterator[Way]:
    weight, x = call.given["weight"], call.given["input"]
    rank = weight.ndim - 2
    stride = _sides(_number(call, "stride", 1), rank)
    full = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], stride, weight.shape[2:], strict=True)]
    channels = weight.shape[1] * _number(call, "groups", 1)
    fits = [shape[2:] for shape in around.shapes if len(shape) == x.ndim and shape[1] == channels]
    wanted = fits[0] if fits else tuple(n * s for n, s in zip(x.shape[2:], stride, strict=True))
    most = max(full_side - side for full_side, side in zip(full, wanted, strict=True))
    for first in range(max(most, 0) + 1):
        cuts = [(first, f - w - first) for f, w in zip(full, wanted, strict=True)]
        yield f"transpose without padding and cut {cuts} before and after each side", partial(_cropped, cuts=cuts)


def _cropped(function: Any, call: Call, cuts: list[tuple[int, int]]) -> Any:
    flat = [-number for pair in reversed(cuts) for number in pair]
    return F.pad(call.run(function, padding=0, output_padding=0), flat)


def _flip(call: Call, around: Around) -> Iterator[Way]:
    weight = call.given["weight"]
    sides = tuple(range(2, weight.ndim))
    if max(weight.shape[2:]) > 1:
        yield "flip the kernel along its sides", _with(weight=lambda w: w.flip(sides))
    if weight.shape[0] == weight.shape[1]:
        yield "exchange the kernel's in and out", _with(weight=lambda w: w.transpose(0, 1))
        yield (
            "flip the kernel along its sides and exchange its in and out",
            _with(weight=lambda w: w.flip(sides).transpose(0, 1)),
        )


def _transposed(call: Call, around: Around) -> Iterator[Way]:
    weight = call.given["weight"]
    if weight.ndim == 2 and weight.shape[0] == weight.shape[1]:
        yield "transpose the weight", _with(weight=lambda w: w.T)


def _flatten(call: Call, around: Around) -> Iterator[Way]:
    rows, columns = call.given["weight"].shape
    for channels, *sides in dict.fromkeys(around.maps):
        many = channels > 1 and math.prod(sides) > 1
        if many and channels * math.prod(sides) == columns:
            name = ", ".join(map(str, (channels, *sides)))
            columns_last = partial(_last_of_columns, channels=channels, sides=sides)
            yield f"flatten [{name}] with channels last, as JAX does", _with(weight=columns_last)
        if many and channels * math.prod(sides) == rows:
            turn = partial(_last_of_rows, channels=channels, sides=sides)
            others = {"weight": turn} | ({} if _number(call, "bias", None) is None else {"bias": turn})
            yield f"unflatten with channels last, as JAX does, and move the {channels} channels first", _with(**others)


def _last_of_columns(weight: torch.Tensor, channels: int, sides: list[int]) -> torch.Tensor:
    return weight.reshape(-1, *sides, channels).movedim(-1, 1).reshape(weight.shape)


def _last_of_rows(rows: torch.Tensor, channels: int, sides: list[int]) -> torch.Tensor:
    turned = rows.reshape(*sides, channels, *rows.shape[1:])
    return turned.movedim(len(sides), 0).reshape(rows.shape)


def _unflatten(call: Call, around: Around) -> Iterator[Way]:
    given = next(iter(call.given.values()))
    if not isinstance(given, torch.Tensor):
        return
    if given.ndim == 4:
        yield "flatten with channels last, as JAX does", _from_channels_last
    if given.ndim == 2:
        yield "unflatten with channels last, as JAX does, and move them first", _channels_last


def _from_channels_last(function: Any, call: Call) -> Any:
    first, given = next(iter(call.given.items()))
    return call._replace(given=call.given | {first: given.permute(0, 2, 3, 1)}).run(function)


def _channels_last(function: Any, call: Call) -> Any:
    out = call.run(function)
    if out.ndim != 4:
        return out
    b, c, h, w = out.shape
    return out.reshape(b, h, w, c).permute(0, 3, 1, 2)


def _heads(call: Call, around: Around) -> Iterator[Way]:
    rows, columns = call.given["weight"].shape
    for count in _counts(rows):
        turn = partial(_regroup, count=count)
        others = {"weight": turn} | ({} if _number(call, "bias", None) is None else {"bias": turn})
        yield f"order its {rows} outputs by depth first and its {count} heads second", _with(**others)
    for count in _counts(columns):
        turn = partial(_regroup, count=count)
        yield (
            f"order its {columns} inputs by depth first and its {count} heads second",
            _with(weight=lambda w, turn=turn: turn(w.T).T),
        )


def _counts(width: int) -> list[int]:
    return [count for count in range(2, 33) if width % count == 0 and width // count > 1]


def _regroup(rows: torch.Tensor, count: int) -> torch.Tensor:
    return rows.reshape(count, -1, *rows.shape[1:]).transpose(0, 1).reshape(rows.shape)


def _bias(call: Call, around: Around) -> Iterator[Way]:
    if _number(call, "bias", None) is not None:
        yield "leave out the bias", _with(bias=None)


def _exchanged(call: Call, around: Around) -> Iterator[Way]:
    weight = call.given["weight"]
    for name, other in around.weights:
        if other is not weight and other.shape == weight.shape:
            yield f"take {name} for its weight", lambda function, call, other=other: call.run(function, weight=other)


def _eps(call: Call, around: Around) -> Iterator[Way]:
    own = _number(call, "eps", 1e-5)
    for eps in (1e-6, 1e-5, 1e-3, 1e-8, 1e-12, 1e-7, 1e-4, 0.0):
        if eps != own:
            yield (
                f"eps of {eps:g} in place of {own if own is not None else 'the default':{'g' if own else ''}}",
                _with(eps=eps),
            )


def _axes(call: Call, around: Around) -> Iterator[Way]:
    x = call.given["input"]
    if call.function == "group_norm":
        own, channels = call.given["num_groups"], x.shape[1]
        for groups in (g for g in range(1, channels + 1) if channels % g == 0 and g != own):
            yield f"{groups} groups in place of {own}", _with(num_groups=groups)
    elif call.function == "layer_norm" and x.ndim > 2:
        eps, affine = _number(call, "eps", 1e-5), [_number(call, name, None) for name in ("weight", "bias")]
        for first in range(1, x.ndim):
            axes = tuple(range(first, x.ndim))
            if len(axes) != len(call.given["normalized_shape"]):
                yield f"normalise over the last {len(axes)} axes", partial(_norm, axes=axes, eps=eps, affine=affine)
        yield "normalise over the axis after the first", partial(_norm, axes=(1,), eps=eps, affine=affine)


def _norm(function: Any, call: Call, axes: tuple[int, ...], eps: float, affine: list[Any]) -> torch.Tensor:
    x = call.given["input"]
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    y, (weight, bias) = (x - mean) / torch.sqrt(variance + eps), affine
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _statistics(call: Call, around: Around) -> Iterator[Way]:
    training = bool(_number(call, "training", False))
    if _number(call, "running_mean", None) is not None:
        what = "the running statistics" if training else "the batch's own statistics"
        yield f"normalise by {what}", _with(training=not training)


def _momentum(call: Call, around: Around) -> Iterator[Way]:
    own = _number(call, "momentum", 0.1)
    if not _number(call, "training", False) or own is None:
        return
    for momentum in dict.fromkeys((1 - own, 0.1, 0.01, 0.001, 0.99, 0.9)):
        if momentum != own:
            kept = f"JAX keeps {1 - momentum:g} of the old statistics, PyTorch adds {own:g} of the new"
            yield f"momentum of {momentum:g} in place of {own:g}: {kept}", _with(momentum=momentum)


def _unbiased_running(call: Call, around: Around) -> Iterator[Way]:
    if _number(call, "training", False) and _number(call, "running_var", None) is not None:
        yield "keep the biased variance: PyTorch stores n/(n − 1) times it", _biased_running


def _biased_running(function: Any, call: Call) -> Any:
    x, momentum, running = call.given["input"], call.given["momentum"], call.given["running_var"]
    old = running.clone()
    y = call.run(function)
    with torch.no_grad():
        axes = [axis for axis in range(x.ndim) if axis != 1]
        running.copy_((1 - momentum) * old + momentum * x.detach().var(axes, correction=0))
    return y


def _gelu(call: Call, around: Around) -> Iterator[Way]:
    if _number(call, "approximate", "none") == "none":
        yield 'approximate="tanh": the default of jax.nn.gelu and flax.linen.gelu', _with(approximate="tanh")
    else:
        yield 'approximate="none": JAX computes erf', _with(approximate="none")
    yield "x·sigmoid(1.702 x), the quick form", _instead(lambda x: x * torch.sigmoid(1.702 * x))


def _slope(call: Call, around: Around) -> Iterator[Way]:
    name, default = ("alpha", 1.0) if call.function == "elu" else ("negative_slope", 0.01)
    own = _number(call, name, default)
    for slope in (0.01, 0.2, 0.1, 0.3, 0.05, 1.0):
        if slope != own:
            yield f"{name} of {slope:g} in place of {own:g}", _with(**{name: slope})


ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "gelu, tanh form": partial(F.gelu, approximate="tanh"),
    "gelu, erf form": F.gelu,
    "silu": F.silu,
    "leaky_relu of 0.01": F.leaky_relu,
    "elu": F.elu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "no activation": lambda x: x,
}


def _activation(call: Call, around: Around) -> Iterator[Way]:
    for name, function in ACTIVATIONS.items():
        if name.partition(",")[0] != call.function:
            yield f"{name} in place of {call.function}", _instead(function)


def _correction(call: Call, around: Around) -> Iterator[Way]:
    yield "divide by n: PyTorch divides by n − 1 unless told, jnp by n", partial(_corrected, correction=0)
    yield "divide by n − 1", partial(_corrected, correction=1)


def _corrected(function: Any, call: Call, correction: int) -> Any:
    given = {key: value for key, value in call.given.items() if key not in ("unbiased", "correction")}
    if isinstance(given.get("dim"), bool):
        del given["dim"]
    return call._replace(given=given).run(function, correction=correction)


def _dim(call: Call, around: Around) -> Iterator[Way]:
    x, own = call.given["input"], _number(call, "dim", None)
    for dim in range(x.ndim):
        if own is None or dim != own % x.ndim:
            yield f"over axis {dim} in place of {own}", _with(dim=dim)


def _dropout(call: Call, around: Around) -> Iterator[Way]:
    if _number(call, "training", True):
        yield "no dropout: put the module in evaluation mode", lambda function, call: call.given["input"]


def _resize(call: Call, around: Around) -> Iterator[Way]:
    own = _number(call, "mode", "nearest"), bool(_number(call, "align_corners", None))
    for mode in ("bilinear", "nearest", "nearest-exact", "bicubic"):
        corners: tuple[bool | None, ...] = (False, True) if mode.startswith("bi") else (None,)
        for corner in corners:
            for antialias in (False, True) if mode.startswith("bi") else (False,):
                if (mode, bool(corner)) != own or antialias:
                    also = ", align_corners" if corner else ""
                    smooth = ", antialias" if antialias else ""
                    yield (
                        f"mode {mode}{also}{smooth} in place of {own[0]}{', align_corners' if own[1] else ''}",
                        _with(mode=mode, align_corners=corner, antialias=antialias),
                    )


def _pool(call: Call, around: Around) -> Iterator[Way]:
    x, kernel = call.given["input"], call.given["kernel_size"]
    size = _sides(kernel, 2)
    stride = _sides(_number(call, "stride", None) or kernel, 2)
    totals = [max((math.ceil(n / s) - 1) * s + k - n, 0) for n, s, k in zip(x.shape[2:], stride, size, strict=True)]
    margins = [number for total in reversed(totals) for number in (total // 2, total - total // 2)]
    highest = call.function == "max_pool2d"
    if any(margins):
        fill = -math.inf if highest else 0.0
        yield (
            '"SAME" padding, as JAX pads it',
            lambda function, call: call.run(function, input=F.pad(call.given["input"], margins, value=fill), padding=0),
        )
    if not highest:
        counted = bool(_number(call, "count_include_pad", True))
        yield f"count_include_pad={not counted}", _with(count_include_pad=not counted)
    other = F.avg_pool2d if highest else F.max_pool2d
    keys = ("input", "kernel_size", "stride", "padding")
    name = "average" if highest else "maximum"
    yield (
        f"the {name} of each window",
        lambda function, call: other(**{k: call.given[k] for k in keys if k in call.given}),
    )


def _scale(call: Call, around: Around) -> Iterator[Way]:
    depth = call.given["query"].shape[-1]
    for label, scale in {"no scale": 1.0, "a scale of 1/depth": 1 / depth, "a scale of 1/√depth": depth**-0.5}.items():
        yield f"{label} of the scores", _with(scale=scale)


def _constant(call: Call, around: Around) -> Iterator[Way]:
    """A number that a tensor is multiplied by or divided by."""
    where = next((key for key, value in call.given.items() if type(value) in (int, float)), None)
    if where is None or not call.given[where]:
        return
    own = float(call.given[where])
    sides = {n for value in call.given.values() if isinstance(value, torch.Tensor) for n in value.shape if n > 1}
    options = {f"{n}": float(n) for n in sides} | {f"√{n}": n**0.5 for n in sides} | {f"1/√{n}": n**-0.5 for n in sides}
    more = {"1": 1.0, "its square": own**2, "its root": abs(own) ** 0.5, "its inverse": 1 / own}
    for label, value in (more | {f"1/{n}": 1 / n for n in sides} | options).items():
        if not math.isclose(value, own):
            yield f"the constant {value:.6g} ({label}) in place of {own:.6g}", _with(**{where: value})  # type: ignore[misc]


def _narrow(call: Call, around: Around) -> Iterator[Way]:
    tensors = [value for value in call.given.values() if isinstance(value, torch.Tensor)]
    if tensors and tensors[0].dtype == torch.float64:
        yield "no conversion: PyTorch computes in a narrower type here", _instead(lambda x: x)


def _order(call: Call, around: Around) -> Iterator[Way]:
    tensors = call.given["tensors"]
    if len(tensors) == 2:
        yield "join in the other order", _with(tensors=lambda tensors: tuple(reversed(tensors)))


def _reduced(call: Call, around: Around) -> Iterator[Way]:
    other = torch.sum if call.function == "mean" else torch.mean
    yield f"{other.__name__} in place of {call.function}", lambda function, call: call.run(other)


def _detached(call: Call, around: Around) -> Iterator[Way]:
    yield "let the gradient through: PyTorch detaches here", _instead(lambda x: x)


_CONV = ("conv1d", "conv2d", "conv3d")
_DECONV = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
_NORMS = ("layer_norm", "group_norm", "batch_norm", "instance_norm", "rms_norm")
_ACTIVATION = ("relu", "silu", "gelu", "tanh", "sigmoid", "elu", "softplus", "leaky_relu", "relu6", "hardswish")
_PRODUCTS = ("mul", "div", "true_divide", "__mul__", "__rmul__", "__truediv__", "__rtruediv__", "multiply", "divide")

TRAPS: tuple[tuple[str, tuple[str, ...], Callable[[Call, Around], Iterator[Way]]], ...] = (
    ("narrow type", ("float", "to", "type", "half", "bfloat16"), _narrow),
    ("dropout", ("dropout",), _dropout),
    ("eps", _NORMS, _eps),
    ("GELU form", ("gelu",), _gelu),
    ("slope", ("leaky_relu", "elu"), _slope),
    ("unbiased variance", ("var", "std"), _correction),
    ("padding", _CONV, _padding),
    ("padding of a transposed convolution", _DECONV, _crop),
    ("flip", (*_CONV, *_DECONV), _flip),
    ("flatten order", ("linear",), _flatten),
    ("flatten order", ("flatten", "reshape", "view", "unflatten"), _unflatten),
    ("transposed weight", ("linear",), _transposed),
    ("normalised axes", _NORMS, _axes),
    ("running statistics", ("batch_norm",), _statistics),
    ("axis", ("softmax", "log_softmax"), _dim),
    ("resize", ("interpolate",), _resize),
    ("pooling", ("max_pool2d", "avg_pool2d"), _pool),
    ("scale of attention", ("scaled_dot_product_attention",), _scale),
    ("constant", _PRODUCTS, _constant),
    ("order of heads", ("linear",), _heads),
    ("exchanged weights", (*_CONV, *_DECONV, "linear"), _exchanged),
    ("bias", (*_CONV, *_DECONV, "linear"), _bias),
    ("order", ("cat",), _order),
    ("reduction", ("mean", "sum"), _reduced),
    ("activation", _ACTIVATION, _activation),
)
"""Rows that change a forward pass; the more common a trap, the sooner it is tried."""

STATE_TRAPS: tuple[tuple[str, tuple[str, ...], Callable[[Call, Around], Iterator[Way]]], ...] = (
    ("momentum", ("batch_norm",), _momentum),
    ("unbiased variance", ("batch_norm",), _unbiased_running),
)
"""Rows that change no output in training mode, only what is kept."""

GRADIENT_TRAPS: tuple[tuple[str, tuple[str, ...], Callable[[Call, Around], Iterator[Way]]], ...] = (
    ("stopped gradient", ("detach",), _detached),
)
"""Rows that change gradients alone."""


def stopped_after() -> Any:
    """Return the row of a gradient that JAX stops: after any call."""
    return (("stopped gradient", None, _stopped),)


def _stopped(call: Call, around: Around) -> Iterator[Way]:
    yield f"detach what {call.function} returns: JAX stops the gradient there", _detach


def _detach(function: Any, call: Call) -> Any:
    out = call.run(function)
    return out.detach() if isinstance(out, torch.Tensor) else out


def mends_of(call: Call, around: Around, table: Any = TRAPS) -> Iterator[Mend]:
    """Return all ways in which the other side may have meant a call."""
    for trap, functions, ways in table:
        if functions is None or call.function in functions:
            for sentence, change in ways(call, around):
                yield Mend(trap, sentence, change)
