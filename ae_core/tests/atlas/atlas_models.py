"""Models whose every tensor matters, and atlases of them, for tests."""

from dataclasses import replace

import numpy as np

from ae_core import atlas
from ae_core.commands import cli
from ae_core.rng import normal
from ae_core.spec import (
    BatchNorm,
    ConvBackbone,
    DenseBackbone,
    GaussianBottleneck,
    GaussianLikelihood,
    GroupNorm,
    LayerNorm,
    PlainBottleneck,
    Spec,
)


def float64(spec):
    """Return the spec in float64."""
    return replace(spec, training=replace(spec.training, precision="float64"))


def tensors_of(spec, scale=1.0):
    """Return weights of which none is 0 or 1: a forgotten one would show."""
    shapes = cli.load_engine("torch").shapes(spec)
    drawn = {name: scale * normal(shape, 3, name) / max(shape[-1:] or (1,)) ** 0.5 for name, shape in shapes.items()}
    positive = {name: np.abs(t) + 0.3 for name, t in drawn.items() if name.endswith("running_var")}
    return {name: t.astype(spec.training.precision) for name, t in (drawn | positive).items()}


DENSE = Spec((6, 5, 1), DenseBackbone((7, 4)), PlainBottleneck(3))
CONV = Spec((8, 12, 1), ConvBackbone((4, 6), (2, 1)), PlainBottleneck(2))
DECODERS = {
    "dense": DENSE,
    "linear": replace(DENSE, backbone=DenseBackbone(()), likelihood=GaussianLikelihood()),
    "dense, batch norm": replace(DENSE, backbone=DenseBackbone((7, 4), "silu", norm=BatchNorm())),
    "dense, group norm": replace(DENSE, backbone=DenseBackbone((8, 4), "gelu_tanh", norm=GroupNorm(2))),
    "dense, layer norm": replace(DENSE, backbone=DenseBackbone((7, 4), "gelu_erf", norm=LayerNorm())),
    "colour": replace(DENSE, input_shape=(4, 3, 3), bottleneck=GaussianBottleneck(1)),
    "conv": CONV,
    "conv, padding of torch": replace(CONV, backbone=ConvBackbone((4, 6), (2, 2), 5, "torch", "leaky_relu", 0.2)),
    "conv, even kernel": replace(CONV, backbone=ConvBackbone((4, 6), (2, 2), 4)),
    "conv, kernel 1": replace(CONV, backbone=ConvBackbone((4,), (2,), 1), input_shape=(8, 12, 3)),
    "conv, kernel below the stride": replace(CONV, backbone=ConvBackbone((4,), (4,), 2)),
    "conv, batch norm": replace(CONV, backbone=ConvBackbone((4, 6), (2, 2), norm=BatchNorm(1e-3))),
    "conv, group norm": replace(CONV, backbone=ConvBackbone((4, 6), (2, 2), norm=GroupNorm(2))),
    "conv, layer norm": replace(CONV, backbone=ConvBackbone((4, 6), (2, 2), norm=LayerNorm())),
}


def made(spec, data, tensors=None, **options):
    """Return an atlas, and the model that it is of."""
    tensors = tensors_of(spec) if tensors is None else tensors
    model = cli.load_engine("torch").infer(spec, tensors)
    return atlas.make_content(spec, tensors, model, data, **({"most": 50} | options)), model


SMALL = Spec((8, 8, 1), DenseBackbone((6,)), PlainBottleneck(2))
WIDE = replace(SMALL, bottleneck=GaussianBottleneck(5))
