"""What else a layer with weights may mean: convolutions, products, norms. Each function yields ways to run a call."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from parity_tests.pair.calls import Around, Call, Way, number, sides_of, with_


def padding(call: Call, around: Around) -> Iterator[Way]:
    """What a convolution adds around its images."""
    weight, x = call.given["weight"], call.given["input"]
    rank = weight.ndim - 2
    stride, dilation = (sides_of(number(call, name, 1), rank) for name in ("stride", "dilation"))
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


def crop(call: Call, around: Around) -> Iterator[Way]:
    """What a transposed convolution cuts off."""
    weight, x = call.given["weight"], call.given["input"]
    rank = weight.ndim - 2
    stride = sides_of(number(call, "stride", 1), rank)
    full = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], stride, weight.shape[2:], strict=True)]
    channels = weight.shape[1] * number(call, "groups", 1)
    fits = [shape[2:] for shape in around.shapes if len(shape) == x.ndim and shape[1] == channels]
    wanted = fits[0] if fits else tuple(n * s for n, s in zip(x.shape[2:], stride, strict=True))
    most = max(full_side - side for full_side, side in zip(full, wanted, strict=True))
    for first in range(max(most, 0) + 1):
        cuts = [(first, f - w - first) for f, w in zip(full, wanted, strict=True)]
        yield f"transpose without padding and cut {cuts} before and after each side", partial(_cropped, cuts=cuts)


def _cropped(function: Any, call: Call, cuts: list[tuple[int, int]]) -> Any:
    flat = [-number for pair in reversed(cuts) for number in pair]
    return F.pad(call.run(function, padding=0, output_padding=0), flat)


def flip(call: Call, around: Around) -> Iterator[Way]:
    """A kernel in the other direction, or with in and out exchanged."""
    weight = call.given["weight"]
    sides = tuple(range(2, weight.ndim))
    if max(weight.shape[2:]) > 1:
        yield "flip the kernel along its sides", with_(weight=lambda w: w.flip(sides))
    if weight.shape[0] == weight.shape[1]:
        yield "exchange the kernel's in and out", with_(weight=lambda w: w.transpose(0, 1))
        yield (
            "flip the kernel along its sides and exchange its in and out",
            with_(weight=lambda w: w.flip(sides).transpose(0, 1)),
        )


def transposed(call: Call, around: Around) -> Iterator[Way]:
    """A square weight the other way round."""
    weight = call.given["weight"]
    if weight.ndim == 2 and weight.shape[0] == weight.shape[1]:
        yield "transpose the weight", with_(weight=lambda w: w.T)


def flatten(call: Call, around: Around) -> Iterator[Way]:
    """The order in which a map became, or becomes, a vector: the weight's rows or columns."""
    rows, columns = call.given["weight"].shape
    for channels, *sides in dict.fromkeys(around.maps):
        many = channels > 1 and math.prod(sides) > 1
        if many and channels * math.prod(sides) == columns:
            name = ", ".join(map(str, (channels, *sides)))
            columns_last = partial(_last_of_columns, channels=channels, sides=sides)
            yield f"flatten [{name}] with channels last, as JAX does", with_(weight=columns_last)
        if many and channels * math.prod(sides) == rows:
            turn = partial(_last_of_rows, channels=channels, sides=sides)
            others = {"weight": turn} | ({} if number(call, "bias", None) is None else {"bias": turn})
            yield f"unflatten with channels last, as JAX does, and move the {channels} channels first", with_(**others)


def _last_of_columns(weight: torch.Tensor, channels: int, sides: list[int]) -> torch.Tensor:
    return weight.reshape(-1, *sides, channels).movedim(-1, 1).reshape(weight.shape)


def _last_of_rows(rows: torch.Tensor, channels: int, sides: list[int]) -> torch.Tensor:
    turned = rows.reshape(*sides, channels, *rows.shape[1:])
    return turned.movedim(len(sides), 0).reshape(rows.shape)


def unflatten(call: Call, around: Around) -> Iterator[Way]:
    """The order in which a map becomes a vector, or a vector a map."""
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


def heads(call: Call, around: Around) -> Iterator[Way]:
    """Heads and depth in another order."""
    rows, columns = call.given["weight"].shape
    for count in _counts(rows):
        turn = partial(_regroup, count=count)
        others = {"weight": turn} | ({} if number(call, "bias", None) is None else {"bias": turn})
        yield f"order its {rows} outputs by depth first and its {count} heads second", with_(**others)
    for count in _counts(columns):
        turn = partial(_regroup, count=count)
        yield (
            f"order its {columns} inputs by depth first and its {count} heads second",
            with_(weight=partial(_across, turn=turn)),
        )


def _across(weight: torch.Tensor, turn: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    return turn(weight.T).T


def _counts(width: int) -> list[int]:
    return [count for count in range(2, 33) if width % count == 0 and width // count > 1]


def _regroup(rows: torch.Tensor, count: int) -> torch.Tensor:
    return rows.reshape(count, -1, *rows.shape[1:]).transpose(0, 1).reshape(rows.shape)


def _with_weight(function: Any, call: Call, weight: torch.Tensor) -> Any:
    return call.run(function, weight=weight)


def bias(call: Call, around: Around) -> Iterator[Way]:
    """A bias that the other side does not have."""
    if number(call, "bias", None) is not None:
        yield "leave out the bias", with_(bias=None)


def exchanged(call: Call, around: Around) -> Iterator[Way]:
    """Another parameter of the same shape."""
    weight = call.given["weight"]
    for name, other in around.weights:
        if other is not weight and other.shape == weight.shape:
            yield f"take {name} for its weight", partial(_with_weight, weight=other)


def eps(call: Call, around: Around) -> Iterator[Way]:
    """What is added to a variance."""
    own = number(call, "eps", 1e-5)
    for value in (1e-6, 1e-5, 1e-3, 1e-8, 1e-12, 1e-7, 1e-4, 0.0):
        if value != own:
            yield f"eps of {value:g} in place of {own if own is None else format(own, 'g')}", with_(eps=value)


def axes(call: Call, around: Around) -> Iterator[Way]:
    """What a norm is taken over."""
    x = call.given["input"]
    if call.function == "group_norm":
        own, channels = call.given["num_groups"], x.shape[1]
        for groups in (g for g in range(1, channels + 1) if channels % g == 0 and g != own):
            yield f"{groups} groups in place of {own}", with_(num_groups=groups)
    elif call.function == "layer_norm" and x.ndim > 2:
        eps, affine = number(call, "eps", 1e-5), [number(call, name, None) for name in ("weight", "bias")]
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


def statistics(call: Call, around: Around) -> Iterator[Way]:
    """Batch norm in the other mode."""
    training = bool(number(call, "training", False))
    if number(call, "running_mean", None) is not None:
        what = "the running statistics" if training else "the batch's own statistics"
        yield f"normalise by {what}", with_(training=not training)


def momentum(call: Call, around: Around) -> Iterator[Way]:
    """How much of the old statistics is kept."""
    own = number(call, "momentum", 0.1)
    if own is None:
        return
    for momentum in dict.fromkeys((1 - own, 0.1, 0.01, 0.001, 0.99, 0.9)):
        if momentum != own:
            kept = f"JAX keeps {1 - momentum:g} of the old statistics, PyTorch adds {own:g} of the new"
            yield f"momentum of {momentum:g} in place of {own:g}: {kept}", with_(momentum=momentum)


def unbiased_running(call: Call, around: Around) -> Iterator[Way]:
    """The variance that is kept, over n or n − 1."""
    if number(call, "running_var", None) is not None:
        yield "keep the biased variance: PyTorch stores n/(n − 1) times it", _biased_running


def _biased_running(function: Any, call: Call) -> Any:
    x, momentum, running = call.given["input"], call.given["momentum"], call.given["running_var"]
    old = running.clone()
    y = call.run(function)
    with torch.no_grad():
        axes = [axis for axis in range(x.ndim) if axis != 1]
        running.data.copy_((1 - momentum) * old + momentum * x.detach().var(axes, correction=0))
    return y
