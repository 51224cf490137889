"""The dense autoencoder: fully connected layers on flattened images."""

import math
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from ae_core.spec import DenseBackbone, Spec
from ae_core.spec.backbone import dropout_site
from ae_torch.model.backbone import make_decoder, make_encoder
from ae_torch.model.bottleneck import NO_NOISE, Noise
from ae_torch.model.dropout import make_dropout
from ae_torch.model.layers import Linear, make_activation
from ae_torch.model.norm import make_norm


class DenseBlock(nn.Module):
    """y = activation(norm(linear(x)))."""

    def __init__(self, in_features: int, out_features: int, backbone: DenseBackbone) -> None:
        super().__init__()
        self.linear = Linear(in_features, out_features, use_bias=backbone.norm is None)
        self.norm = None if backbone.norm is None else make_norm(backbone.norm, out_features)
        self.activation = make_activation(backbone.activation, backbone.negative_slope)
        self.dropout = make_dropout(backbone.dropout)

    def forward(self, x: Float[Tensor, "B I"], noise: Float[Tensor, "B O"] | None = None) -> Float[Tensor, "B O"]:
        x = self.linear(x)
        if self.norm is not None:
            x = self.norm(x)
        x = self.activation(x)
        return x if self.dropout is None else self.dropout(x, noise)


class DenseEncoder(nn.Module):
    """Images to features, [B, F]."""

    def __init__(self, spec: Spec, backbone: DenseBackbone) -> None:
        super().__init__()
        widths = (math.prod(spec.input_shape), *backbone.hidden)
        self.blocks = nn.ModuleList(DenseBlock(a, b, backbone) for a, b in pairwise(widths))

    def forward(self, x: Float[Tensor, "B H W C"], noise: Noise = NO_NOISE) -> Float[Tensor, "B F"]:
        x = x.flatten(1)
        for i, block in enumerate(self.blocks):
            x = block(x, noise.get(dropout_site("encoder", i)))
        return x


class DenseDecoder(nn.Module):
    """Codes to logits or means, [B, H, W, C]."""

    def __init__(self, spec: Spec, backbone: DenseBackbone) -> None:
        super().__init__()
        self.spec = spec
        widths = (spec.latent_size, *reversed(backbone.hidden))
        self.blocks = nn.ModuleList(DenseBlock(a, b, backbone) for a, b in pairwise(widths))
        self.output = Linear(widths[-1], math.prod(spec.input_shape))

    def forward(self, z: Float[Tensor, "B ..."], noise: Noise = NO_NOISE) -> Float[Tensor, "B H W C"]:
        x = z.flatten(1)
        for i, block in enumerate(self.blocks):
            x = block(x, noise.get(dropout_site("decoder", i)))
        return self.output(x).unflatten(1, self.spec.input_shape)


@make_encoder.register
def _encoder(backbone: DenseBackbone, spec: Spec) -> DenseEncoder:
    return DenseEncoder(spec, backbone)


@make_decoder.register
def _decoder(backbone: DenseBackbone, spec: Spec) -> DenseDecoder:
    return DenseDecoder(spec, backbone)
