"""The PyTorch half: encoder and decoder of attention over patches, as modules.

Names and layouts of parameters are those of the weights file: kernels [out, in], positions [patches, width].
"""

# setup, __call__ and forward are what the class's docstring says
# ruff: noqa: D102

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import LayerNorm
from torch.nn import functional as F

from ae_core.spec import Spec
from ae_torch.model.backbone import make_decoder, make_encoder
from ae_torch.model.bottleneck import NO_NOISE, Noise
from twin_attention import AttentionBackbone, Gelu


class Linear(nn.Linear):
    """y = x·Wᵀ + b, of each token."""

    def __init__(self, in_features: int, out_features: int, use_bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias=use_bias)


class Positions(nn.Module):
    """A learned vector for each place, added to its token."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(tokens, width))

    def forward(self, x: Float[Tensor, "B P W"]) -> Float[Tensor, "B P W"]:
        return x + self.weight


class Attention(nn.Module):
    """Multi-head self-attention. Source: Vaswani et al. (2017), section 3.2."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = Linear(width, width)
        # what a bias adds to a query's scores is the same for all keys, and softmax takes it away again
        self.key = Linear(width, width, use_bias=False)
        self.value = Linear(width, width)
        self.output = Linear(width, width)

    def forward(self, x: Float[Tensor, "B P W"]) -> Float[Tensor, "B P W"]:
        shape = (*x.shape[:2], self.heads, x.shape[2] // self.heads)
        query, key, value = (layer(x).reshape(shape) for layer in (self.query, self.key, self.value))
        scores = torch.einsum("bphd,bqhd->bhpq", query, key) / math.sqrt(shape[-1])
        mixed = torch.einsum("bhpq,bqhd->bphd", torch.softmax(scores, -1), value)
        output: Tensor = self.output(mixed.reshape(x.shape))
        return output


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, backbone: AttentionBackbone) -> None:
        super().__init__()
        self.inner = Linear(backbone.width, backbone.mlp_width)
        self.output = Linear(backbone.mlp_width, backbone.width)
        self.activation = make_gelu(backbone.activation)

    def forward(self, x: Float[Tensor, "B P W"]) -> Float[Tensor, "B P W"]:
        output: Tensor = self.output(self.activation(self.inner(x)))
        return output


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)). Source: Xiong et al. (2020), table 1, right."""

    def __init__(self, backbone: AttentionBackbone) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(backbone.width, backbone.eps)
        self.attention = Attention(backbone.width, backbone.heads)
        self.mlp_norm = LayerNorm(backbone.width, backbone.eps)
        self.mlp = MLP(backbone)

    def forward(self, x: Float[Tensor, "B P W"]) -> Float[Tensor, "B P W"]:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class AttentionEncoder(nn.Module):
    """Images to features, [B, F]."""

    def __init__(self, spec: Spec, backbone: AttentionBackbone) -> None:
        super().__init__()
        self.backbone, shape = backbone, spec.input_shape
        self.embedding = Linear(backbone.patch**2 * shape[2], backbone.width)
        self.positions = Positions(backbone.tokens(shape), backbone.width)
        self.blocks = nn.ModuleList(Block(backbone) for _ in range(backbone.depth))

    def forward(self, x: Float[Tensor, "B H W C"], noise: Noise = NO_NOISE) -> Float[Tensor, "B F"]:
        x = self.positions(self.embedding(to_patches(x, self.backbone.patch)))
        for block in self.blocks:
            x = block(x)
        return x.mean(1) if self.backbone.pool == "mean" else x.flatten(1)


class AttentionDecoder(nn.Module):
    """Codes to logits or means, [B, H, W, C]."""

    def __init__(self, spec: Spec, backbone: AttentionBackbone) -> None:
        super().__init__()
        self.spec, self.backbone = spec, backbone
        tokens = backbone.tokens(spec.input_shape)
        # the positions are its bias
        self.inner = Linear(spec.latent_size, tokens * backbone.width, use_bias=False)
        self.positions = Positions(tokens, backbone.width)
        self.blocks = nn.ModuleList(Block(backbone) for _ in range(backbone.depth))
        self.norm = LayerNorm(backbone.width, backbone.eps)
        self.output = Linear(backbone.width, backbone.patch**2 * spec.input_shape[2])

    def forward(self, z: Float[Tensor, "B ..."], noise: Noise = NO_NOISE) -> Float[Tensor, "B H W C"]:
        x = self.inner(z.flatten(1)).unflatten(1, (-1, self.backbone.width))
        x = self.positions(x)
        for block in self.blocks:
            x = block(x)
        return from_patches(self.output(self.norm(x)), self.spec.input_shape, self.backbone.patch)


def make_gelu(name: Gelu) -> Callable[[Tensor], Tensor]:
    """Return the GELU of that name."""
    return lambda x: F.gelu(x, approximate="tanh" if name == "gelu_tanh" else "none")


def to_patches(x: Float[Tensor, "B H W C"], patch: int) -> Float[Tensor, "B P N"]:
    """Cut images into patches, row by row, each with its pixels row by row."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(batch, -1, patch * patch * channels)


def from_patches(x: Float[Tensor, "B P N"], shape: tuple[int, int, int], patch: int) -> Float[Tensor, "B H W C"]:
    """Put together the images [H, W, C] that `to_patches` cut."""
    height, width, channels = shape
    x = x.reshape(-1, height // patch, width // patch, patch, patch, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, *shape)


@make_encoder.register
def _encoder(backbone: AttentionBackbone, spec: Spec) -> AttentionEncoder:
    return AttentionEncoder(spec, backbone)


@make_decoder.register
def _decoder(backbone: AttentionBackbone, spec: Spec) -> AttentionDecoder:
    return AttentionDecoder(spec, backbone)
