"""Convolutions that see their images turned by 180°, for padding that is longer at the end than at the start.

`torch.nn.Conv2d` pads both ends alike, and with a stride leaves unread what is too much at the end; its transpose can
give pixels back at the end alone. Padding that is longer at the end, as "same" is with an even stride, therefore costs
a padded copy of every layer's input, or a cut of its output. Turned by 180°, with turned kernels, the same sums have
the longer padding at the start, where PyTorch does by itself what is wanted. So images are turned where they enter and
leave a half of the model, and the small kernels at each use; no layer in between copies anything.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ae_torch.model.autoencoder import Autoencoder
from ae_torch.model.layers import Conv, ConvTranspose

LEAST = 2
"""Fewer images go through unturned: on two cores turning costs one image a tenth of its time, and spares two a fifth of
theirs, 32 nearly half."""


def mirrors(model: Autoencoder) -> bool:
    """Say whether PyTorch has to copy for the padding of the convolutions, and need not for their mirror image."""
    layers = _layers(model)
    return any(layer.extra is not None for layer in layers) and all(_image(layer).extra is None for layer in layers)


def mirror(model: Autoencoder) -> None:
    """Have the convolutions work on turned images, in place; what goes in, comes out and is learned stays the same.

    A model that does not gain by it, see `mirrors`, is left as it is.
    """
    if not mirrors(model):
        return
    for layer in _layers(model):
        _turn(layer, _image(layer))
    encoder: Any = model.encoder
    decoder: Any = model.decoder
    for first, last in ((encoder.blocks[0], encoder.blocks[-1]), (decoder.blocks[0], decoder.output)):
        first.register_forward_pre_hook(lambda _, inputs: (_turned(inputs[0]),))
        last.register_forward_hook(lambda _, inputs, result: _turned(result))


def _layers(model: Autoencoder) -> list[Conv | ConvTranspose]:
    return [layer for layer in model.modules() if isinstance(layer, Conv | ConvTranspose)]


def _image(layer: Conv | ConvTranspose) -> Conv | ConvTranspose:
    """Return a layer of one channel with the padding of the layer's mirror image."""
    with torch.device("meta"):  # only its padding is wanted
        return type(layer)(1, 1, layer.kernel_size[0], layer.stride[0], layer.edges[::-1])


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
