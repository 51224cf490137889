"""A mirrored model computes the same, and PyTorch copies nothing for its padding; what would not is left as it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ae_core.rng import generator
from ae_core.spec import BatchNorm, ConvBackbone, GaussianBottleneck, GroupNorm, LayerNorm, Spec, Training
from ae_core.spec.presets import PRESETS
from ae_torch.execution.mirror import LEAST, Turning, convolutions, mirror, mirrors
from ae_torch.execution.variants import VARIANTS, laid_out
from ae_torch.model.autoencoder import Autoencoder
from ae_torch.model.conv import ConvEncoder
from ae_torch.model.layers import Conv, ConvTranspose

LIMIT = 1e-13
"""Of float64 agreement, normwise: the same sums, in another order."""
TRAINING = Training(batch_size=4, precision="float64")
BACKBONES = {
    "kernel 3, stride 2": ConvBackbone((3, 4), (2, 2)),
    "kernel 5, strides 2 and 4": ConvBackbone((3, 4), (2, 4), kernel=5),
    "kernel 3, strides 1 and 2": ConvBackbone((3, 4), (1, 2)),
    "batch norm": ConvBackbone((3, 4), (2, 2), norm=BatchNorm()),
    "group norm": ConvBackbone((2, 4), (2, 2), norm=GroupNorm(2)),
    "layer norm": ConvBackbone((3, 4), (2, 2), norm=LayerNorm()),
}


def spec_of(backbone):
    return Spec((16, 8, 2), backbone, GaussianBottleneck(2), training=TRAINING)


def pair(backbone):
    spec = spec_of(backbone)
    straight, turned = Autoencoder(spec).init(1), Autoencoder(spec).init(1)
    mirror(turned)
    return straight, turned


def batch(count):
    random = generator(0, "mirror")
    return torch.tensor(random.random((count, 16, 8, 2))), torch.tensor(random.standard_normal((count, 2)))


def outcome(model, count):
    images, noise = batch(count)
    loss = model.loss(images, {"bottleneck": noise}).total
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    code = model.encode(images)
    values = {"loss": loss, "z": code.z, "decoded": model.decode(code.z)}
    names = [name for name, _ in model.named_parameters()]
    found = values | dict(zip(names, gradients, strict=True)) | dict(model.state_dict())
    return {name: value.detach().double().numpy() for name, value in found.items()}


@pytest.mark.parametrize(
    ("name", "count"),
    # batch norm wants more than one image
    [(name, count) for name in BACKBONES for count in (1, LEAST, 5) if count > 1 or name != "batch norm"],
)
def test_same_numbers(name, count):
    assert mirrors(Autoencoder(spec_of(BACKBONES[name])))
    straight, turned = (outcome(model.train(), count) for model in pair(BACKBONES[name]))
    assert straight.keys() == turned.keys()
    for key in straight:
        assert np.linalg.norm(straight[key] - turned[key]) <= LIMIT * np.linalg.norm(straight[key]), key
    if count >= LEAST:
        assert any((straight[key] != turned[key]).any() for key in straight)


class Seen(TorchDispatchMode):
    """The operations that PyTorch runs."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def operations(model, count):
    images, noise = batch(count)
    with Seen() as seen:
        model.loss(images, {"bottleneck": noise}).total.backward()
    return seen.names


def test_nothing_is_copied_for_padding():
    straight, turned = pair(BACKBONES["kernel 3, stride 2"])
    before, after = operations(straight, LEAST), operations(turned, LEAST)
    assert "constant_pad_nd" in before
    assert "slice" in before
    assert "constant_pad_nd" not in after
    assert "slice" not in after


def test_few_images_are_not_turned():
    _, turned = pair(BACKBONES["kernel 3, stride 2"])
    assert "flip" not in operations(turned, LEAST - 1)
    assert "flip" in operations(turned, LEAST)


def test_only_what_gains_is_mirrored():
    conv = PRESETS["foster-ae"]
    copy_nothing = [replace(conv.backbone, padding="torch"), replace(conv.backbone, kernel=2)]
    at_stride_1_nothing_may_go_unread = ConvBackbone((3,), (1,), kernel=4)
    for backbone in (*copy_nothing, at_stride_1_nothing_may_go_unread, PRESETS["dense-mnist"].backbone):
        model = Autoencoder(replace(conv, backbone=backbone))
        forwards = [vars(module).get("forward") for module in model.modules()]
        assert not mirrors(model)
        mirror(model)
        assert [vars(module).get("forward") for module in model.modules()] == forwards
    assert mirrors(Autoencoder(conv))


SAME = (0, 1)
"""Padding of kernel 3 at stride 2: longer at the end."""


class Shortcut(nn.Module):
    """y = relu(norm(conv(x)) + x)."""

    def __init__(self, channels):
        super().__init__()
        self.conv = Conv(channels, channels, 3, 1, (1, 1), use_bias=False)
        self.norm = nn.GroupNorm(1, channels)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)) + x)


class Part(nn.Module):
    """Encoder from [B, 16, 8, 2] to [B, 8, 4, 4], by layers in a row."""

    def __init__(self, *layers):
        super().__init__()
        self.blocks = nn.Sequential(*layers)

    def forward(self, x, noise):
        return self.blocks(x.movedim(-1, 1)).movedim(1, -1)


class Whole(Part):
    """One that says that its images may be turned from the first layer to the last."""

    def turning_ends(self):
        return self.blocks[0], self.blocks[-1]


class ResidualDecoder(nn.Module):
    """From a code to [B, 16, 8, 2], with a connection over the transposed convolution too."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 8 * 4 * 4)
        self.up = nn.ModuleList([Up(4, 4), Shortcut(4)])
        self.last = Conv(4, 2, 3, 1, (1, 1))

    def forward(self, z, noise):
        x = self.inner(z).unflatten(1, (8, 4, 4)).movedim(-1, 1)
        for module in self.up:
            x = module(x)
        return self.last(x).movedim(1, -1)

    def turning_ends(self):
        return self.up[0], self.last


class Up(nn.Module):
    """A transposed convolution of stride 2, and beside it one of side 1 on every pixel doubled."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = ConvTranspose(inputs, outputs, 3, 2, SAME)
        self.beside = Conv(inputs, outputs, 1, 1, (0, 0))

    def forward(self, x):
        return self.conv(x) + self.beside(x.repeat_interleave(2, 2).repeat_interleave(2, 3))


class Position(nn.Module):
    """What a position adds; at the start nothing, and 180° turned always something else."""

    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(4, 8, 4))

    def forward(self, x):
        return x + self.offset


class Patches(nn.Module):
    """A convolution on each half of an image by itself: there are more of them than images."""

    def __init__(self):
        super().__init__()
        self.conv = Conv(4, 4, 3, 1, (1, 1))

    def forward(self, x):
        halves = x.unflatten(2, (2, -1)).transpose(1, 2).flatten(0, 1)
        return self.conv(halves).unflatten(0, (-1, 2)).transpose(1, 2).flatten(2, 3)


class Masked(Conv):
    """A convolution of another kind: it does not see the pixel below."""

    def forward(self, x):
        kernel = self.weight.clone()
        kernel[:, :, 2, 1] = 0
        return nn.functional.conv2d(nn.functional.pad(x, self.extra), kernel, self.bias, 2)


class ConvHead(nn.Module):
    """A bottleneck that convolves."""

    def __init__(self, inner):
        super().__init__()
        self.conv = Conv(4, 4, 3, 1, (1, 1))
        self.inner = inner

    def forward(self, x, noise):
        return self.inner(self.conv(x.movedim(-1, 1)).movedim(1, -1), noise)


def down():
    return Conv(2, 4, 3, 2, SAME)


def hand_written(encoder=None, decoder=None, head=None):
    model = Autoencoder(spec_of(ConvBackbone((4,), (2,), activation="silu"))).init(1)
    torch.manual_seed(0)
    if encoder is not None:
        model.encoder = encoder()
    if decoder is not None:
        model.decoder = decoder()
    if head is not None:
        model.bottleneck = head(model.bottleneck)
    return model.double().to(memory_format=torch.channels_last)


class BeforeItsBlocks(ConvEncoder):
    """What `ConvEncoder` says of itself holds no longer: there is a convolution before its blocks."""

    def __init__(self, spec, backbone):
        super().__init__(spec, backbone)
        self.stem = Conv(2, 2, 3, 1, (1, 1))

    def forward(self, x, noise):
        return super().forward(self.stem(x.movedim(-1, 1)).movedim(1, -1))


def before_its_blocks():
    spec = spec_of(ConvBackbone((4,), (2,), activation="silu"))
    return BeforeItsBlocks(spec, spec.backbone)


TURNED = {
    "residual encoder": {"encoder": lambda: Whole(down(), Shortcut(4), Shortcut(4))},
    "residual decoder": {"decoder": ResidualDecoder},
    "both": {"encoder": lambda: Whole(down(), Shortcut(4)), "decoder": ResidualDecoder},
    "unknown norm": {"encoder": lambda: Whole(down(), nn.InstanceNorm2d(4, affine=True))},
}
LEFT = {
    "says nothing": {"encoder": lambda: Part(down(), Shortcut(4))},
    "before its blocks": {"encoder": before_its_blocks},
    "positions": {"encoder": lambda: Whole(down(), Position(), Shortcut(4))},
    "patches": {"encoder": lambda: Whole(down(), Patches())},
    "masked": {"encoder": lambda: Whole(Masked(2, 4, 3, 2, SAME))},
    "PyTorch's own": {"encoder": lambda: Whole(down(), nn.Conv2d(4, 4, (3, 1), padding=(1, 0)))},
    "in the bottleneck": {"head": ConvHead},
}


def equal(ours, theirs):
    return all(np.linalg.norm(ours[key] - theirs[key]) <= LIMIT * np.linalg.norm(ours[key]) for key in ours)


@pytest.mark.parametrize("name", [*TURNED, *LEFT])
@pytest.mark.parametrize("count", [1, LEAST, 5])
def test_models_of_other_kinds_keep_their_numbers(name, count):
    parts = (TURNED | LEFT)[name]
    model = laid_out(hand_written(**parts), VARIANTS["channels_last"])
    assert equal(outcome(hand_written(**parts).train(), count), outcome(model.train(), count))


@pytest.mark.parametrize("name", TURNED)
def test_models_of_other_kinds_are_turned(name):
    assert mirrors(hand_written(**TURNED[name]))
    assert "flip" in operations(laid_out(hand_written(**TURNED[name]), VARIANTS["channels_last"]), LEAST)


@pytest.mark.parametrize("name", LEFT)
def test_others_are_left_as_they_are(name):
    model = hand_written(**LEFT[name])
    assert not mirrors(model)
    mirror(model)
    assert "flip" not in operations(model, LEAST)


@pytest.mark.parametrize("name", [name for name in LEFT if name != "PyTorch's own"])
def test_turned_they_would_not_keep_their_numbers(name, monkeypatch):
    model, turned = hand_written(**LEFT[name]), hand_written(**LEFT[name])
    for each in (model, turned):
        for parameter in each.parameters():
            nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    monkeypatch.setattr("ae_torch.execution.mirror.mirrors", lambda model: True)
    mirror(turned)
    assert not all(equal(outcome(model.train(), count), outcome(turned.train(), count)) for count in (1, LEAST))


def test_every_convolution_lies_in_a_module_that_says_so():
    """Turning a kernel of one pixel does no harm, but nobody has vouched for it."""
    model = hand_written(head=ConvHead)
    model.bottleneck.conv = Conv(4, 4, 1, 1, (0, 0)).double()
    assert not mirrors(model)


def test_turned_once_is_enough():
    model = hand_written()
    mirror(model)
    assert not mirrors(model)
    mirror(model)
    assert equal(outcome(hand_written().train(), LEAST), outcome(model.train(), LEAST))


def test_asking_changes_nothing():
    model = hand_written()
    before, state = {n: v.clone() for n, v in model.state_dict().items()}, torch.get_rng_state()
    assert mirrors(model.eval())
    assert all((before[name] == value).all() for name, value in model.state_dict().items())
    assert (torch.get_rng_state() == state).all()
    assert not model.training
    assert all("forward" not in vars(layer) for layer in convolutions(model))


def test_who_is_turning():
    assert isinstance(Whole(down()), Turning)
    assert not isinstance(Part(down()), Turning)
    assert [type(layer) for layer in convolutions(ResidualDecoder())] == [ConvTranspose, Conv, Conv, Conv]
