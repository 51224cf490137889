"""The JAX engine: one compilation, donated state, resident and streamed data, any number of images, no narrowing."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

import ae_jax
from ae_core.rng import generator, normal
from ae_core.spec import (
    SGD,
    Adam,
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
from ae_core.training import loop
from ae_core.training.initial import initial_weights
from ae_core.training.loop import train
from ae_core.training.steps import make_steps
from ae_jax import engine
from ae_jax.engine import ENGINE, Inference, Trainer
from ae_jax.execution.dispatch import compiled_inference, compiled_steps, program_of
from ae_jax.execution.plan import divide
from ae_jax.tensors import from_tensors, to_tensors

_TRAINING = Training(schedule=Cosine(2), batch_size=8, epochs=3)
_DENSE = Spec((3, 2, 1), DenseBackbone((5,)), PlainBottleneck(2), training=_TRAINING)
_VAE = Spec((4, 4, 1), ConvBackbone((3,), (2,), norm=BatchNorm()), GaussianBottleneck(2), training=_TRAINING)
_COUNT = 50
"""Training images: six batches of 8 and one of 2."""


def _double(spec):
    return replace(spec, training=replace(spec.training, precision="float64"))


def _images(spec, count=_COUNT):
    return generator(0, "images").random((count, *spec.input_shape)).astype(np.float32)


def _tensors(spec):
    return initial_weights(ENGINE.shapes(spec), spec, 0)


def _trainer(spec, count=_COUNT):
    return Trainer(spec, _tensors(spec), _images(spec, count))


@pytest.fixture
def forget():
    """Whatever other tests compiled is not counted."""
    compiled_steps.cache_clear()
    compiled_inference.cache_clear()


def _compilations(spec):
    """Number of programs that train this spec."""
    return compiled_steps(program_of(spec), divide(spec, spec.training.batch_size), False)._cache_size()


class _Silent:
    def progress(self, epoch, step, total_steps, loss, images_per_second):
        pass

    def epoch(self, epoch, best):
        pass


def _fit(spec):
    images = _images(spec)
    return train(ENGINE, spec, images, images[:11], 0, _Silent(), lambda tensors: None)


@pytest.mark.parametrize("spec", [_DENSE, _double(_VAE)], ids=["dense", "float64"])
@pytest.mark.usefixtures("forget")
def test_a_training_compiles_once(monkeypatch, spec):
    lengths = []
    advance = Trainer.advance
    monkeypatch.setattr(
        Trainer, "advance", lambda self, steps: (lengths.append(len(steps.sizes)), advance(self, steps))[1]
    )
    monkeypatch.setattr(loop, "DISPATCH_SECONDS", 1e9)
    result = _fit(spec)
    assert result.status == "finished"
    assert lengths == [1, 1, 5, 7, 7]
    assert _compilations(spec) == 1
    _fit(spec)
    assert _compilations(spec) == 1


@pytest.mark.usefixtures("forget")
def test_compilations_are_counted():
    for count, expected in ((_COUNT, 1), (_COUNT, 1), (9, 2)):
        _trainer(_DENSE, count).advance(make_steps(_DENSE, count, 0, 0, 0, 1))
        assert _compilations(_DENSE) == expected


@pytest.mark.usefixtures("forget")
def test_inference_compiles_once_for_large_sets():
    model = Inference(_DENSE, _tensors(_DENSE))
    for count in (256, 257, 600):
        model.encode(_images(_DENSE, count))
        model.evaluate(_images(_DENSE, count))
    division = divide(_DENSE, 256, train=False)
    assert compiled_inference.cache_info().currsize == 2
    program = program_of(_DENSE, train=False)
    assert [compiled_inference(program, name, division)._cache_size() for name in ("encode", "evaluate")] == [1, 1]


SAME_PROGRAM = {
    "learning rate": replace(_VAE.training, optimizer=Adam(learning_rate=0.5)),
    "schedule": replace(_VAE.training, schedule=Cosine(3, 0.1)),
    "epochs": replace(_VAE.training, epochs=9),
}
OTHER_PROGRAM = {
    "decay": replace(_VAE.training, optimizer=Adam(b1=0.5)),
    "optimizer": replace(_VAE.training, optimizer=SGD()),
    "clipping": replace(_VAE.training, clip_norm=1.0),
    "precision": replace(_VAE.training, precision="float64"),
    "batch": replace(_VAE.training, batch_size=16),
}


@pytest.mark.parametrize("name", [*SAME_PROGRAM, *OTHER_PROGRAM])
@pytest.mark.usefixtures("forget")
def test_what_comes_with_the_arguments_compiles_nothing(name):
    other = replace(_VAE, training=(SAME_PROGRAM | OTHER_PROGRAM)[name])
    for spec in (_VAE, other):
        _trainer(spec).advance(make_steps(spec, _COUNT, 0, 0, 0, 1))
        Inference(spec, _tensors(spec)).encode(_images(spec))
    programs = 1 if name in SAME_PROGRAM else 2
    assert compiled_steps.cache_info().currsize == programs
    assert _compilations(_VAE) == 1
    assert compiled_inference.cache_info().currsize == (2 if name == "precision" else 1)


@pytest.mark.parametrize("streamed", [False, True])
def test_state_is_donated(monkeypatch, streamed):
    if streamed:
        monkeypatch.setattr(engine, "RESIDENT_BYTES", 0)
    trainer = _trainer(_DENSE)
    before = jax.tree.leaves(trainer.state)
    trainer.advance(make_steps(_DENSE, _COUNT, 0, 0, 0, 2))
    assert len(before) > 20
    assert all(leaf.is_deleted() for leaf in before)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(trainer.state))
    if not streamed:
        assert not trainer.resident.is_deleted()


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


@pytest.mark.parametrize(("spec", "chunk"), [(_double(_DENSE), 1), (_double(_VAE), 2**26)])
def test_streamed_is_resident(monkeypatch, spec, chunk):
    trainer, tensors, terms = _run(spec, (1,) * 7)
    assert trainer.resident is not None
    assert trainer.capacity == 7
    monkeypatch.setattr(engine, "RESIDENT_BYTES", 0)
    monkeypatch.setattr(engine, "CHUNK_BYTES", chunk)
    # of a chunk of one step, the next one is fetched while the present one runs
    streamed, streamed_tensors, streamed_terms = _run(spec, (7,))
    assert streamed.resident is None
    assert (streamed.capacity, streamed.chunk) == (7, 1 if chunk == 1 else streamed.chunk)
    # another program: XLA may round elsewhere
    for ours, theirs in ((streamed_tensors, tensors), (streamed_terms, terms)):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-12, atol=1e-15)


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
def test_float64_is_never_narrowed(optimizer):
    spec = _double(replace(_VAE, training=replace(_TRAINING, optimizer=optimizer)))
    trainer = _trainer(spec)
    trainer.advance(make_steps(spec, _COUNT, 0, 0, 0, 7))
    for leaf in jax.tree.leaves(trainer.state):
        assert leaf.dtype in (np.float64, np.int32)
    for name, tensor in trainer.tensors().items():
        assert tensor.dtype == np.float64
        # numbers that went through float32 anywhere would still be float32 numbers
        assert (tensor != tensor.astype(np.float32)).any(), name


def test_float32_is_float32():
    trainer = _trainer(_VAE)
    trainer.advance(make_steps(_VAE, _COUNT, 0, 0, 0, 7))
    assert {leaf.dtype for leaf in jax.tree.leaves(trainer.state)} == {np.dtype(np.float32), np.dtype(np.int32)}
    with jax.enable_x64(True):  # a caller's mode does not change a spec's precision
        trainer.advance(make_steps(_VAE, _COUNT, 0, 1, 0, 7))
        assert Inference(_VAE, trainer.tensors()).encode(_images(_VAE)).dtype == np.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(trainer.state)} == {np.dtype(np.float32), np.dtype(np.int32)}


def test_float64_outside_its_mode_is_refused(tmp_path):
    model = ae_jax.build(_double(_DENSE))
    for call in (lambda: from_tensors(_tensors(_DENSE), "float64"), model.init):
        with pytest.raises(ValueError, match="float64 needs JAX's 64-bit mode"):
            call()
    with jax.enable_x64(True):
        variables = model.init()
        ae_jax.save(tmp_path / "w", model, variables)
    with pytest.raises(ValueError, match="float64 needs JAX's 64-bit mode"):
        ae_jax.load(tmp_path / "w")
    with jax.enable_x64(True):
        loaded, again = ae_jax.load(tmp_path / "w")
    assert loaded == model
    _assert_equal(to_tensors(again), to_tensors(variables))


def test_engine_leaves_the_64_bit_mode_as_it_was():
    for spec in (_DENSE, _double(_DENSE)):
        _run(spec, (7,))
        Inference(spec, _tensors(spec)).evaluate(_images(spec))
        assert not jax.config.read("jax_enable_x64")
        assert jax.numpy.zeros(1, float).dtype == np.float32


_CONFIG = """
import json, logging, sys
import jax
before = dict(jax.config.values)
level = logging.getLogger("jax").level
if sys.argv[1]:
    __import__(sys.argv[1])
    import ae_jax.engine
if sys.argv[2]:
    jax.config.update("jax_enable_x64", True)
changed = [key for key, value in jax.config.values.items() if before[key] != value]
print(json.dumps([changed, level == logging.getLogger("jax").level, jax.config.jax_default_matmul_precision]))
"""


@pytest.mark.parametrize(("package", "change", "expected"), [("ae_jax", "", []), ("", "x", ["jax_enable_x64"])])
def test_importing_changes_no_configuration(package, change, expected):
    command = [sys.executable, "-c", _CONFIG, package, change]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.stderr == ""
    assert json.loads(result.stdout) == [expected, True, None]


def test_an_interrupt_within_a_dispatch_loses_nothing(monkeypatch):
    tensors = initial_weights(ENGINE.shapes(_DENSE), _DENSE, 0)
    trainer = ENGINE.train(_DENSE, tensors, _images(_DENSE))
    original = engine.compiled_steps

    def interrupted(*arguments):
        run = original(*arguments)

        def run_and_interrupt(*inputs):
            result = run(*inputs)
            os.kill(os.getpid(), signal.SIGINT)
            return result

        return run_and_interrupt

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(engine, "compiled_steps", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer.advance(make_steps(_DENSE, _COUNT, 0, 0, 0, 4))
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    assert trainer.snapshot().step == 4
    trainer.advance(make_steps(_DENSE, _COUNT, 0, 0, 4, 3))
    assert trainer.snapshot().step == 7


def test_environment():
    environment = ENGINE.environment()
    assert environment.keys() == {"jax", "jaxlib", "flax", "optax", "device", "float32 products"}
    assert environment["jax"] == jax.__version__


_CONFIGURATION = """
import jax
before = dict(jax.config.values)
import ae_jax, ae_jax.engine
assert dict(jax.config.values) == before, "the import changed JAX's configuration"
from ae_core.system.environment import usable_cores
ae_jax.engine.ENGINE.configure()
assert jax.device_count() == (int(EXPECTED) or usable_cores()), jax.device_count()
assert jax.config.values["jax_compilation_cache_dir"].endswith(CACHE)
assert jax.config.values["jax_cpu_enable_async_dispatch"] is ASYNC
ae_jax.engine.ENGINE.configure()
"""


@pytest.mark.parametrize(
    ("given", "devices", "cache", "ahead"),
    [
        ({}, 0, "twin-autoencoders/jax", False),
        ({"JAX_NUM_CPU_DEVICES": "3", "JAX_COMPILATION_CACHE_DIR": "/nowhere/else"}, 3, "/nowhere/else", False),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}, 5, "twin-autoencoders/jax", False),
        ({"JAX_CPU_ENABLE_ASYNC_DISPATCH": "1"}, 0, "twin-autoencoders/jax", True),
    ],
)
def test_only_the_command_line_configures(given, devices, cache, ahead):
    code = _CONFIGURATION.replace("EXPECTED", str(devices)).replace("CACHE", repr(cache)).replace("ASYNC", str(ahead))
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    done = subprocess.run([sys.executable, "-c", code], env=variables | given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
