"""The residual autoencoder: blocks whose input is added to their output, and attention at the narrowest map."""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ae_core.spec import Spec
from ae_core.spec.residual import ResidualBackbone
from ae_torch.model.backbone import make_decoder, make_encoder
from ae_torch.model.bottleneck import NO_NOISE, Noise
from ae_torch.model.layers import Conv, Linear
from ae_torch.model.norm import GroupNorm


def conv3(in_channels: int, out_channels: int, stride: int = 1, use_bias: bool = True) -> Conv:
    """Return a 3×3 convolution with one pixel of padding on every side."""
    return Conv(in_channels, out_channels, 3, stride, (1, 1), use_bias)


class Scale(nn.Module):
    """y = α·x, with one number α."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return self.weight * x


class ResidualBlock(nn.Module):
    """y = skip(x) + scale(conv(silu(norm(conv(silu(norm(x)))))))."""

    def __init__(self, in_channels: int, out_channels: int, backbone: ResidualBackbone) -> None:
        super().__init__()
        groups, eps = backbone.groups, backbone.eps
        self.norm1 = GroupNorm(in_channels, groups, eps)
        self.conv1 = conv3(in_channels, out_channels, use_bias=False)  # a norm follows
        self.norm2 = GroupNorm(out_channels, groups, eps)
        self.conv2 = conv3(out_channels, out_channels)
        self.scale = Scale() if backbone.learned_scale else None
        same = in_channels == out_channels
        self.skip = None if same else Conv(in_channels, out_channels, 1, 1, (0, 0), use_bias=False)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H W"]:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        y = y if self.scale is None else self.scale(y)
        return y + (x if self.skip is None else self.skip(x))


class Attention(nn.Module):
    """y = x + W·softmax(q·kᵀ/√C)·v over positions, of q, k and v linear in norm(x).

    Without biases but the last: softmax takes that of k away again, and W that of v on.
    Source: Vaswani et al. (2017), eq. 1.
    """

    def __init__(self, channels: int, backbone: ResidualBackbone) -> None:
        super().__init__()
        c = channels
        self.norm = GroupNorm(c, backbone.groups, backbone.eps)
        self.query, self.key, self.value = (Linear(c, c, use_bias=False) for _ in range(3))
        self.output = Linear(c, c)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        b, c, h, w = x.shape
        rows = self.norm(x).movedim(1, -1).reshape(b * h * w, c)
        q, k, v = (layer(rows).reshape(b, h * w, c) for layer in (self.query, self.key, self.value))
        shares = torch.softmax(torch.einsum("bqc,bkc->bqk", q, k) / math.sqrt(c), -1)
        y = torch.einsum("bqk,bkc->bqc", shares, v).reshape(b * h * w, c)
        return x + self.output(y).reshape(b, h, w, c).movedim(-1, 1)


class Middle(nn.Module):
    """A residual block, attention where it is wanted, and another block."""

    def __init__(self, channels: int, backbone: ResidualBackbone) -> None:
        super().__init__()
        self.block1 = ResidualBlock(channels, channels, backbone)
        self.attention = Attention(channels, backbone) if backbone.attention else None
        self.block2 = ResidualBlock(channels, channels, backbone)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        x = self.block1(x)
        if self.attention is not None:
            x = self.attention(x)
        return self.block2(x)


class ResidualEncoder(nn.Module):
    """Images to features, [B, h, w, c]."""

    def __init__(self, spec: Spec, backbone: ResidualBackbone) -> None:
        super().__init__()
        channels = backbone.channels
        self.input = conv3(spec.input_shape[2], channels[0])
        self.blocks = nn.ModuleList(ResidualBlock(a, b, backbone) for a, b in pairwise((channels[0], *channels)))
        self.down = nn.ModuleList(conv3(c, c, stride) for c, stride in zip(channels, backbone.strides, strict=True))
        self.middle = Middle(channels[-1], backbone)
        self.norm = GroupNorm(channels[-1], backbone.groups, backbone.eps)

    def forward(self, x: Float[Tensor, "B H W C"], noise: Noise = NO_NOISE) -> Float[Tensor, "B h w c"]:
        x = self.input(x.movedim(-1, 1))
        for block, down in zip(self.blocks, self.down, strict=True):
            x = down(block(x))
        return F.silu(self.norm(self.middle(x))).movedim(1, -1)


class ResidualDecoder(nn.Module):
    """Codes to logits or means, [B, H, W, C]."""

    def __init__(self, spec: Spec, backbone: ResidualBackbone) -> None:
        super().__init__()
        self.strides, channels = backbone.strides[::-1], backbone.channels[::-1]
        self.feature_shape = backbone.feature_shape(spec.input_shape)
        self.inner = Linear(spec.latent_size, math.prod(self.feature_shape))
        self.middle = Middle(channels[0], backbone)
        self.up = nn.ModuleList(conv3(c, c) for c in channels)
        self.blocks = nn.ModuleList(ResidualBlock(a, b, backbone) for a, b in pairwise((*channels, channels[-1])))
        self.norm = GroupNorm(channels[-1], backbone.groups, backbone.eps)
        self.output = conv3(channels[-1], spec.input_shape[2])

    def forward(self, z: Float[Tensor, "B ..."], noise: Noise = NO_NOISE) -> Float[Tensor, "B H W C"]:
        x = self.inner(z.flatten(1)).unflatten(1, self.feature_shape).movedim(-1, 1)
        x = self.middle(x)
        for up, block, stride in zip(self.up, self.blocks, self.strides, strict=True):
            x = block(up(enlarged(x, stride)))
        return self.output(F.silu(self.norm(x))).movedim(1, -1)


def enlarged(x: Float[Tensor, "B C h w"], factor: int) -> Float[Tensor, "B C H W"]:
    """Return every pixel as a square of ``factor`` by ``factor`` pixels."""
    return F.interpolate(x, scale_factor=factor, mode="nearest")


@make_encoder.register
def _encoder(backbone: ResidualBackbone, spec: Spec) -> ResidualEncoder:
    return ResidualEncoder(spec, backbone)


@make_decoder.register
def _decoder(backbone: ResidualBackbone, spec: Spec) -> ResidualDecoder:
    return ResidualDecoder(spec, backbone)
