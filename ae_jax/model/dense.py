"""The dense autoencoder: fully connected layers on flattened images."""

import math
from itertools import pairwise

from flax import linen as nn
from jaxtyping import Array, Float

from ae_core.spec import BatchNorm, DenseBackbone, Spec
from ae_jax.model.bottleneck import Code, make_bottleneck
from ae_jax.model.layers import Linear, SampleWeight, make_activation, make_norm


class DenseBlock(nn.Module):
    """y = activation(norm(linear(x)))."""

    in_features: int
    out_features: int
    backbone: DenseBackbone

    def setup(self) -> None:
        self.linear = Linear(self.in_features, self.out_features, use_bias=self.backbone.norm is None)
        self.norm = make_norm(self.backbone.norm, self.out_features)
        self.activation = make_activation(self.backbone.activation, self.backbone.negative_slope)

    def __call__(self, x: Float[Array, "B I"], weight: SampleWeight | None = None) -> Float[Array, "B O"]:
        x = self.linear(x)
        if self.norm is not None:
            x = self.norm(x, weight)
        return self.activation(x)


class DenseEncoder(nn.Module):
    """Images to codes."""

    spec: Spec
    backbone: DenseBackbone

    def setup(self) -> None:
        widths = (math.prod(self.spec.input_shape), *self.backbone.hidden)
        self.blocks = [DenseBlock(a, b, self.backbone) for a, b in pairwise(widths)]
        # batch norm in the decoder's first block would take a code's bias away again
        bias = not isinstance(self.backbone.norm, BatchNorm)
        self.bottleneck = make_bottleneck(self.spec.bottleneck, widths[-1], use_bias=bias)

    def __call__(
        self,
        x: Float[Array, "B H W C"],
        noise: Float[Array, "B L"] | None = None,
        weight: SampleWeight | None = None,
    ) -> Code:
        x = x.reshape(x.shape[0], -1)
        for block in self.blocks:
            x = block(x, weight)
        return self.bottleneck(x, noise)


class DenseDecoder(nn.Module):
    """Codes to logits or means, [B, H, W, C]."""

    spec: Spec
    backbone: DenseBackbone

    def setup(self) -> None:
        widths = (self.spec.bottleneck.latent, *reversed(self.backbone.hidden))
        self.blocks = [DenseBlock(a, b, self.backbone) for a, b in pairwise(widths)]
        self.output = Linear(widths[-1], math.prod(self.spec.input_shape))

    def __call__(self, z: Float[Array, "B L"], weight: SampleWeight | None = None) -> Float[Array, "B H W C"]:
        x = z
        for block in self.blocks:
            x = block(x, weight)
        return self.output(x).reshape(-1, *self.spec.input_shape)
