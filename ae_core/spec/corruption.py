"""Corruptions: what is done to an image before a denoising autoencoder has to give it back clean."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ae_core.spec.component import Component, NoiseSite, check, threshold_of

if TYPE_CHECKING:
    from ae_core.spec.model import Spec

Distribution = Literal["normal", "uniform"]

SITE = "corruption"
"""Where a corruption's noise is made."""


class Corruption(Component):
    """Noise on what the encoder sees; the loss is against the clean image. Evaluation has none unless handed some.

    Source: Vincent et al. (2008, 2010).
    """

    family: ClassVar[str] = "corruption"
    distribution: ClassVar[Distribution]
    """Of its noise: ``normal`` or ``uniform``, one number for each pixel and channel."""

    def noise_sites(self, spec: "Spec") -> Mapping[str, NoiseSite]:
        """Return noise of an image's shape, at ``corruption``."""
        return {SITE: NoiseSite(spec.input_shape, self.distribution)}


@dataclass(frozen=True)
class GaussianNoise(Corruption):
    """x + σ·n, n standard normal; what leaves [0, 1] stays there. Source: Vincent et al. (2010), section 3.1."""

    kind: ClassVar[str] = "gaussian"
    distribution: ClassVar[Distribution] = "normal"
    sigma: float
    """Standard deviation."""

    def __post_init__(self) -> None:
        check(self.sigma > 0, "sigma", self.sigma, "a number above 0")


@dataclass(frozen=True)
class MaskingNoise(Corruption):
    """0 in place of a share of the pixels, chosen anew each time. Source: Vincent et al. (2008), section 2.3."""

    kind: ClassVar[str] = "masking"
    distribution: ClassVar[Distribution] = "uniform"
    share: float
    """Of the pixels; each channel counts for itself."""

    def __post_init__(self) -> None:
        check(0 < self.share < 1, "share", self.share, "a number in (0, 1)")

    @property
    def threshold(self) -> float:
        """Uniform numbers below it are those of masked pixels; no uniform number is equal to it in any precision."""
        return threshold_of(self.share)


@dataclass(frozen=True)
class SaltAndPepper(Corruption):
    """0 or 1, either as likely, in place of a share of the pixels. Source: Vincent et al. (2010), section 3.1."""

    kind: ClassVar[str] = "salt-and-pepper"
    distribution: ClassVar[Distribution] = "uniform"
    share: float
    """Of the pixels; each channel counts for itself."""

    def __post_init__(self) -> None:
        check(0 < self.share <= 1, "share", self.share, "a number in (0, 1]")

    @property
    def thresholds(self) -> tuple[float, float]:
        """Below the first, uniform numbers are those of black pixels, above the second those of white ones."""
        return threshold_of(self.share / 2), threshold_of(1 - self.share / 2)
