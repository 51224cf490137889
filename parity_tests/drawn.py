"""Specs drawn by hypothesis: shapes, layers, losses and optimisers that nobody thought of writing down.

Left out are only nets in which a true gradient is 0 while its terms are not. There both twins return rounding alone,
which no relative measure can compare, and which Adam blows up into full steps. Each case is named where it is avoided.
"""

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from jaxtyping import Float32

from ae_core.spec import (
    SGD,
    Adam,
    AdamW,
    BatchNorm,
    BernoulliLikelihood,
    ConvBackbone,
    DenseBackbone,
    GaussianBottleneck,
    GaussianLikelihood,
    GroupNorm,
    LayerNorm,
    Norm,
    PlainBottleneck,
    Schedule,
    Spec,
    Training,
)
from ae_core.spec.geometry import code_shape
from parity_tests.cases import images_of

FEW = 4
"""Fewer units than this may well be dead all at once."""

Draw = Any
"""Hypothesis's function that draws from a strategy; its own protocol cannot be checked at run time."""

SIDE = 27
"""The longest side of a drawn image: three strides of 3."""

FEWEST = 3
"""Numbers that a normalisation takes the mean of, at least. One number becomes 0 and two become ±1, whatever they were:
their true gradient is 0, but for eps."""


class Drawn(NamedTuple):
    """A spec, and how many images it is trained on."""

    spec: Spec
    number: int

    @property
    def images(self) -> Float32[np.ndarray, "N H W C"]:
        """Random images, as for the table of cases, but for its black one.

        A normalisation of nothing but zeros has, as said of eps, a gradient that is mostly rounding.
        """
        return images_of(self.spec, count=self.number + 1)[1:]


_eps = st.sampled_from([1e-4, 1e-3, 1e-2])
"""Where units are dead and all is 0, gradients grow by 1/√eps with each normalisation that they go through, and their
rounding with them: three in a row with 1e-5 take 3e7 of the limit's room."""


def _number(low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers of four digits, spread evenly over the orders of magnitude."""
    return st.floats(math.log10(low), math.log10(high)).map(lambda x: float(f"{10**x:.3e}"))


_activations = st.sampled_from(["relu", "leaky_relu", "silu", "gelu_erf", "gelu_tanh"])
_slopes = st.sampled_from([0.01, 0.2, 0.5])


@st.composite
def _norms(draw: Draw, widths: tuple[int, ...], inputs: int, positions: int) -> Norm | None:
    """Draw a normalisation for blocks of these widths, the smallest of which has so many positions.

    ``inputs`` is the smallest number of values that a block's output is a sum over. A product with a single weight is a
    change of scale, which a normalisation takes away again: that weight, or all that lies before it, has gradient 0.
    """
    kind = draw(st.sampled_from([None, "batch", "group", "layer"]))
    if inputs < 2:
        return None
    if kind == "batch":
        return BatchNorm(draw(_eps), draw(st.sampled_from([0.01, 0.1, 0.5, 1.0])))
    if kind == "group":
        common = math.gcd(*widths)
        fitting = [n for n in range(1, common + 1) if common % n == 0 and min(widths) // n * positions >= FEWEST]
        return GroupNorm(draw(st.sampled_from(fitting)), draw(_eps)) if fitting else None
    if kind == "layer" and min(widths) >= FEWEST:
        return LayerNorm(draw(_eps))
    return None


@st.composite
def _dense(draw: Draw, latent: int) -> tuple[DenseBackbone, tuple[int, int, int]]:
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 3))
    hidden = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 6, 8, 12]), max_size=3)))
    norm = draw(_norms(hidden, min(*hidden, latent, math.prod(shape)), 1)) if hidden else None
    return DenseBackbone(hidden, draw(_activations), draw(_slopes), norm), shape


@st.composite
def _conv(draw: Draw) -> tuple[ConvBackbone, tuple[int, int, int]]:
    depth = draw(st.integers(1, 3))
    strides = tuple(draw(st.lists(st.integers(1, 3), min_size=depth, max_size=depth)))
    # the sides are multiples of all strides together
    total = math.prod(strides)
    sides = st.integers(1, min(SIDE // total, 4)).map(lambda n: n * total)
    shape = draw(sides), draw(sides), draw(st.integers(1, 3))
    channels = tuple(draw(st.lists(st.integers(1, 6), min_size=depth, max_size=depth)))
    padding = draw(st.sampled_from(["same", "torch"]))
    kernel = draw(st.sampled_from([1, 3, 5] if padding == "torch" else [1, 2, 3, 4, 5]))
    positions = shape[0] * shape[1] // total**2
    norm = draw(_norms(channels, min(*channels, shape[2] * kernel**2), positions))
    # a decoder whose first block works on single pixels turns the bias before it into a constant of each channel,
    # which batch norm takes away again
    if isinstance(norm, BatchNorm) and positions * strides[-1] ** 2 == 1:
        norm = None
    return ConvBackbone(channels, strides, kernel, padding, draw(_activations), draw(_slopes), norm), shape


@st.composite
def _training(draw: Draw, batch: int) -> Training:
    rate, eps = draw(_number(1e-4, 1e-2)), draw(_number(1e-8, 1e-3))
    b1, b2 = draw(st.sampled_from([0.0, 0.5, 0.9])), draw(st.sampled_from([0.9, 0.999]))
    optimizer = draw(
        st.sampled_from(
            [
                Adam(rate, b1, b2, eps),
                AdamW(rate, b1, b2, eps, draw(st.sampled_from([0.0, 0.01, 0.3]))),
                SGD(rate, draw(st.sampled_from([0.0, 0.5, 0.9]))),
            ]
        )
    )
    schedule = Schedule(draw(st.sampled_from(["constant", "cosine"])), draw(st.integers(0, 4)), draw(st.floats(0, 1)))
    clip = draw(st.none() | _number(1e-2, 1e2))
    return Training(optimizer, schedule, clip, batch, draw(st.integers(1, 4)), "float64")


@st.composite
def drawn_specs(draw: Draw) -> Drawn:
    """Draw a whole spec and a number of images, of which the last batch is often shorter."""
    latent = draw(st.integers(1, 4))
    backbone, shape = draw(_dense(latent) | _conv())
    bottleneck = draw(st.sampled_from([PlainBottleneck(latent), GaussianBottleneck(latent, draw(_number(1e-2, 10.0)))]))
    # features that are all dead leave a KL of about 0, and of 1 + logvar − mean² − exp(logvar) rounding alone
    widths = backbone.hidden if isinstance(backbone, DenseBackbone) else backbone.channels
    if backbone.activation == "relu" and bottleneck.kind == "gaussian" and min(widths, default=FEW) < FEW:
        backbone = replace(backbone, activation="leaky_relu")
    reduction, weight = draw(st.sampled_from(["mean", "sum"])), draw(_number(0.1, 10.0))
    likelihood = draw(
        st.sampled_from(
            [
                BernoulliLikelihood(reduction, weight),
                GaussianLikelihood(draw(_number(0.05, 2.0)), reduction, weight),
            ]
        )
    )
    # batch norm has as many numbers as a batch has images, times positions
    least = 1
    if isinstance(backbone.norm, BatchNorm):
        height, width = code_shape(backbone, shape)[:2] if isinstance(backbone, ConvBackbone) else (1, 1)
        least = -(-FEWEST // (height * width))
    last, batch = draw(st.integers(least, least + 3)), draw(st.integers(least, least + 6))
    count = batch * draw(st.integers(0, 2)) + min(last, batch)
    initializer = draw(st.sampled_from(["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_normal"]))
    return Drawn(Spec(shape, backbone, bottleneck, likelihood, initializer, draw(_training(batch))), count)
