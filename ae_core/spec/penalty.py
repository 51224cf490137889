"""Penalties: further terms of the loss, on images, codes and reconstructions."""

from collections.abc import Mapping
from typing import ClassVar

from ae_core.spec.component import Component
from ae_core.spec.schedule import Schedule


class Penalty(Component):
    """A term of the loss under the name of its kind, times its ``weight``.

    It is a number for each sample, of which the loss has the mean; or, where it ``couples_samples``, one for the batch.
    """

    family: ClassVar[str] = "penalty"
    weight: float | Schedule

    @property
    def coefficients(self) -> Mapping[str, float | Schedule]:
        """Return its weight."""
        return {self.kind: self.weight}
