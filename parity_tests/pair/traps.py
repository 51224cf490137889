"""The traps between the frameworks: for each call of a PyTorch function, what else the other side may have meant.

A row of the table names the trap, the functions that it may lie in, and the ways in which such a call can be run
instead. Each way is tried on the pair before anything is said.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from parity_tests.pair import function_traps, layer_traps
from parity_tests.pair.calls import Around, Call, Mend, Way

_CONV = ("conv1d", "conv2d", "conv3d")
_DECONV = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
_NORMS = ("layer_norm", "group_norm", "batch_norm", "instance_norm", "rms_norm")
_ACTIVATION = ("relu", "silu", "gelu", "tanh", "sigmoid", "elu", "softplus", "leaky_relu", "relu6", "hardswish")
_PRODUCTS = ("mul", "div", "true_divide", "__mul__", "__rmul__", "__truediv__", "__rtruediv__", "multiply", "divide")

TRAPS: tuple[tuple[str, tuple[str, ...], Callable[[Call, Around], Iterator[Way]]], ...] = (
    ("narrow type", ("float", "to", "type", "half", "bfloat16"), function_traps.narrow),
    ("dropout", ("dropout",), function_traps.dropout),
    ("eps", _NORMS, layer_traps.eps),
    ("GELU form", ("gelu",), function_traps.gelu),
    ("slope", ("leaky_relu", "elu"), function_traps.slope),
    ("unbiased variance", ("var", "std"), function_traps.correction),
    ("padding", _CONV, layer_traps.padding),
    ("padding of a transposed convolution", _DECONV, layer_traps.crop),
    ("flip", (*_CONV, *_DECONV), layer_traps.flip),
    ("flatten order", ("linear",), layer_traps.flatten),
    ("flatten order", ("flatten", "reshape", "view", "unflatten"), layer_traps.unflatten),
    ("transposed weight", ("linear",), layer_traps.transposed),
    ("normalised axes", _NORMS, layer_traps.axes),
    ("running statistics", ("batch_norm",), layer_traps.statistics),
    ("axis", ("softmax", "log_softmax"), function_traps.dim),
    ("resize", ("interpolate",), function_traps.resize),
    ("pooling", ("max_pool2d", "avg_pool2d"), function_traps.pool),
    ("scale of attention", ("scaled_dot_product_attention",), function_traps.scale),
    ("constant", _PRODUCTS, function_traps.constant),
    ("order of heads", ("linear",), layer_traps.heads),
    ("exchanged weights", (*_CONV, *_DECONV, "linear"), layer_traps.exchanged),
    ("bias", (*_CONV, *_DECONV, "linear"), layer_traps.bias),
    ("order", ("cat",), function_traps.order),
    ("reduction", ("mean", "sum"), function_traps.reduced),
    ("activation", _ACTIVATION, function_traps.activation),
)
"""Rows that change a forward pass; the more common a trap, the sooner it is tried."""

STATE_TRAPS: tuple[tuple[str, tuple[str, ...], Callable[[Call, Around], Iterator[Way]]], ...] = (
    ("momentum", ("batch_norm",), layer_traps.momentum),
    ("unbiased variance", ("batch_norm",), layer_traps.unbiased_running),
)
"""Rows that change no output in training mode, only what is kept."""

GRADIENT_TRAPS: tuple[tuple[str, tuple[str, ...], Callable[[Call, Around], Iterator[Way]]], ...] = (
    ("stopped gradient", ("detach",), function_traps.detached),
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
