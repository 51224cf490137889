"""Corruptions: what is done to an image before a denoising autoencoder has to give it back clean."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from ae_core.noise import NoiseSite
from ae_core.spec.component import Component

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
