"""The work that a step cannot do without, counted from the spec's geometry, whoever does it and however.

A compiler's own count charges what an implementation happens to do; this one charges the model. Products of inputs by
weights are counted, two operations each (`ae_core.spec.cost`); element-wise work is not, and moves memory instead.
"""

import math

from ae_core.spec import Spec
from ae_core.spec.cost import layer_costs

NUMBER = 4
"""Bytes of a float32."""
_FORWARD = 2
"""Times an activation is moved forward: written by its layer, read by the next."""
_BACKWARD = 3
"""Times more in training: read again for the weight's gradient, and its own gradient written and read."""
_INFERENCE_WEIGHT = 1
_TRAINING_WEIGHT = 10
"""Times a weight is moved in a training step: read forward and backward; gradient written and read; weight and two
moments of Adam read and written."""


def operations(spec: Spec, phase: str) -> int:
    """Return floating-point operations an image, in products alone.

    Training is forward, the gradient of every weight, and that of every layer's input but the first's: three times
    the forward pass without the first layer once.
    """
    layers = layer_costs(spec)
    if phase in ("train", "many", "quality"):
        first = next(iter(layers.values())).multiplications
        return 2 * (3 * sum(layer.multiplications for layer in layers.values()) - first)
    return 2 * sum(layer.multiplications for name, layer in layers.items() if _in(name, phase))


def bytes_moved(spec: Spec, phase: str, batch: int) -> int:
    """Return bytes that a step of ``batch`` float32 images has to move where no activation stays in a cache.

    Every layer's outputs are written and read once forward; training adds a second reading and a gradient. With fused
    element-wise work and nothing kept back, so a lower bound for an engine that goes through memory layer by layer.
    """
    layers = {n: layer for n, layer in layer_costs(spec).items() if phase == "reconstruct" or _in(n, phase)}
    training = phase in ("train", "many", "quality")
    outputs = sum(layer.outputs for layer in layers.values())
    read = spec.bottleneck.latent if phase == "decode" else math.prod(spec.input_shape)
    weights = sum(layer.weights for layer in layers.values())
    per_image = read + outputs * (_FORWARD + (_BACKWARD if training else 0))
    per_step = weights * (_TRAINING_WEIGHT if training else _INFERENCE_WEIGHT)
    return NUMBER * (batch * per_image + per_step)


def _in(layer: str, phase: str) -> bool:
    half = {"encode": "encoder.", "decode": "decoder."}.get(phase, "")
    return layer.startswith(half)
