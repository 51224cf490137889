"""The convolutional autoencoder: strided convolutions down, a dense layer, and their transposes up again."""

import math
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from ae_core.spec import ConvBackbone, Spec
from ae_core.spec.backbone import dropout_site
from ae_core.spec.geometry import crops, pads
from ae_torch.model.backbone import make_decoder, make_encoder
from ae_torch.model.bottleneck import NO_NOISE, Noise
from ae_torch.model.dropout import make_dropout
from ae_torch.model.layers import Conv, ConvTranspose, Linear, make_activation
from ae_torch.model.norm import make_norm


class ConvBlock(nn.Module):
    """y = activation(norm(conv(x))), or with the transposed convolution in its place."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        backbone: ConvBackbone,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        bias = backbone.norm is None
        layer, margin = (ConvTranspose, crops) if transposed else (Conv, pads)
        edges = margin(backbone.kernel, stride, backbone.padding)
        self.conv = layer(in_channels, out_channels, backbone.kernel, stride, edges, use_bias=bias)
        self.norm = None if backbone.norm is None else make_norm(backbone.norm, out_channels)
        self.activation = make_activation(backbone.activation, backbone.negative_slope)
        self.dropout = make_dropout(backbone.dropout)

    def forward(
        self, x: Float[Tensor, "B I H W"], noise: Float[Tensor, "B h w O"] | None = None
    ) -> Float[Tensor, "B O h w"]:
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        x = self.activation(x)
        return x if self.dropout is None else self.dropout(x, noise)


class ConvEncoder(nn.Module):
    """Images to features, [B, h, w, c]."""

    def __init__(self, spec: Spec, backbone: ConvBackbone) -> None:
        super().__init__()
        channels = (spec.input_shape[2], *backbone.channels)
        layers = zip(pairwise(channels), backbone.strides, strict=True)
        self.blocks = nn.ModuleList(ConvBlock(a, b, stride, backbone) for (a, b), stride in layers)

    def forward(self, x: Float[Tensor, "B H W C"], noise: Noise = NO_NOISE) -> Float[Tensor, "B h w c"]:
        x = x.movedim(-1, 1)  # a view: NHWC memory is what PyTorch calls channels_last
        for i, block in enumerate(self.blocks):
            x = block(x, noise.get(dropout_site("encoder", i)))
        return x.movedim(1, -1)

    def turning_ends(self) -> tuple[nn.Module, nn.Module]:
        """Return the first and the last module on the images' way; see `ae_torch.execution.mirror`."""
        return self.blocks[0], self.blocks[-1]


class ConvDecoder(nn.Module):
    """Codes to logits or means, [B, H, W, C]."""

    def __init__(self, spec: Spec, backbone: ConvBackbone) -> None:
        super().__init__()
        self.feature_shape = backbone.feature_shape(spec.input_shape)
        channels = (backbone.channels[-1], *reversed(backbone.channels))
        layers = zip(pairwise(channels), reversed(backbone.strides), strict=True)
        self.inner = Linear(spec.latent_size, math.prod(self.feature_shape))
        self.blocks = nn.ModuleList(ConvBlock(a, b, stride, backbone, transposed=True) for (a, b), stride in layers)
        edges = pads(backbone.kernel, 1, backbone.padding)
        self.output = Conv(channels[-1], spec.input_shape[2], backbone.kernel, 1, edges)

    def forward(self, z: Float[Tensor, "B ..."], noise: Noise = NO_NOISE) -> Float[Tensor, "B H W C"]:
        x = self.inner(z.flatten(1)).unflatten(1, self.feature_shape).movedim(-1, 1)
        for i, block in enumerate(self.blocks):
            x = block(x, noise.get(dropout_site("decoder", i)))
        return self.output(x).movedim(1, -1)

    def turning_ends(self) -> tuple[nn.Module, nn.Module]:
        """Return the first and the last module on the images' way; see `ae_torch.execution.mirror`."""
        return self.blocks[0], self.output


@make_encoder.register
def _encoder(backbone: ConvBackbone, spec: Spec) -> ConvEncoder:
    return ConvEncoder(spec, backbone)


@make_decoder.register
def _decoder(backbone: ConvBackbone, spec: Spec) -> ConvDecoder:
    return ConvDecoder(spec, backbone)
