"""Convolutions that see their images turned by 180°, for padding that is longer at the end than at the start.

`torch.nn.Conv2d` pads both ends alike, and with a stride leaves unread what is too much at the end; its transpose can
give pixels back at the end alone. Padding that is longer at the end, as "same" is with an even stride, therefore costs
a padded copy of every layer's input, or a cut of its output. Turned by 180°, with turned kernels, the same sums have
the longer padding at the start, where PyTorch does by itself what is wanted. So images are turned where they enter and
leave a part of the model, and the small kernels at each use; no layer in between copies anything.

Which part that may be, a module says by being `Turning`. It is not taken at its word: a model is turned only where a
copy of it with random weights and noise, turned, gives the same numbers, see `mirrors`.
"""

import copy
import math
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ae_torch.model.autoencoder import Autoencoder
from ae_torch.model.bottleneck import Noise
from ae_torch.model.layers import Conv, ConvTranspose

LEAST = 2
"""Fewer images go through unturned: on two cores turning costs one image a tenth of its time, and spares two a fifth of
theirs, 32 nearly half."""
TRIALS = ((False, LEAST - 1), (False, LEAST), (True, LEAST + 1))
"""Whether in training and on how many images a turned model is compared with itself; each with other weights, for one
set may happen to silence a layer."""


@runtime_checkable
class Turning(Protocol):
    """A module through a part of which images may go turned by 180°."""

    def turning_ends(self) -> tuple[nn.Module, nn.Module]:
        """Return the first module that gets images, [B, C, H, W], and the last that gives them.

        Between them lie all convolutions of the module, on every way through it, and whatever else works on each
        position alone or on all alike, such as norms, activations and sums.
        """
        ...


def convolutions(model: nn.Module) -> list[nn.Module]:
    """Return all layers of a model that convolve, in the order in which they are registered."""
    kinds = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
    return [module for module in model.modules() if isinstance(module, kinds)]


def mirrors(model: Autoencoder) -> bool:
    """Say whether to turn a model: PyTorch copies for its padding, would not turned, and the numbers stay the same.

    All convolutions have to be this package's own, within modules that are `Turning`.
    """
    within = {module for part in _parts(model) for module in part.modules()}
    layers: list[Any] = convolutions(model)
    if any(type(x) not in (Conv, ConvTranspose) or x not in within for x in layers):
        return False
    gains = any(x.extra is not None for x in layers) and all(_image(x).extra is None for x in layers)
    return gains and _stays_the_same(model)


def mirror(model: Autoencoder) -> None:
    """Have the convolutions work on turned images, in place; what goes in, comes out and is learned stays the same.

    A model that does not gain by it, or would not stay the same, see `mirrors`, is left as it is.
    """
    if mirrors(model):
        _turn(model)


def _parts(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, Turning)]


def _stays_the_same(model: Autoencoder) -> bool:
    straight = copy.deepcopy(model)
    turned = copy.deepcopy(straight)
    _turn(turned)
    return all(
        _agree(straight.train(training), turned.train(training), count, seed)
        for seed, (training, count) in enumerate(TRIALS)
    )


@torch.no_grad()
def _agree(straight: Autoencoder, turned: Autoencoder, count: int, seed: int) -> bool:
    """Say whether the results have half of their digits in common, normwise, with random weights.

    Another order of the sums leaves a few units of the last digit a layer; a model that may not be turned is off by a
    share of its numbers, in the order of 1.
    """
    generator = torch.Generator().manual_seed(seed)
    for ours, theirs in zip(straight.parameters(), turned.parameters(), strict=True):
        # kernels that keep the size of what goes through; offsets above 0, so that few units are silent
        values = torch.randn(ours.shape, generator=generator)
        values = values / math.sqrt(ours.numel() / len(ours)) if ours.ndim > 1 else values.abs()
        ours.copy_(values)
        theirs.copy_(values)
    like = next(straight.parameters())
    images = torch.randn((count, *straight.spec.input_shape), generator=generator).to(like)
    sites = straight.spec.noise_sites
    noise = {name: torch.rand((count, *site.shape), generator=generator).to(like) for name, site in sites.items()}
    pairs = list(zip(_results(straight, images, noise), _results(turned, images, noise), strict=True))
    limits = [math.sqrt(torch.finfo(a.dtype).eps) * torch.linalg.norm(a) for a, _ in pairs]
    return all(torch.linalg.norm(a - b) <= limit for (a, b), limit in zip(pairs, limits, strict=True))


def _results(model: Autoencoder, images: Tensor, noise: Noise) -> list[Tensor]:
    code, output = model(images, noise)
    return [value for value in (*code, output) if isinstance(value, Tensor)]


def _turn(model: nn.Module) -> None:
    for layer in convolutions(model):
        _turn_layer(layer, _image(layer))
    for part in _parts(model):
        first, last = part.turning_ends()
        first.register_forward_pre_hook(lambda _, inputs: (_turned(inputs[0]), *inputs[1:]))
        last.register_forward_hook(lambda _, inputs, result: _turned(result))


def _image(layer: Any) -> Conv | ConvTranspose:
    """Return a layer of one channel with the padding of the layer's mirror image."""
    with torch.device("meta"):  # only its padding is wanted
        return type(layer)(1, 1, layer.kernel_size[0], layer.stride[0], layer.edges[::-1])


def _turn_layer(layer: Any, image: Any) -> None:
    straight = layer.forward

    def convolve(x: Tensor) -> Tensor:
        if len(x) < LEAST:
            return straight(x)
        kernel = layer.weight.flip(2, 3)
        if isinstance(layer, Conv):
            return F.conv2d(x, kernel, layer.bias, image.stride, image.padding)
        return F.conv_transpose2d(x, kernel, layer.bias, image.stride, image.padding, image.output_padding)

    layer.forward = convolve


def _turned(images: Tensor) -> Tensor:
    return images if len(images) < LEAST else images.flip(2, 3)
