"""What a component from outside has to keep to is refused where it does not, by both twins and in one line."""

from dataclasses import make_dataclass, replace

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn

import ae_jax.engine
import ae_torch
import ae_torch.engine
from ae_core.errors import SpecError
from ae_core.spec import (
    Bottleneck,
    ConvBackbone,
    DenseBackbone,
    Initial,
    Penalty,
    PlainBottleneck,
    Spec,
    Training,
    component,
    families,
    kinds,
)
from ae_core.training.initial import initial_weights
from ae_core.training.steps import make_steps
from ae_jax.model.bottleneck import PlainCode as JaxCode
from ae_jax.model.bottleneck import make_bottleneck as make_jax
from ae_jax.model.layers import Linear as JaxLinear
from ae_jax.tensors import STATE
from ae_torch.execution.variants import Variant
from ae_torch.model.bottleneck import PlainCode as TorchCode
from ae_torch.model.bottleneck import make_bottleneck as make_torch
from ae_torch.model.layers import Linear as TorchLinear
from parity_tests.cases import images_of
from parity_tests.check import IDENTITY_LIMIT, compare
from parity_tests.gates.identity import check_identity, with_precision
from parity_tests.tests.outside import PARTS, loaded

ENGINES = {"jax": ae_jax.engine.ENGINE, "torch": ae_torch.engine.ENGINE}


@pytest.fixture(autouse=True)
def _unknown(monkeypatch):
    monkeypatch.setattr(component, "_FAMILIES", {name: dict(kinds(name)) for name in families()})


def spec_of(name, jax_part, torch_part, couples=False, start=None):
    """Return a spec whose bottleneck is a linear code times 1 plus a further tensor, made as the parts say."""
    initial: dict[str, Initial] = start or {}
    space = {
        "kind": "mine",
        "latent_shape": lambda self, features: (2,),
        "couples_samples": couples,
        "initial_values": initial,
    }
    kind = make_dataclass("Mine", [], bases=(Bottleneck,), frozen=True, namespace=space)

    class JaxHead(nn.Module):
        features: int

        @nn.compact
        def __call__(self, x, noise, mask=None):
            code = JaxLinear(self.features, 2, name="code")(x.reshape(len(x), -1))
            return JaxCode(code * (1 + jax_part(self, name)))

    class TorchHead(torch.nn.Module):
        def __init__(self, features):
            super().__init__()
            self.code = TorchLinear(features, 2)
            torch_part(self, name)

        def forward(self, x, noise):
            return TorchCode(self.code(x.flatten(1)) * (1 + getattr(self, name)))

    make_jax.register(kind, lambda bottleneck, features, use_bias=True: JaxHead(features[0]))
    make_torch.register(kind, lambda bottleneck, features, use_bias=True: TorchHead(features[0]))
    return Spec((6, 5, 1), DenseBackbone((8,), "silu"), kind(), training=Training(batch_size=6))


def collection(name, shape=(2,)):
    return lambda module, tensor: module.variable(name, tensor, jnp.zeros, shape, jnp.float32).value


def parameter(shape=(2,)):
    return lambda module, tensor: module.param(tensor, nn.initializers.zeros, shape)


def buffer(module, name):
    module.register_buffer(name, torch.zeros(2))


def weight(shape=(2,)):
    return lambda module, name: setattr(module, name, torch.nn.Parameter(torch.zeros(shape)))


REFUSED = {
    "state without running_": (
        ("center", collection(STATE), buffer, True),
        'spec: tensor "bottleneck.center" is state; expected a name whose last part begins with "running_"',
    ),
    "parameter with running_": (
        ("running_scale", parameter(), weight()),
        'spec: tensor "bottleneck.running_scale" is a parameter; expected a name that does not begin with "running_"',
    ),
    "state of a batch in parts": (
        ("running_center", collection(STATE), buffer),
        'spec: tensor "bottleneck.running_center" is state; expected a component that says that it couples_samples',
    ),
}


@pytest.mark.parametrize("twin", ENGINES)
@pytest.mark.parametrize("name", REFUSED)
def test_names_of_tensors(twin, name):
    given, message = REFUSED[name]
    with pytest.raises(SpecError) as error:
        ENGINES[twin].shapes(spec_of(*given))
    assert str(error.value) == message


def test_other_collection_of_variables():
    with pytest.raises(SpecError, match='variables in the collection "batch_stats"; expected params and state'):
        ENGINES["jax"].shapes(spec_of("running_center", collection("batch_stats"), buffer, True))


def test_module_whose_name_is_that_of_a_list():
    def part(module, name):
        module.extra_1 = TorchLinear(1, 1)
        weight()(module, name)

    with pytest.raises(SpecError, match=r'tensor "bottleneck\.extra_1\.weight"; expected no module whose name ends in'):
        ENGINES["torch"].shapes(spec_of("scale", parameter(), part))


def test_a_single_number_is_learned(hold):
    spec = spec_of("scale", parameter(()), weight(()))
    assert ENGINES["jax"].shapes(spec)["bottleneck.scale"] == ()
    hold(check_identity(spec, images_of(spec), 1))


def test_whole_numbers_start_a_tensor():
    spec = spec_of("scale", parameter(), weight(), start={"bottleneck.scale": 2})
    start = initial_weights({"bottleneck.scale": (2000,)}, spec, 0)["bottleneck.scale"]
    # 2,000 draws: their deviation is within 4 of its standard errors, 1 / √4,000 of it each
    assert start.std() == pytest.approx(2, rel=4 / np.sqrt(4000))


def test_coefficient_called_loss():
    kind = make_dataclass("Mine", [("weight", float, 1.0)], bases=(Penalty,), frozen=True, namespace={"kind": "loss"})
    with pytest.raises(SpecError, match='given a component with the coefficient "loss"; expected another name'):
        Spec((6, 5, 1), DenseBackbone((8,)), PlainBottleneck(2), penalties=(kind(),))


def test_coupled_penalties_are_evaluated_whole(hold):
    """300 images, so that JAX would divide them, and fill up the last part with nothing but filler."""
    with loaded(PARTS) as parts:
        spec = Spec((32, 32, 1), ConvBackbone((32,), (2,)), PlainBottleneck(2), penalties=(parts.Decorrelation(),))
        spec = with_precision(spec, "float64")
        images = images_of(spec, count=300)
        start = initial_weights(ae_torch.build(spec).shapes, spec, 1)
        answers = [
            {name: np.array(value) for name, value in engine.infer(spec, start).evaluate(images).items()}
            for engine in ENGINES.values()
        ]
    hold(compare("evaluation", *answers, IDENTITY_LIMIT, "float64"))


def test_bottleneck_that_cannot_take_the_features():
    with loaded(PARTS) as parts, pytest.raises(SpecError, match="bottleneck: given features of shape"):
        Spec((6, 5, 1), DenseBackbone((8,)), parts.MapBottleneck(2))


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated", "ignore:Profiler")
def test_compiled_optimizer_of_another_kind():
    """Only Adam's counter is put in its place beforehand."""
    with loaded(PARTS) as parts:
        spec = Spec(
            (6, 5, 1), DenseBackbone((8,)), PlainBottleneck(2), training=Training(parts.RMSprop(), batch_size=6)
        )
        images = images_of(spec)
        start = initial_weights(ae_torch.build(spec).shapes, spec, 1)
        losses = [
            ae_torch.engine.Trainer(spec, start, images, variant).advance(make_steps(spec, 20, 0, 0, 0, 3))["loss"]
            for variant in (Variant(), replace(Variant(), compile_optimizer=True))
        ]
    # three steps of float32: some ten roundings of 2⁻²⁴ each
    np.testing.assert_allclose(*losses, rtol=1e-5)
