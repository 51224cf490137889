"""The JAX half: encoder and decoder of attention over patches, as Linen modules.

Parameters have the names that they have in the PyTorch half, and JAX's layout: every tensor of two axes is turned, be
it a kernel, [in, out], or the positions, [width, patches]. They are created as zeros, since values always come from
`Autoencoder.init` or from a file.
"""

# setup, __call__ and forward are what the class's docstring says
# ruff: noqa: D102

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from ae_core.spec import Spec
from ae_jax.model.backbone import make_decoder, make_encoder
from ae_jax.model.bottleneck import NO_NOISE, Noise
from ae_jax.model.norm import LayerNorm
from twin_attention import AttentionBackbone, Gelu


class Linear(nn.Module):
    """y = x·W + b, of each token."""

    in_features: int
    out_features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
        y = x @ self.param("weight", nn.initializers.zeros, (self.in_features, self.out_features), x.dtype)
        return y + self.param("bias", nn.initializers.zeros, (self.out_features,), x.dtype) if self.use_bias else y


class Positions(nn.Module):
    """A learned vector for each place, added to its token."""

    tokens: int
    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "B P W"]) -> Float[Array, "B P W"]:
        return x + self.param("weight", nn.initializers.zeros, (self.width, self.tokens), x.dtype).T


class Attention(nn.Module):
    """Multi-head self-attention. Source: Vaswani et al. (2017), section 3.2."""

    width: int
    heads: int

    def setup(self) -> None:
        self.query = Linear(self.width, self.width)
        # what a bias adds to a query's scores is the same for all keys, and softmax takes it away again
        self.key = Linear(self.width, self.width, use_bias=False)
        self.value = Linear(self.width, self.width)
        self.output = Linear(self.width, self.width)

    def __call__(self, x: Float[Array, "B P W"]) -> Float[Array, "B P W"]:
        shape = (*x.shape[:2], self.heads, self.width // self.heads)
        query, key, value = (layer(x).reshape(shape) for layer in (self.query, self.key, self.value))
        scores = jnp.einsum("bphd,bqhd->bhpq", query, key) / math.sqrt(shape[-1])
        mixed = jnp.einsum("bhpq,bqhd->bphd", jax.nn.softmax(scores, -1), value)
        return self.output(mixed.reshape(x.shape))


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    backbone: AttentionBackbone

    def setup(self) -> None:
        self.inner = Linear(self.backbone.width, self.backbone.mlp_width)
        self.output = Linear(self.backbone.mlp_width, self.backbone.width)

    def __call__(self, x: Float[Array, "B P W"]) -> Float[Array, "B P W"]:
        return self.output(make_gelu(self.backbone.activation)(self.inner(x)))


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)). Source: Xiong et al. (2020), table 1, right."""

    backbone: AttentionBackbone

    def setup(self) -> None:
        backbone = self.backbone
        self.attention_norm = LayerNorm(backbone.width, backbone.eps)
        self.attention = Attention(backbone.width, backbone.heads)
        self.mlp_norm = LayerNorm(backbone.width, backbone.eps)
        self.mlp = MLP(backbone)

    def __call__(self, x: Float[Array, "B P W"]) -> Float[Array, "B P W"]:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class AttentionEncoder(nn.Module):
    """Images to features, [B, F]."""

    spec: Spec
    backbone: AttentionBackbone

    def setup(self) -> None:
        backbone, shape = self.backbone, self.spec.input_shape
        self.embedding = Linear(backbone.patch**2 * shape[2], backbone.width)
        self.positions = Positions(backbone.tokens(shape), backbone.width)
        self.blocks = [Block(backbone) for _ in range(backbone.depth)]

    def __call__(
        self, x: Float[Array, "B H W C"], noise: Noise = NO_NOISE, mask: Float[Array, " B"] | None = None
    ) -> Float[Array, "B F"]:
        x = self.positions(self.embedding(to_patches(x, self.backbone.patch)))
        for block in self.blocks:
            x = block(x)
        return x.mean(1) if self.backbone.pool == "mean" else x.reshape(x.shape[0], -1)


class AttentionDecoder(nn.Module):
    """Codes to logits or means, [B, H, W, C]."""

    spec: Spec
    backbone: AttentionBackbone

    def setup(self) -> None:
        backbone, shape = self.backbone, self.spec.input_shape
        tokens = backbone.tokens(shape)
        # the positions are its bias
        self.inner = Linear(self.spec.latent_size, tokens * backbone.width, use_bias=False)
        self.positions = Positions(tokens, backbone.width)
        self.blocks = [Block(backbone) for _ in range(backbone.depth)]
        self.norm = LayerNorm(backbone.width, backbone.eps)
        self.output = Linear(backbone.width, backbone.patch**2 * shape[2])

    def __call__(
        self, z: Float[Array, "B ..."], noise: Noise = NO_NOISE, mask: Float[Array, " B"] | None = None
    ) -> Float[Array, "B H W C"]:
        x = self.inner(z.reshape(z.shape[0], -1)).reshape(z.shape[0], -1, self.backbone.width)
        x = self.positions(x)
        for block in self.blocks:
            x = block(x)
        return from_patches(self.output(self.norm(x)), self.spec.input_shape, self.backbone.patch)


def make_gelu(name: Gelu) -> Callable[[Array], Array]:
    """Return the GELU of that name."""
    return lambda x: jax.nn.gelu(x, approximate=name == "gelu_tanh")


def to_patches(x: Float[Array, "B H W C"], patch: int) -> Float[Array, "B P N"]:
    """Cut images into patches, row by row, each with its pixels row by row."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, patch * patch * channels)


def from_patches(x: Float[Array, "B P N"], shape: tuple[int, int, int], patch: int) -> Float[Array, "B H W C"]:
    """Put together the images [H, W, C] that `to_patches` cut."""
    height, width, channels = shape
    x = x.reshape(-1, height // patch, width // patch, patch, patch, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, *shape)


@make_encoder.register
def _encoder(backbone: AttentionBackbone, spec: Spec) -> AttentionEncoder:
    return AttentionEncoder(spec, backbone)


@make_decoder.register
def _decoder(backbone: AttentionBackbone, spec: Spec) -> AttentionDecoder:
    return AttentionDecoder(spec, backbone)
