"""Backbones: the layers of encoder and decoder."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ae_core.spec.component import (
    MAX_CHANNELS,
    MAX_KERNEL,
    MAX_WIDTH,
    Component,
    NoiseSite,
    check,
    check_integers,
    check_name,
    threshold_of,
)
from ae_core.spec.norm import Norm

if TYPE_CHECKING:
    from ae_core.spec.model import Spec

Activation = Literal["relu", "leaky_relu", "silu", "gelu_erf", "gelu_tanh"]
SMOOTH: tuple[Activation, ...] = ("silu", "gelu_erf", "gelu_tanh")
"""Activations whose slope has no jump."""
Padding = Literal["same", "torch"]
Shape = tuple[int, ...]


class Backbone(Component):
    """Encoder and decoder: from an image [H, W, C] to features, and from a code to the image's logits or mean."""

    family: ClassVar[str] = "backbone"

    def check_images(self, input_shape: tuple[int, int, int]) -> None:
        """Refuse images [H, W, C] that it cannot take.

        Raises:
            SpecError: says why, with the field's path from the spec.
        """

    @abstractmethod
    def feature_shape(self, input_shape: tuple[int, int, int]) -> Shape:
        """Return the shape of what the encoder makes of one image: ``(F,)``, or a map ``(h, w, c)``."""
        raise NotImplementedError

    def smallest_batch(self, input_shape: tuple[int, int, int]) -> int:
        """Return how many images a training step needs at least."""
        return 1

    @property
    def absorbs_code_bias(self) -> bool:
        """Whether the decoder takes away again what a constant adds to all codes: a bias there would learn nothing."""
        return False

    @property
    def is_smooth(self) -> bool:
        """Whether no slope jumps anywhere; where one may, rounding can throw a training off course."""
        return False


@dataclass(frozen=True)
class DenseBackbone(Backbone):
    """Fully connected layers: the encoder has the hidden widths in order, the decoder in reverse."""

    kind: ClassVar[str] = "dense"
    hidden: tuple[int, ...]
    """Widths of the hidden layers; none makes the autoencoder linear."""
    activation: Activation = "relu"
    """After each hidden layer. GELU states its form: gelu_erf is exact, gelu_tanh the approximation."""
    negative_slope: float = 0.01
    """Slope of leaky_relu below 0."""
    norm: Norm | None = None
    """Between a hidden layer and its activation; the layer then has no bias of its own."""
    dropout: float = 0.0
    """Share of the numbers after each activation, in encoder and decoder, that a training step leaves out."""
    loss_only: ClassVar[tuple[str, ...]] = ("dropout",)

    def __post_init__(self) -> None:
        check_integers("hidden", self.hidden, 1, MAX_WIDTH)
        check_name("activation", self.activation, Activation)
        check(0 <= self.negative_slope <= 1, "negative_slope", self.negative_slope, "a number in [0, 1]")
        check(bool(self.hidden) or self.norm is None, "norm", self.norm, "null where there is no hidden layer")
        _check_dropout(self.dropout)
        check(bool(self.hidden) or not self.dropout, "dropout", self.dropout, "0 where there is no hidden layer")
        if self.norm is not None:
            self.norm.check_widths("hidden", self.hidden)

    def feature_shape(self, input_shape: tuple[int, int, int]) -> Shape:
        """Return the last hidden width, or all numbers of an image where there is none."""
        return (self.hidden[-1] if self.hidden else math.prod(input_shape),)

    def smallest_batch(self, input_shape: tuple[int, int, int]) -> int:
        """Return 2 where statistics are those of a batch of vectors."""
        return 2 if self.absorbs_code_bias else 1

    @property
    def absorbs_code_bias(self) -> bool:
        """Whether the decoder's first block subtracts its batch's mean."""
        return self.norm is not None and self.norm.couples_samples

    def noise_sites(self, spec: "Spec") -> Mapping[str, NoiseSite]:
        """Return the noise of dropout, at ``PART.blocks.NUMBER.dropout``."""
        encoder = [(width,) for width in self.hidden]
        return _dropout_sites(self.dropout, {"encoder": encoder, "decoder": encoder[::-1]})

    @property
    def is_smooth(self) -> bool:
        """Whether the activation is, or there is none."""
        return not self.hidden or self.activation in SMOOTH


@dataclass(frozen=True)
class ConvBackbone(Backbone):
    """Strided convolutions down, a dense layer, and their transposes up again; a stride-1 convolution ends it."""

    kind: ClassVar[str] = "conv"
    channels: tuple[int, ...]
    """Output channels of the encoder's convolutions; the decoder has them in reverse."""
    strides: tuple[int, ...]
    """Stride of each convolution, one for each entry of channels."""
    kernel: int = 3
    """Side of every kernel, in pixels."""
    padding: Padding = "same"
    """same: TensorFlow's and Flax's rule, the odd pixel goes to the bottom and right; torch: symmetric, with output
    padding in the decoder."""
    activation: Activation = "relu"
    """After each convolution but the last. GELU states its form: gelu_erf is exact, gelu_tanh the approximation."""
    negative_slope: float = 0.01
    """Slope of leaky_relu below 0."""
    norm: Norm | None = None
    """Between a convolution and its activation; the convolution then has no bias of its own."""
    dropout: float = 0.0
    """Share of the numbers after each activation, in encoder and decoder, that a training step leaves out."""
    loss_only: ClassVar[tuple[str, ...]] = ("dropout",)

    def __post_init__(self) -> None:
        check(len(self.channels) >= 1, "channels", list(self.channels), "at least one entry")
        check_integers("channels", self.channels, 1, MAX_CHANNELS)
        check_integers("strides", self.strides, 1, MAX_KERNEL)
        expected = f"one entry for each of the {len(self.channels)} channels"
        check(len(self.strides) == len(self.channels), "strides", list(self.strides), expected)
        check_integers("kernel", (self.kernel,), 1, MAX_KERNEL)
        check_name("padding", self.padding, Padding)
        if self.padding == "torch":
            check(self.kernel % 2 == 1, "kernel", self.kernel, 'odd where padding is "torch"')
        check_name("activation", self.activation, Activation)
        check(0 <= self.negative_slope <= 1, "negative_slope", self.negative_slope, "a number in [0, 1]")
        _check_dropout(self.dropout)
        if self.norm is not None:
            self.norm.check_widths("channels", self.channels)

    def check_images(self, input_shape: tuple[int, int, int]) -> None:
        """Refuse sides that a stride does not divide."""
        check_strides(self.strides, input_shape)

    def feature_shape(self, input_shape: tuple[int, int, int]) -> Shape:
        """Return height, width and channels after the last convolution."""
        return (*self._sides(input_shape)[-1], self.channels[-1])

    def noise_sites(self, spec: "Spec") -> Mapping[str, NoiseSite]:
        """Return the noise of dropout, at ``PART.blocks.NUMBER.dropout``."""
        sides = self._sides(spec.input_shape)
        encoder = [(*side, wide) for side, wide in zip(sides[1:], self.channels, strict=True)]
        decoder = [(*side, wide) for side, wide in zip(sides[-2::-1], self.channels[::-1], strict=True)]
        return _dropout_sites(self.dropout, {"encoder": encoder, "decoder": decoder})

    def _sides(self, input_shape: tuple[int, int, int]) -> list[tuple[int, int]]:
        """Return height and width of the images, and after each of the encoder's convolutions."""
        sides = [input_shape[:2]]
        for stride in self.strides:
            sides.append((sides[-1][0] // stride, sides[-1][1] // stride))
        return sides

    def smallest_batch(self, input_shape: tuple[int, int, int]) -> int:
        """Return 2 where statistics are those of a batch of single pixels."""
        single = self.feature_shape(input_shape)[:2] == (1, 1)
        return 2 if single and self.norm is not None and self.norm.couples_samples else 1

    @property
    def is_smooth(self) -> bool:
        """Whether the activation is."""
        return self.activation in SMOOTH


def check_strides(strides: tuple[int, ...], input_shape: tuple[int, int, int]) -> None:
    """Refuse images [H, W, C] whose sides one of the strides, taken in turn, does not divide.

    Raises:
        SpecError: names the stride.
    """
    size = input_shape[:2]
    for i, stride in enumerate(strides):
        divides = all(side % stride == 0 for side in size)
        expected = f"a divisor of both sides of the {size[0]}×{size[1]} pixels that reach this convolution"
        check(divides, f"backbone.strides[{i}]", stride, expected)
        size = (size[0] // stride, size[1] // stride)


def dropout_site(part: str, block: int) -> str:
    """Return the name of the noise of a block of ``part``, encoder or decoder; the module there has the same name."""
    return f"{part}.blocks.{block}.dropout"


def kept(share: float) -> tuple[float, float]:
    """Return the threshold below which uniform noise leaves a number out, and the factor of those that stay."""
    return threshold_of(share), 1 / (1 - share)


def _dropout_sites(share: float, shapes: Mapping[str, Sequence[tuple[int, ...]]]) -> dict[str, NoiseSite]:
    """Return the noise of all blocks, with the shapes of one image's numbers after each block, by part."""
    if not share:
        return {}
    return {
        dropout_site(part, i): NoiseSite(shape, "uniform")
        for part, blocks in shapes.items()
        for i, shape in enumerate(blocks)
    }


def _check_dropout(share: float) -> None:
    check(0 <= share < 1, "dropout", share, "a number in [0, 1)")
