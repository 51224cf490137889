"""One component of every family but the backbone's, as a package outside the project would bring them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from ae_core.metrics.reconstruction import log_probability
from ae_core.spec import (
    Bottleneck,
    Corruption,
    Initial,
    Likelihood,
    Norm,
    Optimizer,
    Penalty,
    Schedule,
    check,
    check_integers,
)


@dataclass(frozen=True)
class RMSNorm(Norm):
    """Division by the root of the mean square over the channels, at each position. Source: Zhang & Sennrich (2019)."""

    kind: ClassVar[str] = "rms"
    eps: float = 1e-6
    """Added to the mean square under the root."""

    def __post_init__(self) -> None:
        check(self.eps > 0, "eps", self.eps, "a number above 0")


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """v ← decay·v + (1 − decay)·g², parameter ← parameter − learning rate·g / (√v + eps)."""

    kind: ClassVar[str] = "rmsprop"
    learning_rate: float = 1e-3
    """Peak learning rate; the schedule scales it."""
    smoothing: float = 0.99
    """Share of the last mean square that is kept."""
    eps: float = 1e-8
    """Added outside the root."""

    def __post_init__(self) -> None:
        check(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number above 0")
        check(0 <= self.smoothing < 1, "smoothing", self.smoothing, "a number in [0, 1)")
        check(self.eps > 0, "eps", self.eps, "a number above 0")


@dataclass(frozen=True)
class Lion(Optimizer):
    """Each parameter moves by the sign of a mean of gradients. Source: Chen et al. (2023), algorithm 2, no decay."""

    kind: ClassVar[str] = "lion"
    learning_rate: float = 1e-4
    """Peak learning rate; the schedule scales it."""
    b1: float = 0.9
    """Share of the remembered mean in what the sign is taken of."""
    b2: float = 0.99
    """Share of it that is kept."""

    def __post_init__(self) -> None:
        check(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number above 0")
        check(0 <= self.b1 < 1, "b1", self.b1, "a number in [0, 1)")
        check(0 <= self.b2 < 1, "b2", self.b2, "a number in [0, 1)")


@dataclass(frozen=True)
class Exponential(Schedule):
    """From ``first`` to ``final`` by an equal factor at each step."""

    kind: ClassVar[str] = "exponential"
    first: float = 1.0
    """Number of the first step."""
    final: float = 0.1
    """What it comes to behind the last step."""

    def __post_init__(self) -> None:
        check(self.first > 0, "first", self.first, "a number above 0")
        check(self.final > 0, "final", self.final, "a number above 0")

    def value(self, step: int, total_steps: int) -> float:
        """Return first · (final / first)^(step / total)."""
        return self.first * (self.final / self.first) ** (step / total_steps)

    @property
    def last(self) -> float:
        """Where it ends."""
        return self.final


@dataclass(frozen=True)
class UniformNoise(Corruption):
    """A uniform number from −scale to scale, added to each pixel."""

    kind: ClassVar[str] = "uniform_noise"
    distribution: ClassVar[str] = "uniform"
    scale: float = 0.2
    """Half of the interval's length."""

    def __post_init__(self) -> None:
        check(self.scale > 0, "scale", self.scale, "a number above 0")


@dataclass(frozen=True)
class CodeL1(Penalty):
    """Σ |z| of each code."""

    kind: ClassVar[str] = "code_l1"
    weight: float | Schedule = 1e-2
    """Weight of the term: a number, or a schedule of the step."""


@dataclass(frozen=True)
class Decorrelation(Penalty):
    """Sum of the squared covariances of different latent dimensions, over the batch."""

    kind: ClassVar[str] = "decorrelation"
    weight: float | Schedule = 1.0
    """Weight of the term: a number, or a schedule of the step."""

    @property
    def couples_samples(self) -> bool:
        """True: covariances are those of the batch."""
        return True


@dataclass(frozen=True)
class CenteredBottleneck(Bottleneck):
    """A linear code, less a running mean of such codes that starts at 1."""

    kind: ClassVar[str] = "centered"
    latent: int
    """Number of latent dimensions."""
    momentum: float = 0.1
    """Weight of the new batch in the running mean."""

    def __post_init__(self) -> None:
        check_integers("latent", (self.latent,), 1, 2**16)
        check(0 < self.momentum <= 1, "momentum", self.momentum, "a number in (0, 1]")

    def latent_shape(self, features: tuple[int, ...]) -> tuple[int, ...]:
        """Return one axis."""
        return (self.latent,)

    @property
    def couples_samples(self) -> bool:
        """True: the running mean is that of batches, not of their parts."""
        return True

    @property
    def initial_values(self) -> Mapping[str, Initial]:
        """Return 1 for the running mean, which would start at 0."""
        return {"bottleneck.running_center": "ones"}


@dataclass(frozen=True)
class MapBottleneck(Bottleneck):
    """A code with a place for each of the features: a convolution of one pixel."""

    kind: ClassVar[str] = "map"
    channels: int
    """Channels of the code."""

    def __post_init__(self) -> None:
        check_integers("channels", (self.channels,), 1, 2**16)

    def latent_shape(self, features: tuple[int, ...]) -> tuple[int, ...]:
        """Return the features' height and width, and the channels of the code."""
        check(len(features) == 3, "bottleneck", f"features of shape {features}", "a backbone whose features are a map")
        return *features[:2], self.channels


@dataclass(frozen=True)
class StudentT(Likelihood):
    """½·(degrees + 1)·log(1 + (x − mean)² / (degrees·scale²)), in nats, summed over an image; without its constant."""

    kind: ClassVar[str] = "student_t"
    degrees: float = 3.0
    """Degrees of freedom."""
    scale: float = 0.2
    """Of every pixel."""
    weight: float = 1.0
    """Weight of this term in the loss."""

    def __post_init__(self) -> None:
        for name in ("degrees", "scale", "weight"):
            check(getattr(self, name) > 0, name, getattr(self, name), "a number above 0")

    @property
    def coefficients(self) -> Mapping[str, float | Schedule]:
        """Return the weight of the term."""
        return {"reconstruction": self.weight}


@log_probability.register
def _student_t(likelihood: StudentT, images: np.ndarray, decoded: np.ndarray) -> Float64[np.ndarray, " N"]:
    from scipy.stats import t

    density = t.logpdf(images.astype(np.float64), likelihood.degrees, decoded.astype(np.float64), likelihood.scale)
    return np.asarray(density.sum((1, 2, 3)))
