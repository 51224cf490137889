"""The work that a step cannot do without, counted from the model, whoever does it and however.

A compiler's own count charges what an implementation happens to do; this one charges the model. Its products are
counted, two operations a multiplication (`ae_jax.execution.counts`); element-wise work is not, and moves memory
instead.
"""

import math
from typing import TYPE_CHECKING

from ae_core.spec import Spec
from ae_core.spec.plugins import load_plugins

if TYPE_CHECKING:
    from ae_jax.execution.counts import Counts, Product

_TRAINING = ("train", "many", "quality")
"""Phases that are steps of a training; the others are inference."""
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

    Training is forward, and backward the gradient of every operand that depends on parameters: three times the forward
    pass, without once what multiplies the image itself.
    """
    products, training = _products(spec, phase), phase in _TRAINING
    return 2 * sum(p.multiplications * (1 + p.gradients if training else 1) for p in products)


def bytes_moved(spec: Spec, phase: str, batch: int) -> int:
    """Return bytes that a step of ``batch`` float32 images has to move where no activation stays in a cache.

    Every product's outputs are written and read once forward; training adds a second reading and a gradient. With fused
    element-wise work and nothing kept back, so a lower bound for an engine that goes through memory layer by layer.
    """
    products, training = _products(spec, phase), phase in _TRAINING
    read = _counts(spec).code if phase == "decode" else math.prod(spec.input_shape)
    outputs, weights = (sum(p.outputs for p in products), sum(p.weights for p in products))
    per_image = read + outputs * (_FORWARD + (_BACKWARD if training else 0))
    per_step = weights * (_TRAINING_WEIGHT if training else _INFERENCE_WEIGHT)
    return NUMBER * (batch * per_image + per_step)


def _products(spec: Spec, phase: str) -> "tuple[Product, ...]":
    counts = _counts(spec)
    return {"encode": counts.encode, "decode": counts.decode}.get(phase, counts.products)


def _counts(spec: Spec) -> "Counts":
    from ae_jax.execution.counts import count  # late: a race's own process is to stay free of frameworks

    load_plugins((), "jax")
    return count(spec)
