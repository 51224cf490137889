"""The convolutional autoencoder: strided convolutions down, a dense layer, and their transposes up again."""

import math
from itertools import pairwise

from flax import linen as nn
from jaxtyping import Array, Float

from ae_core.spec import ConvBackbone, Spec
from ae_core.spec.backbone import dropout_site
from ae_core.spec.geometry import crops, pads
from ae_jax.model.backbone import make_decoder, make_encoder
from ae_jax.model.bottleneck import NO_NOISE, Noise
from ae_jax.model.dropout import make_dropout
from ae_jax.model.layers import Conv, ConvTranspose, Linear, make_activation
from ae_jax.model.norm import Mask, make_norm


class ConvBlock(nn.Module):
    """y = activation(norm(conv(x))), or with the transposed convolution in its place."""

    in_channels: int
    out_channels: int
    stride: int
    backbone: ConvBackbone
    transposed: bool = False

    def setup(self) -> None:
        backbone, bias = self.backbone, self.backbone.norm is None
        layer, margin = (ConvTranspose, crops) if self.transposed else (Conv, pads)
        edges = margin(backbone.kernel, self.stride, backbone.padding)
        self.conv = layer(self.in_channels, self.out_channels, backbone.kernel, self.stride, edges, use_bias=bias)
        self.norm = None if backbone.norm is None else make_norm(backbone.norm, self.out_channels)
        self.activation = make_activation(backbone.activation, backbone.negative_slope)
        self.dropout = make_dropout(backbone.dropout)

    def __call__(
        self, x: Float[Array, "B H W I"], noise: Float[Array, "B h w O"] | None = None, mask: Mask | None = None
    ) -> Float[Array, "B h w O"]:
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x, mask)
        x = self.activation(x)
        return x if self.dropout is None else self.dropout(x, noise)


class ConvEncoder(nn.Module):
    """Images to features, [B, h, w, c]."""

    spec: Spec
    backbone: ConvBackbone

    def setup(self) -> None:
        channels = (self.spec.input_shape[2], *self.backbone.channels)
        layers = zip(pairwise(channels), self.backbone.strides, strict=True)
        self.blocks = [ConvBlock(a, b, stride, self.backbone) for (a, b), stride in layers]

    def __call__(
        self, x: Float[Array, "B H W C"], noise: Noise = NO_NOISE, mask: Mask | None = None
    ) -> Float[Array, "B h w c"]:
        for i, block in enumerate(self.blocks):
            x = block(x, noise.get(dropout_site("encoder", i)), mask)
        return x


class ConvDecoder(nn.Module):
    """Codes to logits or means, [B, H, W, C]."""

    spec: Spec
    backbone: ConvBackbone

    def setup(self) -> None:
        backbone = self.backbone
        channels = (backbone.channels[-1], *reversed(backbone.channels))
        layers = zip(pairwise(channels), reversed(backbone.strides), strict=True)
        self.inner = Linear(self.spec.latent_size, math.prod(backbone.feature_shape(self.spec.input_shape)))
        self.blocks = [ConvBlock(a, b, stride, backbone, transposed=True) for (a, b), stride in layers]
        edges = pads(backbone.kernel, 1, backbone.padding)
        self.output = Conv(channels[-1], self.spec.input_shape[2], backbone.kernel, 1, edges)

    def __call__(
        self, z: Float[Array, "B ..."], noise: Noise = NO_NOISE, mask: Mask | None = None
    ) -> Float[Array, "B H W C"]:
        x = self.inner(z.reshape(z.shape[0], -1)).reshape(-1, *self.backbone.feature_shape(self.spec.input_shape))
        for i, block in enumerate(self.blocks):
            x = block(x, noise.get(dropout_site("decoder", i)), mask)
        return self.output(x)


@make_encoder.register
def _encoder(backbone: ConvBackbone, spec: Spec) -> ConvEncoder:
    return ConvEncoder(spec, backbone)


@make_decoder.register
def _decoder(backbone: ConvBackbone, spec: Spec) -> ConvDecoder:
    return ConvDecoder(spec, backbone)
