"""Convolutions that see their images turned by 180°, for padding that is longer at the end than at the start.

`torch.nn.Conv2d` pads both ends alike, and with a stride leaves unread what is too much at the end; its transpose can
give pixels back at the end alone. Padding that is longer at the end, as "same" is with an even stride, therefore costs
a padded copy of every layer's input, or a cut of its output. Turned by 180°, with turned kernels, the same sums have
the longer padding at the start, where PyTorch does by itself what is wanted. So images are turned where they enter and
leave a half of the model, and the small kernels at each use; no layer in between copies anything.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ae_core.geometry import crops, pads
from ae_core.spec import ConvBackbone, Spec
from ae_torch.layers import Conv, ConvTranspose
from ae_torch.model import Autoencoder

LEAST = 2
"""Fewer images go through unturned: on two cores turning costs one image a tenth of its time, and spares two a fifth of
theirs, 32 nearly half."""

Layers = tuple[list[Conv], list[ConvTranspose], Conv]
"""Of the encoder and of the decoder, and the decoder's last."""


def mirrors(spec: Spec) -> bool:
    """Say whether PyTorch has to copy for the spec's padding, and need not for its mirror image."""
    if not isinstance(spec.backbone, ConvBackbone):
        return False
    straight, turned = _layers(spec.backbone, 1), _layers(spec.backbone, -1)
    return _copies(straight) and not _copies(turned)


def mirror(model: Autoencoder) -> None:
    """Have the convolutions work on turned images, in place; what goes in, comes out and is learned stays the same.

    For a model whose spec `mirrors`.
    """
    assert isinstance(model.spec.backbone, ConvBackbone)
    convolutions, transposed, output = _layers(model.spec.backbone, -1)
    encoder: Any = model.encoder
    decoder: Any = model.decoder
    for block, image in zip((*encoder.blocks, *decoder.blocks), (*convolutions, *transposed), strict=True):
        _turn(block.conv, image)
    _turn(decoder.output, output)
    for first, last in ((encoder.blocks[0], encoder.blocks[-1]), (decoder.blocks[0], decoder.output)):
        first.register_forward_pre_hook(lambda _, inputs: (_turned(inputs[0]),))
        last.register_forward_hook(lambda _, inputs, result: _turned(result))


def _layers(backbone: ConvBackbone, order: Literal[1, -1]) -> Layers:
    """Return layers of one channel with the backbone's padding, for −1 of its mirror image."""
    kernel, strides, padding = backbone.kernel, backbone.strides, backbone.padding
    with torch.device("meta"):  # only their padding is wanted
        convolutions = [Conv(1, 1, kernel, s, pads(kernel, s, padding)[::order]) for s in strides]
        transposed = [ConvTranspose(1, 1, kernel, s, crops(kernel, s, padding)[::order]) for s in reversed(strides)]
        return convolutions, transposed, Conv(1, 1, kernel, 1, pads(kernel, 1, padding)[::order])


def _copies(layers: Layers) -> bool:
    return any(layer.extra is not None for layer in (*layers[0], *layers[1], layers[2]))


def _turn(layer: Conv | ConvTranspose, image: Any) -> None:
    straight = layer.forward

    def convolve(x: Tensor) -> Tensor:
        if len(x) < LEAST:
            return straight(x)
        kernel = layer.weight.flip(2, 3)
        if isinstance(layer, Conv):
            return F.conv2d(x, kernel, layer.bias, image.stride, image.padding)
        return F.conv_transpose2d(x, kernel, layer.bias, image.stride, image.padding, image.output_padding)

    layer.forward = convolve  # type: ignore[method-assign]


def _turned(images: Tensor) -> Tensor:
    return images if len(images) < LEAST else images.flip(2, 3)
