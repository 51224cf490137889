"""What one image costs: multiplications and outputs of every layer, counted from a spec's geometry."""

import math
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from ae_core.spec import ConvBackbone, DenseBackbone, GaussianBottleneck, Spec
from ae_core.spec.geometry import code_shape


class LayerCost(NamedTuple):
    """Of one layer, for one image forward."""

    weights: int
    """Numbers in its matrix or kernel."""
    multiplications: int
    """Of inputs by weights: none for padding, nor for the zeros that a transposed convolution is often drawn with."""
    outputs: int
    """Numbers that come out."""


@lru_cache(maxsize=64)
def layer_costs(spec: Spec) -> Mapping[str, LayerCost]:
    """Return the cost of every linear layer and convolution under its name in the weights file, in forward order.

    A convolution multiplies each weight at each position of its smaller side; what padding saves at borders is not
    taken off. Element-wise work is not counted.
    """
    backbone = spec.backbone
    return _conv(spec, backbone) if isinstance(backbone, ConvBackbone) else _dense(spec, backbone)


def _linear(inputs: int, outputs: int) -> LayerCost:
    return LayerCost(inputs * outputs, inputs * outputs, outputs)


def _bottleneck(spec: Spec, features: int) -> dict[str, LayerCost]:
    names = ("mean", "logvar") if isinstance(spec.bottleneck, GaussianBottleneck) else ("code",)
    return {f"encoder.bottleneck.{name}": _linear(features, spec.bottleneck.latent) for name in names}


def _dense(spec: Spec, backbone: DenseBackbone) -> dict[str, LayerCost]:
    down = (math.prod(spec.input_shape), *backbone.hidden)
    up = (spec.bottleneck.latent, *reversed(backbone.hidden))
    costs = {f"encoder.blocks.{i}.linear": _linear(*pair) for i, pair in enumerate(pairwise(down))}
    costs |= _bottleneck(spec, down[-1])
    costs |= {f"decoder.blocks.{i}.linear": _linear(*pair) for i, pair in enumerate(pairwise(up))}
    return costs | {"decoder.output": _linear(up[-1], down[0])}


def _conv(spec: Spec, backbone: ConvBackbone) -> dict[str, LayerCost]:
    height, width, channels = spec.input_shape
    taps, costs = backbone.kernel**2, {}
    for i, (inputs, outputs) in enumerate(pairwise((channels, *backbone.channels))):
        height, width = height // backbone.strides[i], width // backbone.strides[i]
        weights = taps * inputs * outputs
        costs[f"encoder.blocks.{i}.conv"] = LayerCost(weights, weights * height * width, outputs * height * width)
    features = math.prod(code_shape(backbone, spec.input_shape))
    costs |= _bottleneck(spec, features)
    costs["decoder.inner"] = _linear(spec.bottleneck.latent, features)
    up = (backbone.channels[-1], *reversed(backbone.channels))
    for i, (inputs, outputs) in enumerate(pairwise(up)):
        weights, positions = taps * inputs * outputs, height * width
        height, width = height * backbone.strides[-1 - i], width * backbone.strides[-1 - i]
        costs[f"decoder.blocks.{i}.conv"] = LayerCost(weights, weights * positions, outputs * height * width)
    weights = taps * up[-1] * channels
    costs["decoder.output"] = LayerCost(weights, weights * height * width, channels * height * width)
    return costs
