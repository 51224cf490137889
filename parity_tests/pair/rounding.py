"""The one trap that shows in float32 alone: a variance computed as E[x²] − E[x]², as Flax's norms do by default."""

from typing import Any

import numpy as np
import torch

from parity_tests.check import normwise
from parity_tests.pair.both import FACTOR, FLOOR, Both, Layer
from parity_tests.pair.calls import Call
from parity_tests.pair.search import Finding, named_outputs


def fast_variance(both: Both, layers: list[Layer]) -> Finding | None:
    """Return the trap where PyTorch in float32, computing so too, comes as far from its own float64 run as JAX is."""
    first = next((a for a in layers if a.jax_rounding > FACTOR * max(a.torch_rounding, FLOOR)), None)
    if first is None:
        return None
    right = both.values()[first.name]
    for call in both.torch32.forward({}, keep=True)[3]:
        if call.function not in ("layer_norm", "group_norm"):
            continue
        outputs, taps, _, _ = both.torch32.forward({call.number: _fast})
        found = (taps | named_outputs(outputs))[first.name]
        if FACTOR * normwise(found.astype(np.float64), right) >= first.jax_rounding:
            mend = "use_fast_variance=False in Flax: E[x²] − E[x]² rounds off what is left where the mean is large"
            return Finding(
                "fast variance", (first.name,), f"{call.function} in {call.module or 'the model itself'}", mend
            )
    return None


def _fast(function: Any, call: Call) -> torch.Tensor:
    x = call.given["input"]
    if call.function == "layer_norm":
        grouped, axes = x, tuple(range(x.ndim - len(call.given["normalized_shape"]), x.ndim))
    else:
        grouped, axes = x.reshape(len(x), call.given["num_groups"], -1), (2,)
    mean = grouped.mean(axes, keepdim=True)
    variance = ((grouped**2).mean(axes, keepdim=True) - mean**2).clamp(min=0)
    y = ((grouped - mean) / torch.sqrt(variance + call.given.get("eps", 1e-5))).reshape(x.shape)
    weight, bias = call.given.get("weight"), call.given.get("bias")
    if call.function == "group_norm":
        weight, bias = (None if t is None else t.reshape(-1, *[1] * (x.ndim - 2)) for t in (weight, bias))
    y = y if weight is None else y * weight
    return y if bias is None else y + bias
