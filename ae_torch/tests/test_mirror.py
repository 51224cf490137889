"""A mirrored model computes the same, and PyTorch copies nothing for its padding."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ae_core.rng import generator
from ae_core.spec import BatchNorm, ConvBackbone, GaussianBottleneck, GroupNorm, LayerNorm, Spec, Training
from ae_core.spec.presets import PRESETS
from ae_torch.execution.mirror import LEAST, mirror, mirrors
from ae_torch.model.autoencoder import Autoencoder

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
    loss = model.loss(images, noise).total
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
        model.loss(images, noise).total.backward()
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
