"""Every variant of the published grid computes what eager PyTorch computes."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from ae_core.errors import SpecError, UserError
from ae_core.rng import generator
from ae_core.spec import Adam, BatchNorm, ConvBackbone, GaussianBottleneck, PlainBottleneck, Spec, Training
from ae_core.spec.presets import PRESETS
from ae_core.training.initial import initial_weights
from ae_core.training.loop import make_steps
from ae_torch.engine import ENGINE, Inference, Trainer
from ae_torch.execution.variants import COMPILE_STEPS, VARIANTS, WHOLE_BATCH, Variant, choose, compiled, laid_out
from ae_torch.model.autoencoder import Autoencoder

LIMIT = 1e-11
"""Of float64 agreement, normwise: rounding leaves about 1e-15 here, a wrong hyper-parameter shows at 1e-8."""

# in a process of its own: the checks that the tests hook into every annotation cannot be compiled
_COMPARE = """
import json, sys
import numpy as np
import torch
from ae_core.training.initial import initial_weights
from ae_core.training.loop import make_steps
from ae_core.rng import generator
from ae_core.spec import Adam, BatchNorm, ConvBackbone, GaussianBottleneck, SGD, Cosine, Spec, Training
from ae_torch.engine import ENGINE, Inference, Trainer
from ae_torch.execution.variants import VARIANTS

torch.set_num_threads(1)
optimizer = {"adam": Adam(), "sgd": SGD()}[sys.argv[1]]
training = Training(optimizer, Cosine(2), batch_size=8, epochs=3, precision="float64")
spec = Spec((4, 4, 1), ConvBackbone((3,), (2,), norm=BatchNorm()), GaussianBottleneck(2, Cosine(2)), training=training)
images = generator(0, "images").random((20, 4, 4, 1)).astype(np.float32)  # two batches of 8 and one of 4
start = initial_weights(ENGINE.shapes(spec), spec, 0)

def outcome(variant):
    trainer = Trainer(spec, start, images, variant)
    terms = [trainer.advance(make_steps(spec, 20, 0, epoch, 0, 3)) for epoch in range(2)]
    model = Inference(spec, trainer.tensors(), variant)
    codes = model.encode(images[:7])
    return trainer.tensors() | {name: np.concatenate([t[name] for t in terms]) for name in terms[0]} | {
        "evaluation": np.array(list(trainer.evaluate(images).values())),
        "encode": codes, "decode": model.decode(codes), "reconstruct": model.reconstruct(images),
    }

plain = outcome(VARIANTS["eager"])
found = {}
for name in sys.argv[2:]:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    other = outcome(VARIANTS[name])
    assert other.keys() == plain.keys()
    distance = max(np.linalg.norm(other[k] - plain[k]) / np.linalg.norm(plain[k]) for k in plain)
    found[name] = distance, torch._dynamo.utils.counters["stats"]["unique_graphs"]
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("optimizer", "names"),
    [
        ("adam", [n for n, v in VARIANTS.items() if n != "eager" and v.micro_batch is None]),
        ("sgd", ["compile+optimizer"]),
    ],
)
def test_same_numbers_in_float64(optimizer, names, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    command = [sys.executable, "-c", _COMPARE, optimizer, *names]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found.keys() == set(names)
    for name, (distance, graphs) in found.items():
        assert distance <= LIMIT, name
        # loss, three ways of inference, and the optimiser, of SGD twice: its first step has no velocity yet
        updates = {"adam": 1, "sgd": 2}[optimizer] if VARIANTS[name].compile_optimizer else 0
        assert graphs == (0 if VARIANTS[name].compile is None else 4 + updates), name


@pytest.mark.parametrize("bottleneck", [PlainBottleneck(2), GaussianBottleneck(2, 0.5)], ids=["plain", "gaussian"])
def test_parts_give_the_whole_batchs_gradient(bottleneck):
    """Parts of 3 in batches of 8, the last of 2, and in one of 4: losses, terms and weights after 6 steps."""
    training = Training(Adam(), batch_size=8, epochs=3, precision="float64", clip_norm=0.1)
    spec = Spec((4, 4, 1), ConvBackbone((3,), (2,)), bottleneck, training=training)
    images = generator(0, "images").random((20, 4, 4, 1)).astype(np.float32)
    start = initial_weights(ENGINE.shapes(spec), spec, 0)
    found = []
    for variant in (Variant(), Variant(micro_batch=3)):
        trainer = Trainer(spec, start, images, variant)
        terms = [trainer.advance(make_steps(spec, 20, 0, epoch, 0, 3)) for epoch in range(2)]
        found.append(trainer.tensors() | {name: np.concatenate([t[name] for t in terms]) for name in terms[0]})
        found[-1]["reconstruct"] = Inference(spec, start, variant).reconstruct(images)
    whole, parts = found
    assert whole.keys() == parts.keys()
    for name in whole:
        assert np.linalg.norm(whole[name] - parts[name]) <= LIMIT * np.linalg.norm(whole[name]), name
    assert any((whole[name] != parts[name]).any() for name in whole)  # it was cut


def test_batches_of_coupled_samples_are_not_cut():
    spec = Spec((4, 4, 1), ConvBackbone((3,), (2,), norm=BatchNorm()), PlainBottleneck(2))
    start = initial_weights(ENGINE.shapes(spec), spec, 0)
    with pytest.raises(SpecError, match='the norm "batch" couples the samples'):
        Trainer(spec, start, np.zeros((8, 4, 4, 1), np.float32), VARIANTS["micro-batches"])


def test_choice(monkeypatch):
    conv, dense = PRESETS["foster-ae"], PRESETS["dense-mnist"]
    monkeypatch.setattr("ae_torch.execution.variants._compiler", lambda: "c++")
    long = replace(conv, training=replace(conv.training, batch_size=WHOLE_BATCH + 1))
    coupled = replace(long, backbone=replace(conv.backbone, norm=BatchNorm()))
    conv, dense, long, coupled = (Autoencoder(spec) for spec in (conv, dense, long, coupled))
    assert choose(dense, 10**9) == VARIANTS["channels_last"]
    assert choose(conv, COMPILE_STEPS - 1) == VARIANTS["channels_last"]
    assert choose(conv, COMPILE_STEPS) == VARIANTS["compile"]
    assert choose(long, 1) == choose(conv, 0) == VARIANTS["micro-batches"]
    assert choose(long, COMPILE_STEPS) == VARIANTS["compile+micro-batches"]
    assert choose(coupled, 1) == choose(dense, 0) == VARIANTS["channels_last"]
    monkeypatch.setattr("ae_torch.execution.variants._compiler", lambda: None)
    assert choose(conv, COMPILE_STEPS) == VARIANTS["channels_last"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose(conv, 1) == choose(conv, 0) == replace(VARIANTS["channels_last"], mirrored=False)


def test_a_model_convolves_if_a_layer_does(monkeypatch):
    """Whatever its spec says, and wherever the layer lies."""
    model = Autoencoder(PRESETS["dense-mnist"])
    model.bottleneck.ears = torch.nn.Sequential(torch.nn.Conv1d(1, 1, 3))
    assert choose(model, 0) == VARIANTS["micro-batches"]


@pytest.mark.parametrize("channels_last", [False, True])
def test_layout(channels_last):
    """Of what goes into every convolution, and of every kernel."""
    spec = Spec((8, 8, 2), ConvBackbone((3, 4), (2, 2)), PlainBottleneck(2))
    model = laid_out(Autoencoder(spec).init(), Variant(channels_last=channels_last, mirrored=False))
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    seen = []
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    for layer in layers:
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].is_contiguous(memory_format=wanted)))
    model.reconstruct(torch.rand(3, 8, 8, 2))
    assert seen == [True] * len(layers) == [True] * 5
    assert all(layer.weight.is_contiguous(memory_format=wanted) for layer in layers)


def test_no_compiler_is_said_in_one_line(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"no C\+\+ compiler found; expected") as caught:
        compiled(len, Variant(compile="default"))
    assert "\n" not in str(caught.value)


def test_names():
    assert len(set(VARIANTS.values())) == len(set(map(str, VARIANTS.values()))) == len(VARIANTS)
    assert replace(VARIANTS["padded"], channels_last=False, fused=False) == VARIANTS["eager"]
