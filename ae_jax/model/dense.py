"""The dense autoencoder: fully connected layers on flattened images."""

import math
from itertools import pairwise

from flax import linen as nn
from jaxtyping import Array, Float

from ae_core.spec import DenseBackbone, Spec
from ae_core.spec.backbone import dropout_site
from ae_jax.model.backbone import make_decoder, make_encoder
from ae_jax.model.bottleneck import NO_NOISE, Noise
from ae_jax.model.dropout import make_dropout
from ae_jax.model.layers import Linear, make_activation
from ae_jax.model.norm import Mask, make_norm


class DenseBlock(nn.Module):
    """y = activation(norm(linear(x)))."""

    in_features: int
    out_features: int
    backbone: DenseBackbone

    def setup(self) -> None:
        self.linear = Linear(self.in_features, self.out_features, use_bias=self.backbone.norm is None)
        norm = self.backbone.norm
        self.norm = None if norm is None else make_norm(norm, self.out_features)
        self.activation = make_activation(self.backbone.activation, self.backbone.negative_slope)
        self.dropout = make_dropout(self.backbone.dropout)

    def __call__(
        self, x: Float[Array, "B I"], noise: Float[Array, "B O"] | None = None, mask: Mask | None = None
    ) -> Float[Array, "B O"]:
        x = self.linear(x)
        if self.norm is not None:
            x = self.norm(x, mask)
        x = self.activation(x)
        return x if self.dropout is None else self.dropout(x, noise)


class DenseEncoder(nn.Module):
    """Images to features, [B, F]."""

    spec: Spec
    backbone: DenseBackbone

    def setup(self) -> None:
        widths = (math.prod(self.spec.input_shape), *self.backbone.hidden)
        self.blocks = [DenseBlock(a, b, self.backbone) for a, b in pairwise(widths)]

    def __call__(
        self, x: Float[Array, "B H W C"], noise: Noise = NO_NOISE, mask: Mask | None = None
    ) -> Float[Array, "B F"]:
        x = x.reshape(x.shape[0], -1)
        for i, block in enumerate(self.blocks):
            x = block(x, noise.get(dropout_site("encoder", i)), mask)
        return x


class DenseDecoder(nn.Module):
    """Codes to logits or means, [B, H, W, C]."""

    spec: Spec
    backbone: DenseBackbone

    def setup(self) -> None:
        widths = (self.spec.latent_size, *reversed(self.backbone.hidden))
        self.blocks = [DenseBlock(a, b, self.backbone) for a, b in pairwise(widths)]
        self.output = Linear(widths[-1], math.prod(self.spec.input_shape))

    def __call__(
        self, z: Float[Array, "B ..."], noise: Noise = NO_NOISE, mask: Mask | None = None
    ) -> Float[Array, "B H W C"]:
        x = z.reshape(z.shape[0], -1)
        for i, block in enumerate(self.blocks):
            x = block(x, noise.get(dropout_site("decoder", i)), mask)
        return self.output(x).reshape(-1, *self.spec.input_shape)


@make_encoder.register
def _encoder(backbone: DenseBackbone, spec: Spec) -> DenseEncoder:
    return DenseEncoder(spec, backbone)


@make_decoder.register
def _decoder(backbone: DenseBackbone, spec: Spec) -> DenseDecoder:
    return DenseDecoder(spec, backbone)
