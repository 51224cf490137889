"""Normalisations."""

from dataclasses import dataclass
from typing import ClassVar

from ae_core.spec.component import MAX_CHANNELS, Component, check, check_integers


class Norm(Component):
    """A normalisation between a layer and its activation; the layer then has no bias of its own."""

    family: ClassVar[str] = "norm"

    def check_widths(self, field: str, widths: tuple[int, ...]) -> None:
        """Refuse layers of widths that it cannot normalise.

        Raises:
            SpecError: says which widths of which field of the backbone.
        """


@dataclass(frozen=True)
class BatchNorm(Norm):
    """Batch normalisation (Ioffe & Szegedy, 2015) over all axes but the channels."""

    kind: ClassVar[str] = "batch"
    eps: float = 1e-5
    """Added to the variance under the root."""
    momentum: float = 0.1
    """Weight of the new batch in the running statistics: PyTorch's meaning; Flax's is 1 − momentum.
    The running variance is the unbiased one, n/(n−1) times the batch's, in both twins."""

    def __post_init__(self) -> None:
        check(self.eps > 0, "eps", self.eps, "a number above 0")
        check(0 < self.momentum <= 1, "momentum", self.momentum, "a number in (0, 1]")

    @property
    def couples_samples(self) -> bool:
        """True: statistics are those of the batch."""
        return True


@dataclass(frozen=True)
class GroupNorm(Norm):
    """Group normalisation (Wu & He, 2018) over positions and the channels of one group."""

    kind: ClassVar[str] = "group"
    groups: int
    """Number of groups; divides every channel count of the backbone."""
    eps: float = 1e-5
    """Added to the variance under the root."""

    def __post_init__(self) -> None:
        check_integers("groups", (self.groups,), 1, MAX_CHANNELS)
        check(self.eps > 0, "eps", self.eps, "a number above 0")

    def check_widths(self, field: str, widths: tuple[int, ...]) -> None:
        """Refuse widths that the groups do not divide."""
        fits = all(width % self.groups == 0 for width in widths)
        check(fits, "norm.groups", self.groups, f"a divisor of all {field} {list(widths)}")


@dataclass(frozen=True)
class LayerNorm(Norm):
    """Layer normalisation (Ba et al., 2016) over the channels, at each position by itself."""

    kind: ClassVar[str] = "layer"
    eps: float = 1e-5
    """Added to the variance under the root."""

    def __post_init__(self) -> None:
        check(self.eps > 0, "eps", self.eps, "a number above 0")
