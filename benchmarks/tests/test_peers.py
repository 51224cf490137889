"""A peer refuses what its adapter was not written for, in one line, before anything is timed."""

from dataclasses import replace

import pytest

from ae_core.errors import SpecError
from ae_core.spec import (
    SGD,
    Adam,
    BatchNorm,
    ConvBackbone,
    Cosine,
    DenseBackbone,
    GaussianBottleneck,
    GaussianLikelihood,
    Training,
)
from benchmarks.race.sides import SIDES
from benchmarks.race.sides.peer import FLAX_ACTIVATIONS, check_common, expect
from benchmarks.race.workloads import WORKLOADS

CONV, VAE, DENSE = (WORKLOADS[f"tiny-{name}"].spec for name in ("conv", "vae", "dense"))
REFUSED = {
    "likelihood": (
        replace(CONV, likelihood=GaussianLikelihood()),
        'given the likelihood "gaussian"; expected "bernoulli"',
    ),
    "norm": (replace(CONV, backbone=ConvBackbone((4,), (2,), norm=BatchNorm())), 'norm: given "batch"; expected none'),
    "clipping": (replace(CONV, training=Training(clip_norm=1.0)), "training.clip_norm: given 1.0; expected null"),
    "schedule": (replace(CONV, training=Training(schedule=Cosine())), "training.schedule: given Cosine("),
    "capacity": (
        replace(CONV, bottleneck=GaussianBottleneck(2, capacity=3.0)),
        'term of the loss: given "capacity"; expected reconstruction or kl',
    ),
    "schedule of a weight": (
        replace(CONV, bottleneck=GaussianBottleneck(2, kl_weight=Cosine())),
        'schedule: given "cosine"; expected none',
    ),
    "dropout": (
        replace(VAE, backbone=ConvBackbone((4,), (2,), dropout=0.1)),
        'noise: given "decoder.blocks.0.dropout"; expected that of a code alone',
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_common_refusals(name):
    spec, expected = REFUSED[name]
    with pytest.raises(SpecError) as caught:
        check_common(spec, constant=True)
    assert str(caught.value).startswith("cannot build this model: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_peers_build_is_not_refused():
    for spec in (CONV, VAE, DENSE):
        assert check_common(spec, constant=True) is spec.likelihood
    check_common(replace(CONV, training=Training(schedule=Cosine())))  # with learning rates of its own
    assert expect(CONV.training.optimizer, Adam) is CONV.training.optimizer
    with pytest.raises(SpecError, match='given the optimizer "sgd"; expected "adam"'):
        expect(SGD(), Adam)
    with pytest.raises(SpecError, match='given the backbone "dense"; expected "conv"'):
        expect(DENSE.backbone, ConvBackbone)


OTHERS = {
    "optimizer": replace(CONV, training=Training(optimizer=SGD(), batch_size=8)),
    "activation": replace(CONV, backbone=ConvBackbone((4,), (2,), activation="silu")),
    "padding": replace(CONV, backbone=ConvBackbone((4,), (2,), padding="torch")),
    "activation of a dense model": replace(DENSE, backbone=DenseBackbone((8,), activation="silu")),
}


KNOWN_TO = {
    "flax": {REFUSED["schedule"][0]},  # it has learning rates of its own
    "pythae": {OTHERS[name] for name in ("activation", "padding", "activation of a dense model")},  # handed our layers
}


@pytest.mark.parametrize("name", OTHERS)
def test_plain_flax_refuses(name):
    workload = replace(WORKLOADS["tiny-conv"], spec=OTHERS[name])
    with pytest.raises(SpecError, match="cannot build this model: "):
        SIDES["flax"].open(workload, "loop")


MAPPED = {
    "state": replace(DENSE, backbone=DenseBackbone((8,), norm=BatchNorm())),
    "training.clip_norm": replace(DENSE, training=Training(clip_norm=1.0, batch_size=8)),
}


@pytest.mark.parametrize("name", MAPPED)
def test_what_pytorch_does_not_map_over_models_is_refused(name):
    workload = replace(WORKLOADS["tiny-many"], spec=MAPPED[name])
    with pytest.raises(SpecError, match=f"cannot build this model: {name}: given "):
        SIDES["torch"].open(workload, "func")
    assert SIDES["torch"].open(workload, "in turn").take(1).shape == (1, 3)


def test_each_peer_is_asked_what_it_builds_without_importing_it():
    """What is refused is refused here, whether or not the peer is installed; what its adapter takes is not."""
    for name, takes in (("flax", {CONV, VAE, DENSE}), ("keras-jax", {CONV, VAE}), ("pythae", {CONV, VAE, DENSE})):
        for spec in (CONV, VAE, DENSE, *OTHERS.values(), *(spec for spec, _ in REFUSED.values())):
            refused = SIDES[name].refusal(replace(WORKLOADS["tiny-conv"], spec=spec))
            if spec in takes:
                assert refused is None
            elif spec not in KNOWN_TO.get(name, ()):
                assert refused.startswith("cannot build this model: ")
                assert "\n" not in refused
    assert SIDES["jax"].refusal(WORKLOADS["tiny-conv"]) is None


def test_flax_has_the_activations_that_are_said():
    from benchmarks.race.sides.plain_flax import ACTIVATIONS

    assert tuple(ACTIVATIONS) == FLAX_ACTIVATIONS
