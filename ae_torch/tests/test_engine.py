"""The PyTorch engine: resident and streamed data, any number of images, float64, and no trace in PyTorch's settings."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from ae_core.rng import generator, normal
from ae_core.spec import (
    SGD,
    BatchNorm,
    ConvBackbone,
    Cosine,
    DenseBackbone,
    GaussianBottleneck,
    GaussianLikelihood,
    PlainBottleneck,
    Spec,
    Training,
)
from ae_core.training.initial import initial_weights
from ae_core.training.loop import make_steps
from ae_torch import engine
from ae_torch.engine import ENGINE, Inference, Trainer

_TRAINING = Training(schedule=Cosine(2), batch_size=8, epochs=3)
_DENSE = Spec((3, 2, 1), DenseBackbone((5,)), PlainBottleneck(2), training=_TRAINING)
_VAE = Spec((4, 4, 1), ConvBackbone((3,), (2,), norm=BatchNorm()), GaussianBottleneck(2), training=_TRAINING)
_COUNT = 50
"""Training images: six batches of 8 and one of 2."""


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Models are tiny here: a second thread would only spin, and for long where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _double(spec):
    return replace(spec, training=replace(spec.training, precision="float64"))


def _images(spec, count=_COUNT):
    return generator(0, "images").random((count, *spec.input_shape)).astype(np.float32)


def _tensors(spec):
    return initial_weights(ENGINE.shapes(spec), spec, 0)


def _trainer(spec, count=_COUNT):
    return Trainer(spec, _tensors(spec), _images(spec, count))


def _run(spec, cuts):
    trainer = _trainer(spec)
    terms = []
    for epoch in range(2):
        first = 0
        for number in cuts:
            terms.append(trainer.advance(make_steps(spec, _COUNT, 0, epoch, first, number)))
            first += number
    return trainer, trainer.tensors(), {name: np.concatenate([t[name] for t in terms]) for name in terms[0]}


def _assert_equal(one, two):
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], strict=True)


@pytest.mark.parametrize(("spec", "chunk"), [(_DENSE, 2**26), (_VAE, 1), (_double(_VAE), 2**26)])
def test_streamed_is_resident(monkeypatch, spec, chunk):
    trainer, tensors, terms = _run(spec, (1,) * 7)
    assert trainer.resident is not None
    assert trainer.capacity == 7
    monkeypatch.setattr(engine, "RESIDENT_BYTES", 0)
    monkeypatch.setattr(engine, "CHUNK_BYTES", chunk)
    streamed, streamed_tensors, streamed_terms = _run(spec, (1,) * 7)
    assert streamed.resident is None
    assert streamed.capacity == (7 if chunk > 1 else 1)
    _assert_equal(streamed_tensors, tensors)
    _assert_equal(streamed_terms, terms)


def test_any_cut_of_an_epoch_trains_the_same():
    _, tensors, terms = _run(_VAE, (1,) * 7)
    for cuts in ((7,), (2, 5), (3, 3, 1)):
        _, cut_tensors, cut_terms = _run(_VAE, cuts)
        _assert_equal(cut_tensors, tensors)
        _assert_equal(cut_terms, terms)
    assert all(len(values) == 14 and values.dtype == np.float64 for values in terms.values())
    assert terms.keys() == {"loss", "reconstruction", "kl"}


def test_a_shorter_batch_counts_its_own_images_alone():
    spec = _double(_DENSE)
    trainer, model = _trainer(spec), Inference(spec, _tensors(spec))
    steps = make_steps(spec, _COUNT, 0, 0, 6, 1)
    assert steps.sizes.tolist() == [2]
    expected = model.evaluate(_images(spec)[steps.indices[0, :2]])
    assert trainer.advance(steps)["loss"][0] == pytest.approx(expected["loss"], rel=1e-13)


def test_evaluation_changes_nothing():
    _, tensors, _ = _run(_VAE, (7,))
    trainer = _trainer(_VAE)
    for epoch in range(2):
        for step in range(7):
            trainer.advance(make_steps(_VAE, _COUNT, 0, epoch, step, 1))
            trainer.evaluate(_images(_VAE, 5))
            trainer.tensors()["decoder.output.bias"][:] = np.nan
    _assert_equal(trainer.tensors(), tensors)


def test_tensors_are_copies():
    trainer = _trainer(_VAE)
    first = trainer.tensors()
    kept = {name: tensor.copy() for name, tensor in first.items()}
    trainer.advance(make_steps(_VAE, _COUNT, 0, 0, 0, 3))
    _assert_equal(first, kept)
    assert all((trainer.tensors()[name] != kept[name]).any() for name in kept if "encoder" in name)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 600])
def test_inference_takes_any_number_of_images(count):
    spec = _double(_VAE)
    tensors = _tensors(spec)
    name = "encoder.blocks.0.norm.running_mean"
    tensors[name] = normal(tensors[name].shape, 0, "statistics")
    model, x = Inference(spec, tensors), _images(spec, count)
    rows = [0, count // 2, count - 1]
    z, y = model.encode(x), model.reconstruct(x)
    assert (z.shape, y.shape) == ((count, 2), (count, 4, 4, 1))
    assert z.dtype == y.dtype == np.float64
    assert z.flags.writeable
    assert y.flags.writeable
    np.testing.assert_allclose(model.decode(z), y, rtol=0, atol=1e-12)
    alone = {
        name: np.concatenate([getattr(model, name)(x[i : i + 1]) for i in rows]) for name in ("encode", "reconstruct")
    }
    np.testing.assert_allclose(z[rows], alone["encode"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(y[rows], alone["reconstruct"], rtol=0, atol=1e-12)
    parts = [model.evaluate(part) for part in np.array_split(x, min(count, 4))]
    sizes = [len(part) for part in np.array_split(x, min(count, 4))]
    for term, value in model.evaluate(x).items():
        assert value == pytest.approx(np.average([part[term] for part in parts], weights=sizes), rel=1e-12)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 600])
def test_every_row_is_its_own_image(count):
    # a linear autoencoder, so that NumPy can say what comes out, in float64 to the last digits
    spec = Spec((3, 2, 1), DenseBackbone(()), PlainBottleneck(2), GaussianLikelihood(), training=_TRAINING)
    spec = _double(spec)
    tensors = {name: normal(shape, 0, name) for name, shape in ENGINE.shapes(spec).items()}
    x = _images(spec, count)
    model = Inference(spec, tensors)
    flat = x.reshape(count, -1).astype(np.float64)
    z = flat @ tensors["bottleneck.code.weight"].T + tensors["bottleneck.code.bias"]
    y = z @ tensors["decoder.output.weight"].T + tensors["decoder.output.bias"]
    np.testing.assert_allclose(model.encode(x), z, rtol=0, atol=1e-13)
    np.testing.assert_allclose(model.reconstruct(x).reshape(count, -1), y, rtol=0, atol=1e-13)
    assert model.evaluate(x)["loss"] == pytest.approx(((flat - y) ** 2).mean(), rel=1e-13)


@pytest.mark.parametrize("optimizer", [Training().optimizer, SGD()])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_precision(precision, optimizer):
    spec = replace(_VAE, training=replace(_TRAINING, optimizer=optimizer, precision=precision))
    trainer = _trainer(spec)
    trainer.advance(make_steps(spec, _COUNT, 0, 0, 0, 7))
    memory = [m for slots in trainer.state.optimizer.state.values() for name, m in slots.items() if name != "step"]
    assert len(memory) >= 8
    assert {m.dtype for m in (*memory, *trainer.state.model.parameters())} == {getattr(torch, precision)}
    for name, tensor in trainer.tensors().items():
        assert tensor.dtype == precision
        # numbers that went through float32 anywhere would still be float32 numbers
        assert (tensor != tensor.astype(np.float32)).any() == (precision == "float64"), name


def test_gradients_are_not_kept_in_inference():
    model = Inference(_VAE, _tensors(_VAE))
    model.evaluate(_images(_VAE))
    assert all(parameter.grad is None for parameter in model.model.parameters())
    assert torch.is_grad_enabled()


_SETTINGS = """
import json, sys
import torch

def settings():
    return [
        str(torch.get_default_dtype()),
        str(torch.get_default_device()),
        torch.get_num_threads(),
        torch.get_num_interop_threads(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.benchmark,
        torch.initial_seed(),
        torch.get_rng_state().sum().item(),
    ]

torch.manual_seed(5)
before = settings()
if sys.argv[1] == "import":
    import ae_torch.engine
elif sys.argv[1] == "threads":
    torch.set_num_threads(before[2] + 1)
elif sys.argv[1] == "draw":
    torch.rand(1)
print(json.dumps(before == settings()))
"""


@pytest.mark.parametrize(("change", "same"), [("import", True), ("threads", False), ("draw", False)])
def test_importing_changes_no_setting(change, same):
    result = subprocess.run([sys.executable, "-c", _SETTINGS, change], capture_output=True, text=True, timeout=600)
    assert result.stderr == ""
    assert json.loads(result.stdout) is same


def test_environment():
    environment = ENGINE.environment()
    assert environment.keys() == {"torch", "device", "threads", "float32 products"}
    assert environment["threads"] == str(torch.get_num_threads())
