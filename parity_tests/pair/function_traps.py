"""What else a function without weights may mean: activations, pooling, sums. Each yields ways to run a call."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from parity_tests.pair.calls import Around, Call, Way, instead, number, sides_of, with_


def gelu(call: Call, around: Around) -> Iterator[Way]:
    """The tanh form beside the erf form."""
    if number(call, "approximate", "none") == "none":
        yield 'approximate="tanh": the default of jax.nn.gelu and flax.linen.gelu', with_(approximate="tanh")
    else:
        yield 'approximate="none": JAX computes erf', with_(approximate="none")
    yield "x·sigmoid(1.702 x), the quick form", instead(lambda x: x * torch.sigmoid(1.702 * x))


def slope(call: Call, around: Around) -> Iterator[Way]:
    """Where the slope below 0 has other defaults."""
    name, default = ("alpha", 1.0) if call.function == "elu" else ("negative_slope", 0.01)
    own = number(call, name, default)
    for slope in (0.01, 0.2, 0.1, 0.3, 0.05, 1.0):
        if slope != own:
            yield f"{name} of {slope:g} in place of {own:g}", with_(**{name: slope})


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


def activation(call: Call, around: Around) -> Iterator[Way]:
    """Another activation."""
    for name, function in ACTIVATIONS.items():
        if name.partition(",")[0] != call.function:
            yield f"{name} in place of {call.function}", instead(function)


def correction(call: Call, around: Around) -> Iterator[Way]:
    """Variances over n or n − 1."""
    yield "divide by n: PyTorch divides by n − 1 unless told, jnp by n", partial(_corrected, correction=0)
    yield "divide by n − 1", partial(_corrected, correction=1)


def _corrected(function: Any, call: Call, correction: int) -> Any:
    given = {key: value for key, value in call.given.items() if key not in ("unbiased", "correction")}
    if isinstance(given.get("dim"), bool):
        del given["dim"]
    return call._replace(given=given).run(function, correction=correction)


def dim(call: Call, around: Around) -> Iterator[Way]:
    """Another axis."""
    x, own = call.given["input"], number(call, "dim", None)
    for dim in range(x.ndim):
        if own is None or dim != own % x.ndim:
            yield f"over axis {dim} in place of {own}", with_(dim=dim)


def dropout(call: Call, around: Around) -> Iterator[Way]:
    """Dropout that is still on."""
    if number(call, "training", True):
        yield "no dropout: put the module in evaluation mode", lambda function, call: call.given["input"]


def resize(call: Call, around: Around) -> Iterator[Way]:
    """How an image is resized."""
    own = number(call, "mode", "nearest"), bool(number(call, "align_corners", None))
    for mode in ("bilinear", "nearest", "nearest-exact", "bicubic"):
        corners: tuple[bool | None, ...] = (False, True) if mode.startswith("bi") else (None,)
        for corner in corners:
            for antialias in (False, True) if mode.startswith("bi") else (False,):
                if (mode, bool(corner)) != own or antialias:
                    also = ", align_corners" if corner else ""
                    smooth = ", antialias" if antialias else ""
                    yield (
                        f"mode {mode}{also}{smooth} in place of {own[0]}{', align_corners' if own[1] else ''}",
                        with_(mode=mode, align_corners=corner, antialias=antialias),
                    )


def pool(call: Call, around: Around) -> Iterator[Way]:
    """How windows at the border are pooled, and by what."""
    x, kernel = call.given["input"], call.given["kernel_size"]
    size = sides_of(kernel, 2)
    stride = sides_of(number(call, "stride", None) or kernel, 2)
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
        counted = bool(number(call, "count_include_pad", True))
        yield f"count_include_pad={not counted}", with_(count_include_pad=not counted)
    other = F.avg_pool2d if highest else F.max_pool2d
    keys = ("input", "kernel_size", "stride", "padding")
    name = "average" if highest else "maximum"
    yield (
        f"the {name} of each window",
        lambda function, call: other(**{k: call.given[k] for k in keys if k in call.given}),
    )


def scale(call: Call, around: Around) -> Iterator[Way]:
    """What attention's scores are multiplied by."""
    depth = call.given["query"].shape[-1]
    for label, scale in {"no scale": 1.0, "a scale of 1/depth": 1 / depth, "a scale of 1/√depth": depth**-0.5}.items():
        yield f"{label} of the scores", with_(scale=scale)


def constant(call: Call, around: Around) -> Iterator[Way]:
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
            yield (
                f"the constant {value:.6g} ({label}) in place of {own:.6g}",
                partial(_with_constant, where=where, value=value),
            )


def _with_constant(function: Any, call: Call, where: Any, value: float) -> Any:
    return call._replace(given=call.given | {where: value}).run(function)


def narrow(call: Call, around: Around) -> Iterator[Way]:
    """A conversion to a type that holds less."""
    tensors = [value for value in call.given.values() if isinstance(value, torch.Tensor)]
    if tensors and tensors[0].dtype == torch.float64:
        yield "no conversion: PyTorch computes in a narrower type here", instead(lambda x: x)


def order(call: Call, around: Around) -> Iterator[Way]:
    """What is joined comes in another order."""
    tensors = call.given["tensors"]
    if len(tensors) == 2:
        yield "join in the other order", with_(tensors=lambda tensors: tuple(reversed(tensors)))


def reduced(call: Call, around: Around) -> Iterator[Way]:
    """A mean beside a sum."""
    other = torch.sum if call.function == "mean" else torch.mean
    yield f"{other.__name__} in place of {call.function}", lambda function, call: call.run(other)


def detached(call: Call, around: Around) -> Iterator[Way]:
    """A gradient that PyTorch stops."""
    yield "let the gradient through: PyTorch detaches here", instead(lambda x: x)
