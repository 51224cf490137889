"""A component of every family from outside: the gate, snapshots from twin to twin, and what is refused."""

import json
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import ClassVar

import jax
import numpy as np
import pytest
import torch

import ae_jax.engine
import ae_jax.model.likelihood
import ae_jax.optim
import ae_torch
import ae_torch.engine
import ae_torch.model.likelihood
import ae_torch.optim
from ae_core.errors import MissingError, SpecError
from ae_core.files.weights import load_weights, save_weights
from ae_core.metrics.reconstruction import log_probability
from ae_core.spec import (
    Bottleneck,
    Constant,
    ConvBackbone,
    Corruption,
    DenseBackbone,
    GaussianBottleneck,
    GaussianLikelihood,
    Likelihood,
    Norm,
    Optimizer,
    Penalty,
    PlainBottleneck,
    Spec,
    Training,
    component,
    families,
    kinds,
    spec_from_json,
    spec_to_json,
)
from ae_core.training.initial import initial_weights
from ae_core.training.steps import make_steps
from ae_jax.execution.plan import Plan, divide
from ae_torch.execution.variants import Variant
from parity_tests import oracle
from parity_tests.cases import CASES as CASES_OF_THE_TABLE
from parity_tests.cases import images_of
from parity_tests.check import IDENTITY_LIMIT, compare
from parity_tests.gates.drift import check_layers, check_network
from parity_tests.gates.identity import check_identity, with_precision
from parity_tests.gates.order import check_order
from parity_tests.oracle.likelihood import layer_of_likelihood
from parity_tests.tests.outside import PARTS, loaded

ENGINES = {"jax": ae_jax.engine, "torch": ae_torch.engine}
IMAGES = {"jax": jax.numpy.zeros((1, 2, 2, 1)), "torch": torch.zeros((1, 2, 2, 1))}
DOORS = {
    "make_norm": (Norm, "model.norm", lambda module, x: (4,)),
    "make_bottleneck": (Bottleneck, "model.bottleneck", lambda module, x: ((4,),)),
    "make_likelihood": (Likelihood, "model.likelihood", lambda module, x: ()),
    "corrupt": (Corruption, "model.corruption", lambda module, x: (x, x)),
    "penalty": (Penalty, "model.penalty", lambda module, x: (module.Seen(*(x,) * len(module.Seen._fields)),)),
    "slots_of": (Optimizer, "optim", lambda module, x: ()),
}
"""By the door's name: family, module, and what the door takes beside the component."""


@pytest.fixture(autouse=True, scope="module")
def parts():
    with loaded(PARTS) as package:
        yield package


@pytest.fixture
def unknown(monkeypatch):
    """Have whatever kinds a test defines be forgotten."""
    monkeypatch.setattr(component, "_FAMILIES", {name: dict(kinds(name)) for name in families()})


def case(parts, name):
    """Return one of three specs in which every part from outside is."""
    training = Training(parts.RMSprop(), parts.Exponential(), batch_size=6, epochs=5)
    dense = DenseBackbone((24, 16))
    smooth = replace(dense, activation="silu", norm=parts.RMSNorm())
    conv = ConvBackbone((4, 8), (2, 2), activation="silu", norm=parts.RMSNorm(1e-4))
    l1, decorrelation = parts.CodeL1(parts.Exponential(0.1, 0.01)), parts.Decorrelation()
    return {
        "centered": Spec(
            (6, 5, 1),
            smooth,
            parts.CenteredBottleneck(3),
            parts.StudentT(),
            training=training,
            corruption=parts.UniformNoise(),
            penalties=(l1, decorrelation),
        ),
        "map": Spec(
            (12, 8, 1),
            conv,
            parts.MapBottleneck(2),
            training=replace(training, optimizer=parts.Lion(1e-3), clip_norm=0.5),
            corruption=parts.UniformNoise(),
            penalties=(l1,),
        ),
        # a black image and biases of 0 put the first codes exactly where the penalty has its kink
        "kink": Spec((6, 5, 1), dense, PlainBottleneck(3), training=training, penalties=(l1, decorrelation)),
    }[name]


CASES = ("centered", "map", "kink")


@pytest.mark.parametrize("name", CASES)
def test_identity(parts, name, hold):
    spec = case(parts, name)
    hold(check_identity(spec, images_of(spec), 1))


@pytest.mark.parametrize("name", CASES)
def test_no_oracle(parts, name):
    spec = case(parts, name)
    own = {"centered": ("rms", "centered", "student_t", "uniform_noise"), "map": ("rms", "map", "uniform_noise")}
    assert oracle.without_oracle(spec) == (*own.get(name, ()), *(part.kind for part in spec.penalties))
    assert check_layers(spec, images_of(spec), 1, "float32") == []


class CauchyTerm:
    """Σ log(1 + (x − mean)²/scale²) of each image, in either twin."""

    def __init__(self, log1p, scale):
        self.log1p, self.scale = log1p, scale

    def mean(self, output):
        return output

    def negative_log_likelihood(self, output, x):
        return self.log1p(((x - output) / self.scale) ** 2).sum((1, 2, 3))


class CauchyOracle:
    """Its mean over the batch; no units."""

    def __init__(self, scale):
        self.scale = scale

    def forward(self, p, x):
        return (np.log1p(((p["images"] - x) / self.scale) ** 2).sum() / len(x)).reshape(1)

    def backward(self, p, x, dy):
        away = (x - p["images"]) / self.scale
        return 2 * away / (1 + away**2) / self.scale * dy[0] / len(x), {}


def test_an_oracle_needs_forward_and_backward_alone(unknown, hold):
    @dataclass(frozen=True)
    class Cauchy(Likelihood):
        kind: ClassVar[str] = "cauchy"
        scale: float = 0.3
        weight: float = 1.0

    spec = replace(CASES_OF_THE_TABLE["dense silu"], likelihood=Cauchy())
    ae_jax.model.likelihood.make_likelihood.register(Cauchy, lambda c: CauchyTerm(jax.numpy.log1p, c.scale))
    ae_torch.model.likelihood.make_likelihood.register(Cauchy, lambda c: CauchyTerm(torch.log1p, c.scale))
    assert oracle.without_oracle(spec) == ("cauchy",)
    layer_of_likelihood.register(Cauchy, lambda c: CauchyOracle(c.scale))
    assert oracle.without_oracle(spec) == ()
    checks = check_layers(spec, images_of(spec), 1, "float32")
    assert {check.place for check in checks} >= {f"{twin} loss {part}" for twin in ENGINES for part in PARTS_OF_A_LOSS}
    hold(checks)
    hold(check_network(spec, images_of(spec), 1))


PARTS_OF_A_LOSS = ("forward", "input gradient")


def test_order(parts, hold):
    """Uniform noise reaches the corruption to the bit, and schedules their coefficients."""
    spec = case(parts, "centered")
    hold(check_order(spec, images_of(spec, count=13), 1, resume_at=(0, 4)))


@pytest.mark.parametrize("name", CASES)
def test_snapshots_go_from_twin_to_twin(parts, name, hold):
    spec = with_precision(case(parts, name), "float64")
    images = images_of(spec)
    start = initial_weights(ae_torch.build(spec).shapes, spec, 1)
    twins = [module.ENGINE.train(spec, start, images) for module in ENGINES.values()]

    def advance(epoch):
        for twin in twins:
            twin.advance(make_steps(spec, len(images), 1, epoch, 0, 4))

    advance(0)
    there = [twin.snapshot() for twin in twins]
    slot = "exp_avg" if name == "map" else "square_avg"
    assert {n for n in there[0].tensors if n.startswith(slot)} == {f"{slot}.{n}" for n in start if "running" not in n}
    advance(1)  # away from there, and back by the other's snapshot
    for twin, snapshot in zip(twins, reversed(there), strict=True):
        twin.restore(snapshot)
    advance(1)
    hold(compare("snapshot", *(twin.snapshot().tensors for twin in twins), IDENTITY_LIMIT, "float64"))
    assert [twin.snapshot().step for twin in twins] == [8, 8]


@pytest.mark.parametrize("twin", ENGINES)
def test_state(parts, twin, tmp_path):
    """It starts where the component says, follows the batches' means in training, and rests in evaluation."""
    spec, name = with_precision(case(parts, "centered"), "float64"), "bottleneck.running_center"
    spec = replace(spec, corruption=None)  # so that the first codes can be had without noise
    images, engine = images_of(spec), ENGINES[twin].ENGINE
    start = initial_weights(engine.shapes(spec), spec, 1)
    assert (start[name] == 1).all()
    trainer = engine.train(spec, start, images)
    steps = make_steps(spec, len(images), 1, 0, 0, 1)
    trainer.advance(steps)
    codes = engine.infer(spec, start).encode(images[steps.indices[0]]) + 1  # less the running mean, which was 1
    expected = 0.9 * 1 + 0.1 * codes.mean(0)
    # sums of some ten numbers near 1, in float64
    np.testing.assert_allclose(trainer.tensors()[name], expected, rtol=1e-13)
    trainer.evaluate(images)
    np.testing.assert_allclose(trainer.tensors()[name], expected, rtol=1e-13)
    assert trainer.snapshot().tensors.keys() & {name, f"square_avg.{name}"} == {name}
    save_weights(tmp_path / "weights", spec, trainer.tensors())
    back = load_weights(tmp_path / "weights")
    assert back.spec == spec
    assert (back.tensors[name] == trainer.tensors()[name]).all()


@pytest.mark.parametrize("twin", ENGINES)
def test_codes_that_are_maps(parts, twin):
    spec = case(parts, "map")
    images, engine = images_of(spec), ENGINES[twin].ENGINE
    model = engine.infer(spec, initial_weights(engine.shapes(spec), spec, 1))
    codes = model.encode(images)
    assert codes.shape == (len(images), *spec.latent_shape) == (20, 3, 2, 2)
    # the same codes by two ways, in float32; sigmoid has a slope of at most ¼
    np.testing.assert_allclose(model.decode(codes), model.reconstruct(images), atol=1e-5)


def test_likelihood_has_a_density(parts):
    """Where x is the mean, the t distribution of 3 degrees has the density 2 / (√3·π·scale)."""
    x = np.full((2, 6, 5, 1), 0.25)
    expected = 30 * np.log(2 / (np.sqrt(3) * np.pi * 0.2))
    np.testing.assert_allclose(log_probability(parts.StudentT(), x, x), expected, rtol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_json(parts, name):
    spec = case(parts, name)
    assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec


@pytest.mark.parametrize("name", ["centered", "kink"])
def test_coupled_batches_are_not_divided(parts, name, monkeypatch):
    spec, which = case(parts, name), {"centered": "centered", "kink": "decorrelation"}[name]
    images, start = images_of(spec), initial_weights(ae_torch.build(spec).shapes, spec, 1)
    assert spec.couples_samples
    monkeypatch.setattr(jax, "local_device_count", lambda: 2)
    assert divide(spec, 6) == (1, 1, 6)
    trainers = [
        partial(divide, spec, 6, Plan(devices=2)),
        partial(ae_jax.engine.Trainer, spec, start, images, Plan(devices=1, micro_batch=3)),
        partial(ae_torch.engine.Trainer, spec, start, images, Variant(micro_batch=3)),
    ]
    for trainer in trainers:
        with pytest.raises(SpecError, match=f'"{which}" couples the samples of a batch'):
            trainer()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("twin", ENGINES)
def test_doors_refuse_what_is_not_registered(twin, door, unknown):
    family, where, further = DOORS[door]

    @dataclass(frozen=True)
    class Half(family):
        kind: ClassVar[str] = "half"

        def latent_shape(self, features):
            return (1,)

    module = import_module(f"ae_{twin}.{where}")
    with pytest.raises(MissingError) as error:
        getattr(module, door)(Half(), *further(module, IMAGES[twin]))
    half = f"expected @{door}.register in the {twin} half of the plugin that brings it"
    assert str(error.value) == f'ae_{twin} has no {door} for "half"; {half}'


def test_optimizers_refuse_what_is_not_registered(unknown):
    @dataclass(frozen=True)
    class Half(Optimizer):
        kind: ClassVar[str] = "half"

    with pytest.raises(MissingError, match='ae_jax has no make_direction for "half"'):
        ae_jax.optim.make_direction(Half())
    with pytest.raises(MissingError, match='ae_torch has no make_optimizer for "half"'):
        ae_torch.optim.make_optimizer(Half(), [])


def test_two_kinds_of_one_name(parts, unknown):
    with pytest.raises(TypeError, match=r'Mine: the norm "rms" is outside_parts\.RMSNorm already'):

        class Mine(Norm):
            kind: ClassVar[str] = "rms"


def test_a_kind_of_a_kind(parts, unknown):
    with pytest.raises(TypeError, match='Mine: given the kind "rms" as its base; expected one without a kind'):

        class Mine(parts.RMSNorm):
            kind: ClassVar[str] = "mine"


def test_two_coefficients_of_one_name(parts, unknown):
    @dataclass(frozen=True)
    class Mine(Penalty):
        kind: ClassVar[str] = "kl"
        weight: float = 1.0

    spec = Spec((6, 5, 1), DenseBackbone((4,)), GaussianBottleneck(2), GaussianLikelihood())
    expected = 'the coefficient "kl", bottleneck "gaussian" and penalty "kl"; expected one'
    with pytest.raises(SpecError, match=expected):
        replace(spec, penalties=(Mine(),))
    twice = (parts.CodeL1(), parts.CodeL1(Constant()))
    with pytest.raises(SpecError, match='the coefficient "code_l1", penalty "code_l1" and penalty "code_l1"'):
        replace(spec, penalties=twice)
