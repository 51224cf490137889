"""Layers: linear, convolutions and activations, with explicit padding.

Images are [B, C, H, W] in here, in channels_last memory.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ae_core.spec import Activation


class Linear(nn.Linear):
    """y = x·Wᵀ + b."""

    def __init__(self, in_features: int, out_features: int, use_bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias=use_bias)


class Conv(nn.Conv2d):
    """Strided convolution with explicit padding before and after both axes."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        pads: tuple[int, int],
        use_bias: bool = True,
    ) -> None:
        native = _native(pads, stride)
        super().__init__(in_channels, out_channels, kernel, stride, padding=pads[0] if native else 0, bias=use_bias)
        self.edges = pads
        self.extra = None if native else (*pads, *pads)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        x = x if self.extra is None else F.pad(x, self.extra)
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if kernel == 1 < stride:
            # what a stride leaves out is left out before: PyTorch 2.13's own gradient of this convolution on images
            # with channels last, with one thread, writes past its memory on some processors
            return F.conv2d(x[:, :, ::stride, ::stride], self.weight, self.bias)
        return super().forward(x)


class ConvTranspose(nn.ConvTranspose2d):
    """Transposed strided convolution; ``crops`` are cut off its full output, a negative number adds pixels."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        crops: tuple[int, int],
        use_bias: bool = True,
    ) -> None:
        before, after = crops
        native = _native(crops, stride)
        padding, output_padding = (before, before - after) if native else (0, 0)
        super().__init__(in_channels, out_channels, kernel, stride, padding, output_padding, bias=use_bias)
        self.edges = crops
        self.extra = None if native else (-before, -after, -before, -after)

    def forward(self, x: Float[Tensor, "B I h w"], output_size: list[int] | None = None) -> Float[Tensor, "B O H W"]:
        y = self._spread(x) if self.kernel_size[0] == 1 < self.stride[0] else super().forward(x, output_size)
        if self.extra is None:
            return y
        before, after = -self.extra[0], -self.extra[1]
        if min(before, after) >= 0:  # a view, where F.pad makes a copy
            return y[:, :, before : y.shape[2] - after, before : y.shape[3] - after]
        return F.pad(y, self.extra)

    def _spread(self, x: Float[Tensor, "B I h w"]) -> Float[Tensor, "B O H W"]:
        """The same with a kernel of 1, for the reason that `Conv` gives: pixels are put in place after the product."""
        stride, more = self.stride[0], self.output_padding[0]
        y = F.conv_transpose2d(x, self.weight)
        batch, channels, *sides = y.shape
        y = F.pad(y.reshape(batch, channels, sides[0], 1, sides[1], 1), (0, stride - 1, 0, 0, 0, stride - 1))
        y = y.reshape(batch, channels, *(side * stride for side in sides))
        height, width = ((side - 1) * stride + 1 + more for side in sides)
        y = y[:, :, :height, :width]
        return y if self.bias is None else y + self.bias[:, None, None]


def _native(edges: tuple[int, int], stride: int) -> bool:
    """Say whether PyTorch's own padding serves: it pads, or cuts off, the same at both ends.

    With a stride, up to stride − 1 pixels at the second end are nevertheless left unread, or given back there.
    """
    before, after = edges
    return 0 <= before - after < stride


def make_activation(name: Activation, negative_slope: float) -> Callable[[Tensor], Tensor]:
    """Return the activation function of that name; at the kink of relu and leaky_relu the left slope holds."""
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "relu": torch.relu,
        "leaky_relu": lambda x: F.leaky_relu(x, negative_slope),
        "silu": F.silu,
        "gelu_erf": lambda x: F.gelu(x, approximate="none"),
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    }
    return functions[name]
