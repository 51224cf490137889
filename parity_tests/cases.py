"""The table of cases: every spec that the suite holds the twins to. A new model adds its tests by adding a row.

Tests go over the whole table; where all rows would take too long they take a property of a spec, as `SMOOTH` does, or
the rows that `covering` chooses. No test has a list of names that a new row could be missing from.
"""

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ae_core.errors import SpecError, nearest
from ae_core.rng import generator
from ae_core.spec import (
    SGD,
    Adam,
    AdamW,
    BatchNorm,
    BernoulliLikelihood,
    Component,
    Constant,
    ConvBackbone,
    Cosine,
    DenseBackbone,
    GaussianBottleneck,
    GaussianLikelihood,
    GroupNorm,
    LayerNorm,
    PlainBottleneck,
    ResidualBackbone,
    Spec,
    Training,
    kinds,
    load_spec,
)
from ae_core.spec.bottleneck import SigmoidBottleneck, TopKBottleneck
from ae_core.spec.corruption import GaussianNoise, MaskingNoise, SaltAndPepper
from ae_core.spec.penalty import L1, Contractive, SparseKL
from ae_core.spec.presets import PRESETS, preset
from ae_core.spec.schedule import Cyclical, Ramp

_CONV = ConvBackbone(channels=(4, 8), strides=(2, 2))
_DENSE = DenseBackbone(hidden=(24, 16))
_PLAIN, _VAE = PlainBottleneck(3), GaussianBottleneck(3, kl_weight=0.7)
_BERNOULLI, _GAUSSIAN = BernoulliLikelihood("sum"), GaussianLikelihood(variance=0.3, reduction="sum", weight=1.5)
# 20 images in batches of 6: the fourth batch of each epoch has 2
_ADAM = Training(Adam(1e-3), batch_size=6)
_ADAMW = Training(AdamW(2e-3, b2=0.99, eps=1e-6, weight_decay=0.05), Cosine(3, 0.1), batch_size=6)
_SGD = Training(SGD(1e-3, momentum=0.8), Constant(5), clip_norm=0.5, batch_size=6)


def own_kinds(family: str) -> dict[str, type[Component]]:
    """Return the kinds of a family that this project brings: a plugin, or a test, may have brought others."""
    return {name: kind for name, kind in kinds(family).items() if kind.__module__.startswith("ae_core.spec.")}


IMAGES = 20
"""Number of images that a case is run on."""

ROWS: dict[str, Spec] = {
    "conv same": Spec((12, 8, 1), _CONV, _PLAIN, training=_ADAM),
    "conv torch": Spec((12, 8, 1), replace(_CONV, padding="torch"), _PLAIN, training=_ADAM),
    "conv same, 3 channels, vae": Spec((8, 12, 3), _CONV, _VAE, _GAUSSIAN, training=_ADAMW),
    "conv torch, 3 channels, vae": Spec((8, 12, 3), replace(_CONV, padding="torch"), _VAE, _BERNOULLI, training=_SGD),
    "conv same, odd shape": Spec((15, 9, 1), replace(_CONV, strides=(3, 1)), _PLAIN, _GAUSSIAN, training=_SGD),
    "conv torch, odd shape": Spec((15, 9, 2), replace(_CONV, strides=(3, 1), padding="torch"), _VAE, training=_ADAM),
    "conv torch, 7×5": Spec((7, 5, 1), replace(_CONV, strides=(1, 1), padding="torch"), _PLAIN, training=_ADAMW),
    "conv same, kernel 5": Spec((12, 8, 1), replace(_CONV, kernel=5), _VAE, training=_ADAM),
    "conv torch, kernel 5": Spec((12, 8, 3), replace(_CONV, kernel=5, padding="torch"), _PLAIN, training=_SGD),
    "conv same, kernel 4": Spec((12, 8, 1), replace(_CONV, kernel=4), _PLAIN, training=_ADAM),
    "conv same, kernel 2": Spec((12, 8, 3), replace(_CONV, kernel=2), _VAE, training=_SGD),
    "conv same, kernel 1": Spec((12, 8, 1), replace(_CONV, kernel=1), _PLAIN, training=_ADAM),
    "conv torch, kernel 1": Spec((12, 8, 1), replace(_CONV, kernel=1, padding="torch"), _PLAIN, training=_ADAM),
    "conv same, kernel 2, stride 3": Spec((9, 18, 1), replace(_CONV, kernel=2, strides=(3, 3)), _PLAIN, training=_ADAM),
    "conv batch norm": Spec((12, 8, 1), replace(_CONV, norm=BatchNorm(1e-4, 0.2)), _PLAIN, training=_ADAM),
    "conv torch, batch norm, vae": Spec(
        (12, 8, 3), replace(_CONV, padding="torch", norm=BatchNorm(1e-3)), _VAE, training=_SGD
    ),
    "conv group norm": Spec((12, 8, 1), replace(_CONV, norm=GroupNorm(2, 1e-4)), _VAE, training=_ADAMW),
    "conv layer norm": Spec((12, 8, 1), replace(_CONV, norm=LayerNorm(1e-4)), _PLAIN, training=_ADAM),
    "conv leaky_relu": Spec(
        (12, 8, 1), replace(_CONV, activation="leaky_relu", negative_slope=0.2), _PLAIN, training=_ADAM
    ),
    "conv silu": Spec((12, 8, 1), replace(_CONV, activation="silu"), _VAE, training=_ADAM),
    "conv gelu_erf": Spec((12, 8, 1), replace(_CONV, activation="gelu_erf"), _PLAIN, training=_ADAMW),
    "conv gelu_tanh": Spec((12, 8, 1), replace(_CONV, activation="gelu_tanh"), _PLAIN, training=_SGD),
    "conv he_normal": Spec((12, 8, 1), _CONV, _PLAIN, initializer="he_normal", training=_ADAM),
    # a step far too long drives the logits beyond ±40, where 1 − sigmoid is 0
    "dense saturated": Spec(
        (6, 5, 1), DenseBackbone(()), _PLAIN, _BERNOULLI, training=Training(SGD(0.6, momentum=0.0), batch_size=6)
    ),
    "dense topk": Spec((6, 5, 1), _DENSE, TopKBottleneck(6, 2), _BERNOULLI, training=_ADAM),
    "conv topk": Spec((12, 8, 3), _CONV, TopKBottleneck(5, 3), _GAUSSIAN, training=_SGD),
    # Ng's sparse autoencoder: one layer of sigmoid units, which is the code
    "dense sparse": Spec(
        (6, 5, 1),
        DenseBackbone(()),
        SigmoidBottleneck(7),
        GaussianLikelihood(variance=0.5, reduction="sum"),
        training=_ADAM,
        penalties=(SparseKL(3.0, 0.05),),
    ),
    "conv sparse, l1": Spec(
        (12, 8, 3),
        _CONV,
        SigmoidBottleneck(4),
        _BERNOULLI,
        training=_SGD,
        penalties=(SparseKL(Ramp(0.1, 0.9, 7), 0.6), L1(0.3)),
    ),
    # all images at once: the black one is in the first batch, and its code exactly at the penalty's kink
    "dense l1": Spec(
        (6, 5, 1), _DENSE, _PLAIN, _GAUSSIAN, training=replace(_ADAMW, batch_size=20), penalties=(L1(Cosine(1, 0.1)),)
    ),
    "dense contractive": Spec(
        (6, 5, 1), replace(_DENSE, activation="gelu_erf"), _PLAIN, training=_ADAM, penalties=(Contractive(0.3),)
    ),
    "dense contractive, noise": Spec(
        (6, 5, 1),
        replace(_DENSE, activation="silu", norm=LayerNorm(1e-3)),
        GaussianBottleneck(3, 0.5, capacity=0.2),
        _GAUSSIAN,
        training=_ADAMW,
        corruption=GaussianNoise(0.4),
        penalties=(Contractive(Ramp(0.01, 0.1, 5)), L1(0.1)),
    ),
    "conv contractive": Spec(
        (12, 8, 1), _CONV, SigmoidBottleneck(3), _BERNOULLI, training=_SGD, penalties=(Contractive(0.7),)
    ),
    "dense gaussian noise": Spec((6, 5, 1), _DENSE, _VAE, training=_ADAM, corruption=GaussianNoise(0.4)),
    "conv masking": Spec((12, 8, 3), _CONV, _PLAIN, _GAUSSIAN, training=_SGD, corruption=MaskingNoise(0.3)),
    "conv salt and pepper": Spec((12, 8, 1), _CONV, _VAE, training=_ADAMW, corruption=SaltAndPepper(0.2)),
    "dense warm-up": Spec((6, 5, 1), _DENSE, GaussianBottleneck(3, Ramp(0.1, 0.9, 7)), _BERNOULLI, training=_ADAMW),
    "conv cyclical": Spec((12, 8, 1), _CONV, GaussianBottleneck(3, Cyclical(0.8, 2, 0.6)), training=_ADAM),
    "dense capacity": Spec(
        (6, 5, 1), _DENSE, GaussianBottleneck(3, 4.0, capacity=Ramp(0.0, 0.3, 9)), _GAUSSIAN, training=_SGD
    ),
    "residual blocks": Spec((12, 8, 1), ResidualBackbone((4, 8), (2, 2), groups=2, eps=1e-4), _PLAIN, training=_ADAM),
    "residual, attention, vae": Spec(
        (8, 12, 3),
        ResidualBackbone((12,), (2,), groups=3, eps=1e-3, attention=True),
        _VAE,
        _GAUSSIAN,
        training=_ADAMW,
        corruption=GaussianNoise(0.1),
    ),
    "residual, learned scale": Spec(
        (4, 8, 2), ResidualBackbone((4,), (2,), 1, 1e-3, learned_scale=True), _VAE, training=_SGD
    ),
    "dense dropout": Spec((6, 5, 1), replace(_DENSE, dropout=0.3), _PLAIN, training=_ADAM),
    "dense dropout, norm, vae": Spec(
        (6, 5, 1),
        replace(_DENSE, activation="gelu_tanh", norm=LayerNorm(1e-3), dropout=0.5),
        _VAE,
        _BERNOULLI,
        training=_ADAMW,
        corruption=MaskingNoise(0.2),
    ),
    "conv dropout": Spec((12, 8, 3), replace(_CONV, kernel=4, dropout=0.2), _VAE, _GAUSSIAN, training=_SGD),
    "dense linear": Spec((6, 5, 1), DenseBackbone(()), _PLAIN, GaussianLikelihood(), training=_ADAM),
    "dense vae": Spec((6, 5, 1), _DENSE, _VAE, _BERNOULLI, training=_ADAMW),
    "dense vae, warm-up": Spec((6, 5, 1), _DENSE, GaussianBottleneck(3, Constant(25)), _BERNOULLI, training=_ADAM),
    "dense vae, fading KL": Spec((6, 5, 1), _DENSE, GaussianBottleneck(2, Cosine(2, 0.1)), training=_SGD),
    "dense 3 channels": Spec((6, 5, 3), _DENSE, _PLAIN, _GAUSSIAN, training=_SGD),
    # batches of 8, 8 and 4: of two vectors batch norm makes ±1, whatever they were, and the gradient is rounding
    "dense batch norm": Spec(
        (6, 5, 1), replace(_DENSE, norm=BatchNorm()), _PLAIN, training=replace(_ADAM, batch_size=8)
    ),
    "dense batch norm, vae": Spec((6, 5, 1), replace(_DENSE, norm=BatchNorm(1e-3, 1.0)), _VAE, training=_ADAMW),
    "dense group norm": Spec((6, 5, 1), replace(_DENSE, norm=GroupNorm(4)), _VAE, training=_SGD),
    "dense layer norm": Spec((6, 5, 1), replace(_DENSE, norm=LayerNorm()), _PLAIN, _GAUSSIAN, training=_ADAM),
    "dense silu": Spec((6, 5, 1), replace(_DENSE, activation="silu"), _VAE, training=_ADAM),
    "dense gelu_erf": Spec((6, 5, 1), replace(_DENSE, activation="gelu_erf"), _PLAIN, training=_ADAM),
}

CASES: dict[str, Spec] = {
    name: replace(spec, training=replace(spec.training, batch_size=6)) for name, spec in PRESETS.items()
} | ROWS
"""The presets, in batches that a laptop can afford, and the rows above."""

LONGEST_STEP = 0.1
"""Learning rates above it drive a net to infinity, which is what the row is for that has one."""
SMOOTH = tuple(
    name for name, spec in ROWS.items() if spec.is_smooth and spec.training.optimizer.learning_rate <= LONGEST_STEP
)
"""Nets without kinks, in which rounding grows slowly enough to be followed; presets are trained as they are."""


def covering(traits: Callable[[Spec], Iterable[Hashable]]) -> tuple[str, ...]:
    """Return rows that together have every trait of the table, for what takes too long on all of them.

    Small images come first, and each row adds a trait that those before it lack; so a new row is among them as soon as
    it has one of its own.
    """
    seen: set[Hashable] = set()
    chosen = []
    for name in sorted(CASES, key=lambda name: math.prod(CASES[name].input_shape)):
        own = set(traits(CASES[name]))
        if not own <= seen:
            chosen.append(name)
            seen |= own
    return tuple(chosen)


def images_of(spec: Spec, seed: int = 0, count: int = IMAGES) -> Float32[np.ndarray, "N H W C"]:
    """Return random images for a case.

    A tenth of the pixels is exactly 0 and a tenth exactly 1, as in real data. The first image is black: with biases
    at their start of 0 it puts every unit of the encoder exactly on the kink of its activation.
    """
    x = generator(seed, "case").uniform(-0.125, 1.125, (count, *spec.input_shape))
    x[0] = 0
    return np.clip(x, 0, 1).astype(np.float32)


def chosen_spec(name: str | None, path: Path | None, case: str | None) -> Spec:
    """Return the preset, the spec in a file or the row of the table that a command was given; else foster-ae.

    Raises:
        SpecError: more than one of them was given, or there is none of that name.
    """
    given = [flag for flag, value in (("--preset", name), ("--spec", path), ("--case", case)) if value is not None]
    if len(given) > 1:
        raise SpecError(f"given both {' and '.join(given[:2])}; expected one of --preset, --spec and --case")
    if case is not None:
        if case not in CASES:
            raise SpecError(f'unknown case "{case}"; {nearest(case, CASES)}')
        return CASES[case]
    return load_spec(path) if path is not None else preset(name or "foster-ae")
