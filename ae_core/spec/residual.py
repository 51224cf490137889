"""The residual backbone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ae_core.spec.backbone import Backbone, Shape, check_strides
from ae_core.spec.component import MAX_CHANNELS, MAX_KERNEL, Initial, check, check_integers


@dataclass(frozen=True)
class ResidualBackbone(Backbone):
    """Residual blocks of two 3×3 convolutions, down by strided convolutions and up by nearest neighbours.

    A block is x + conv(silu(norm(conv(silu(norm(x)))))), with group normalisation; where channels change, a 1×1
    convolution stands for x (He et al., 2016, "Identity mappings in deep residual networks", figure 4e). At the
    narrowest map positions may look at each other by self-attention (Vaswani et al., 2017, eq. 1, with one head).
    """

    kind: ClassVar[str] = "residual"
    channels: tuple[int, ...]
    """Channels of each level of the encoder; the decoder has them in reverse."""
    strides: tuple[int, ...]
    """By what each level shrinks its map, one for each entry of channels; the decoder's levels grow theirs."""
    groups: int = 8
    """Of every group normalisation; divides all channels."""
    eps: float = 1e-5
    """Added to every variance under the root."""
    attention: bool = False
    """Self-attention at the narrowest map, in encoder and decoder."""
    learned_scale: bool = False
    """A factor of every block's branch, one number that is learned and starts at 0: x + α·branch, so that at the start
    there are the shortcuts alone (Bachlechner et al., 2020, "ReZero is all you need", eq. 3)."""

    def __post_init__(self) -> None:
        check(len(self.channels) >= 1, "channels", list(self.channels), "at least one entry")
        check_integers("channels", self.channels, 1, MAX_CHANNELS)
        check_integers("strides", self.strides, 1, MAX_KERNEL)
        expected = f"one entry for each of the {len(self.channels)} channels"
        check(len(self.strides) == len(self.channels), "strides", list(self.strides), expected)
        check_integers("groups", (self.groups,), 1, MAX_CHANNELS)
        fits = all(width % self.groups == 0 for width in self.channels)
        check(fits, "groups", self.groups, f"a divisor of all channels {list(self.channels)}")
        check(self.eps > 0, "eps", self.eps, "a number above 0")

    def check_images(self, input_shape: tuple[int, int, int]) -> None:
        """Refuse sides that a stride does not divide."""
        check_strides(self.strides, input_shape)

    def feature_shape(self, input_shape: tuple[int, int, int]) -> Shape:
        """Return height, width and channels of the narrowest map."""
        height, width, _ = input_shape
        for stride in self.strides:
            height, width = height // stride, width // stride
        return height, width, self.channels[-1]

    @property
    def initial_values(self) -> Mapping[str, Initial]:
        """Return that scales start at 0."""
        return {"scale.weight": "zeros"}

    @property
    def is_smooth(self) -> bool:
        """True: of SiLU."""
        return True
