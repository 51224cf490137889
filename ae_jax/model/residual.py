"""The residual autoencoder: blocks whose input is added to their output, and attention at the narrowest map."""

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from ae_core.spec import Spec
from ae_core.spec.residual import ResidualBackbone
from ae_jax.model.backbone import make_decoder, make_encoder
from ae_jax.model.bottleneck import NO_NOISE, Noise
from ae_jax.model.layers import Conv, Linear
from ae_jax.model.norm import GroupNorm, Mask


def conv3(in_channels: int, out_channels: int, stride: int = 1, use_bias: bool = True) -> Conv:
    """Return a 3×3 convolution with one pixel of padding on every side."""
    return Conv(in_channels, out_channels, 3, stride, (1, 1), use_bias)


class Scale(nn.Module):
    """y = α·x, with one number α."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        return self.param("weight", nn.initializers.zeros, (1,), x.dtype) * x


class ResidualBlock(nn.Module):
    """y = skip(x) + scale(conv(silu(norm(conv(silu(norm(x)))))))."""

    in_channels: int
    out_channels: int
    backbone: ResidualBackbone

    def setup(self) -> None:
        groups, eps = self.backbone.groups, self.backbone.eps
        self.norm1 = GroupNorm(self.in_channels, groups, eps)
        self.conv1 = conv3(self.in_channels, self.out_channels, use_bias=False)  # a norm follows
        self.norm2 = GroupNorm(self.out_channels, groups, eps)
        self.conv2 = conv3(self.out_channels, self.out_channels)
        self.scale = Scale() if self.backbone.learned_scale else None
        same = self.in_channels == self.out_channels
        self.skip = None if same else Conv(self.in_channels, self.out_channels, 1, 1, (0, 0), use_bias=False)

    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H W O"]:
        y = self.conv1(jax.nn.silu(self.norm1(x)))
        y = self.conv2(jax.nn.silu(self.norm2(y)))
        y = y if self.scale is None else self.scale(y)
        return y + (x if self.skip is None else self.skip(x))


class Attention(nn.Module):
    """y = x + W·softmax(q·kᵀ/√C)·v over positions, of q, k and v linear in norm(x).

    Without biases but the last: softmax takes that of k away again, and W that of v on.
    Source: Vaswani et al. (2017), eq. 1.
    """

    channels: int
    backbone: ResidualBackbone

    def setup(self) -> None:
        c = self.channels
        self.norm = GroupNorm(c, self.backbone.groups, self.backbone.eps)
        self.query, self.key, self.value = (Linear(c, c, use_bias=False) for _ in range(3))
        self.output = Linear(c, c)

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        b, h, w, c = x.shape
        rows = self.norm(x).reshape(b * h * w, c)
        q, k, v = (layer(rows).reshape(b, h * w, c) for layer in (self.query, self.key, self.value))
        shares = jax.nn.softmax(jnp.einsum("bqc,bkc->bqk", q, k) / math.sqrt(c), axis=-1)
        y = jnp.einsum("bqk,bkc->bqc", shares, v).reshape(b * h * w, c)
        return x + self.output(y).reshape(x.shape)


class Middle(nn.Module):
    """A residual block, attention where it is wanted, and another block."""

    channels: int
    backbone: ResidualBackbone

    def setup(self) -> None:
        self.block1 = ResidualBlock(self.channels, self.channels, self.backbone)
        self.attention = Attention(self.channels, self.backbone) if self.backbone.attention else None
        self.block2 = ResidualBlock(self.channels, self.channels, self.backbone)

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        x = self.block1(x)
        if self.attention is not None:
            x = self.attention(x)
        return self.block2(x)


class ResidualEncoder(nn.Module):
    """Images to features, [B, h, w, c]."""

    spec: Spec
    backbone: ResidualBackbone

    def setup(self) -> None:
        backbone, channels = self.backbone, self.backbone.channels
        self.input = conv3(self.spec.input_shape[2], channels[0])
        self.blocks = [ResidualBlock(a, b, backbone) for a, b in pairwise((channels[0], *channels))]
        self.down = [conv3(c, c, stride) for c, stride in zip(channels, backbone.strides, strict=True)]
        self.middle = Middle(channels[-1], backbone)
        self.norm = GroupNorm(channels[-1], backbone.groups, backbone.eps)

    def __call__(
        self, x: Float[Array, "B H W C"], noise: Noise = NO_NOISE, mask: Mask | None = None
    ) -> Float[Array, "B h w c"]:
        x = self.input(x)
        for block, down in zip(self.blocks, self.down, strict=True):
            x = down(block(x))
        return jax.nn.silu(self.norm(self.middle(x)))


class ResidualDecoder(nn.Module):
    """Codes to logits or means, [B, H, W, C]."""

    spec: Spec
    backbone: ResidualBackbone

    def setup(self) -> None:
        backbone, channels = self.backbone, self.backbone.channels[::-1]
        self.inner = Linear(self.spec.latent_size, math.prod(backbone.feature_shape(self.spec.input_shape)))
        self.middle = Middle(channels[0], backbone)
        self.up = [conv3(c, c) for c in channels]
        self.blocks = [ResidualBlock(a, b, backbone) for a, b in pairwise((*channels, channels[-1]))]
        self.norm = GroupNorm(channels[-1], backbone.groups, backbone.eps)
        self.output = conv3(channels[-1], self.spec.input_shape[2])

    def __call__(
        self, z: Float[Array, "B ..."], noise: Noise = NO_NOISE, mask: Mask | None = None
    ) -> Float[Array, "B H W C"]:
        x = self.inner(z.reshape(len(z), -1)).reshape(-1, *self.backbone.feature_shape(self.spec.input_shape))
        x = self.middle(x)
        for up, block, stride in zip(self.up, self.blocks, self.backbone.strides[::-1], strict=True):
            x = block(up(enlarged(x, stride)))
        return self.output(jax.nn.silu(self.norm(x)))


def enlarged(x: Float[Array, "B h w C"], factor: int) -> Float[Array, "B H W C"]:
    """Return every pixel as a square of ``factor`` by ``factor`` pixels."""
    b, h, w, c = x.shape
    squares = jnp.broadcast_to(x[:, :, None, :, None], (b, h, factor, w, factor, c))
    return squares.reshape(b, h * factor, w * factor, c)


@make_encoder.register
def _encoder(backbone: ResidualBackbone, spec: Spec) -> ResidualEncoder:
    return ResidualEncoder(spec, backbone)


@make_decoder.register
def _decoder(backbone: ResidualBackbone, spec: Spec) -> ResidualDecoder:
    return ResidualDecoder(spec, backbone)
