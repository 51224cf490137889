"""Specs drawn by hypothesis: shapes, layers, losses and optimisers that nobody thought of writing down.

Each family has a tuple of strategies, one a kind: a new kind is one more of them.

Left out are only nets in which a true gradient is 0 while its terms are not. There both twins return rounding alone,
which no relative measure can compare, and which Adam blows up into full steps. Each case is named where it is avoided.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import numpy as np
from hypothesis import strategies as st
from jaxtyping import Float32

from ae_core.spec import (
    SGD,
    Activation,
    Adam,
    AdamW,
    Backbone,
    BatchNorm,
    BernoulliLikelihood,
    Bottleneck,
    Constant,
    ConvBackbone,
    Corruption,
    Cosine,
    DenseBackbone,
    GaussianBottleneck,
    GaussianLikelihood,
    GroupNorm,
    Initializer,
    LayerNorm,
    Likelihood,
    Norm,
    Optimizer,
    Penalty,
    PlainBottleneck,
    Reduction,
    ResidualBackbone,
    Schedule,
    Spec,
    Training,
    components_of,
)
from ae_core.spec.bottleneck import SigmoidBottleneck, TopKBottleneck
from ae_core.spec.corruption import GaussianNoise, MaskingNoise, SaltAndPepper
from ae_core.spec.penalty import L1, Contractive, SparseKL
from ae_core.spec.schedule import Cyclical, Ramp
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


def _number(low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers of four digits, spread evenly over the orders of magnitude."""
    return st.floats(math.log10(low), math.log10(high)).map(lambda x: float(f"{10**x:.3e}"))


# Schedules, and numbers that may be one

SCHEDULES: tuple[st.SearchStrategy[Schedule], ...] = (
    st.builds(Constant, st.integers(0, 4)),
    st.builds(Cosine, st.integers(0, 4), _number(1e-2, 1.0)),
    st.builds(Ramp, _number(1e-2, 1.0), _number(1e-2, 1.0), st.integers(1, 9)),
    st.builds(Cyclical, _number(1e-1, 1.0), st.integers(1, 3), st.floats(0.2, 1.0)),
)


def _weights(low: float, high: float) -> st.SearchStrategy[float | Schedule]:
    return _number(low, high) | st.one_of(*SCHEDULES)


# Normalisations

_eps = st.sampled_from([1e-4, 1e-3, 1e-2])
"""Where units are dead and all is 0, gradients grow by 1/√eps with each normalisation that they go through, and their
rounding with them: three in a row with 1e-5 take 3e7 of the limit's room."""


class Blocks(NamedTuple):
    """What a normalisation comes after."""

    widths: tuple[int, ...]
    positions: int
    """Of the smallest block."""
    last_positions: int
    """Of the decoder's first block, after its transposed convolution."""


def _batch_norms(blocks: Blocks) -> st.SearchStrategy[Norm | None]:
    # a decoder whose first block works on single pixels turns the bias before it into a constant of each channel,
    # which batch norm takes away again; in a dense one the code has no bias
    if blocks.last_positions == 1:
        return st.none()
    return st.builds(BatchNorm, _eps, st.sampled_from([0.01, 0.1, 0.5, 1.0]))


def _group_norms(blocks: Blocks) -> st.SearchStrategy[Norm | None]:
    common, least = math.gcd(*blocks.widths), min(blocks.widths)
    fitting = [n for n in range(1, common + 1) if common % n == 0 and least // n * blocks.positions >= FEWEST]
    return st.builds(GroupNorm, st.sampled_from(fitting), _eps) if fitting else st.none()


def _layer_norms(blocks: Blocks) -> st.SearchStrategy[Norm | None]:
    return st.builds(LayerNorm, _eps) if min(blocks.widths) >= FEWEST else st.none()


NORMS: tuple[Callable[[Blocks], st.SearchStrategy[Norm | None]], ...] = (_batch_norms, _group_norms, _layer_norms)


@st.composite
def _norms(draw: Draw, blocks: Blocks, inputs: int) -> Norm | None:
    """Draw a normalisation, or none.

    ``inputs`` is the smallest number of values that a block's output is a sum over. A product with a single weight is a
    change of scale, which a normalisation takes away again: that weight, or all that lies before it, has gradient 0.
    """
    kind = draw(st.sampled_from([None, *NORMS]))
    return draw(kind(blocks)) if kind is not None and inputs >= 2 else None


# Backbones, with images for them

_slopes = st.sampled_from([0.01, 0.2, 0.5])


class Wanted(NamedTuple):
    """What a backbone has to get along with."""

    latent: int
    posterior: bool
    """Of features that are all dead, its KL is about 0, and of 1 + logvar − mean² − exp(logvar) rounding alone."""

    def activations(self, widths: tuple[int, ...]) -> st.SearchStrategy[Activation]:
        """Return those with which features stay alive."""
        dies = self.posterior and min(widths, default=FEW) < FEW
        return st.sampled_from([name for name in get_args(Activation) if not (dies and name == "relu")])

    def dropouts(self, widths: tuple[int, ...]) -> st.SearchStrategy[float]:
        """Return those with which some features are left."""
        return st.just(0.0) | st.floats(0.05, 0.6) if min(widths, default=0) >= FEW else st.just(0.0)


Body = tuple[Backbone, tuple[int, int, int]]


@st.composite
def _dense(draw: Draw, wanted: Wanted) -> Body:
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 3))
    hidden = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 6, 8, 12]), max_size=3)))
    inputs = min(*hidden, wanted.latent, math.prod(shape)) if hidden else 0
    norm = draw(_norms(Blocks(hidden, 1, 2), inputs)) if hidden else None
    dropout = draw(wanted.dropouts(hidden))
    return DenseBackbone(hidden, draw(wanted.activations(hidden)), draw(_slopes), norm, dropout), shape


@st.composite
def _conv(draw: Draw, wanted: Wanted) -> Body:
    padding = draw(st.sampled_from(["same", "torch"]))
    kernel = draw(st.sampled_from(range(1, 9, 2 if padding == "torch" else 1)))
    # one layer alone is cheap at any kernel
    depth = draw(st.integers(1, 3 if kernel <= 5 else 1))
    strides = tuple(draw(st.lists(st.integers(1, 3), min_size=depth, max_size=depth)))
    # the sides are multiples of all strides together
    total = math.prod(strides)
    sides = st.integers(1, min(SIDE // total, 4)).map(lambda n: n * total)
    shape = draw(sides), draw(sides), draw(st.integers(1, 3))
    channels = tuple(draw(st.lists(st.integers(1, 6), min_size=depth, max_size=depth)))
    positions = shape[0] * shape[1] // total**2
    blocks = Blocks(channels, positions, positions * strides[-1] ** 2)
    norm = draw(_norms(blocks, min(*channels, shape[2] * kernel**2)))
    return ConvBackbone(
        channels,
        strides,
        kernel,
        padding,
        draw(wanted.activations(channels)),
        draw(_slopes),
        norm,
        draw(wanted.dropouts(channels)),
    ), shape


@st.composite
def _residual(draw: Draw, wanted: Wanted) -> Body:
    stride = draw(st.integers(1, 2))
    sides = st.integers(2, 3).map(lambda n: n * stride)
    shape = draw(sides), draw(sides), draw(st.integers(1, 2))
    # groups of four channels and more, and four positions: norm upon norm of few numbers leaves mostly rounding
    groups = draw(st.integers(1, 2))
    width = draw(st.sampled_from([4, 6])) * groups
    return ResidualBackbone(
        (width,), (stride,), groups, draw(_eps), *draw(st.tuples(st.booleans(), st.booleans()))
    ), shape


BACKBONES: tuple[Callable[[Wanted], st.SearchStrategy[Body]], ...] = (*(_dense, _conv) * 4, _residual)
"""One of many is residual, for it takes as long to compile as ten others."""

# Codes, losses and optimisers

_latents = st.integers(1, 4)
BOTTLENECKS: tuple[st.SearchStrategy[Bottleneck], ...] = (
    st.builds(PlainBottleneck, _latents),
    st.builds(GaussianBottleneck, _latents, _weights(1e-2, 10.0)),
    st.builds(GaussianBottleneck, _latents, _weights(1e-2, 10.0), _weights(1e-2, 1.0)),
    st.builds(SigmoidBottleneck, _latents),
    _latents.flatmap(lambda latent: st.builds(TopKBottleneck, st.just(latent), st.integers(1, latent))),
)

_losses = {"reduction": st.sampled_from(get_args(Reduction)), "weight": _number(0.1, 10.0)}
LIKELIHOODS: tuple[st.SearchStrategy[Likelihood], ...] = (
    st.builds(BernoulliLikelihood, **_losses),
    st.builds(GaussianLikelihood, variance=_number(0.05, 2.0), **_losses),
)

CORRUPTIONS: tuple[st.SearchStrategy[Corruption], ...] = (
    st.builds(GaussianNoise, _number(1e-2, 1.0)),
    st.builds(MaskingNoise, st.floats(0.05, 0.9)),
    st.builds(SaltAndPepper, st.floats(0.05, 1.0)),
)


def _l1(backbone: Backbone, bottleneck: Bottleneck) -> st.SearchStrategy[Penalty] | None:
    return st.builds(L1, _weights(1e-3, 1.0))


def _sparse_kl(backbone: Backbone, bottleneck: Bottleneck) -> st.SearchStrategy[Penalty] | None:
    return st.builds(SparseKL, _weights(1e-2, 10.0), st.floats(0.02, 0.9)) if bottleneck.has_rates else None


def _contractive(backbone: Backbone, bottleneck: Bottleneck) -> st.SearchStrategy[Penalty] | None:
    # after a normalisation the gradient of a slope is that of a second derivative, which grows by 1/eps
    norms = any(isinstance(component, Norm) for component in components_of(backbone))
    return None if norms else st.builds(Contractive, _weights(1e-3, 1.0))


PENALTIES: tuple[Callable[[Backbone, Bottleneck], st.SearchStrategy[Penalty] | None], ...] = (
    _l1,
    _sparse_kl,
    _contractive,
)
"""None where a penalty has nothing to say of such a model."""

_moments = {
    "learning_rate": _number(1e-4, 1e-2),
    "b1": st.sampled_from([0.0, 0.5, 0.9]),
    "b2": st.sampled_from([0.9, 0.999]),
    "eps": _number(1e-8, 1e-3),
}
OPTIMIZERS: tuple[st.SearchStrategy[Optimizer], ...] = (
    st.builds(Adam, **_moments),
    st.builds(AdamW, **_moments, weight_decay=st.sampled_from([0.0, 0.01, 0.3])),
    st.builds(SGD, _number(1e-4, 1e-2), st.sampled_from([0.0, 0.5, 0.9])),
)


@st.composite
def _training(draw: Draw, batch: int) -> Training:
    optimizer, schedule = draw(st.one_of(*OPTIMIZERS)), draw(st.one_of(*SCHEDULES))
    clip = draw(st.none() | _number(1e-2, 1e2))
    return Training(optimizer, schedule, clip, batch, draw(st.integers(1, 4)), "float64")


@st.composite
def drawn_specs(draw: Draw) -> Drawn:
    """Draw a whole spec and a number of images, of which the last batch is often shorter."""
    bottleneck = draw(st.one_of(*BOTTLENECKS))
    wanted = Wanted(math.prod(bottleneck.latent_shape((1, 1, 1))), bottleneck.has_posterior)
    backbone, shape = draw(draw(st.sampled_from(BACKBONES))(wanted))
    # statistics of a batch are of as many numbers as it has images, times positions
    couples = any(component.couples_samples for component in components_of(backbone))
    least = -(-FEWEST // math.prod(backbone.feature_shape(shape)[:-1])) if couples else 1
    last, batch = draw(st.integers(least, least + 3)), draw(st.integers(least, least + 6))
    count = batch * draw(st.integers(0, 2)) + min(last, batch)
    fitting = [part for kind in PENALTIES if (part := kind(backbone, bottleneck)) is not None]
    penalties = st.lists(st.one_of(*fitting), max_size=2, unique_by=lambda part: part.kind)
    spec = Spec(
        shape,
        backbone,
        bottleneck,
        draw(st.one_of(*LIKELIHOODS)),
        draw(st.sampled_from(get_args(Initializer))),
        draw(_training(batch)),
        draw(st.none() | st.one_of(*CORRUPTIONS)),
        tuple(draw(penalties)),
    )
    return Drawn(spec, count)
