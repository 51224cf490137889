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
from benchmarks.race.sides.engine import check_many
from benchmarks.race.sides.peer import check_common, expect
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
    "schedule of a weight": (
        replace(CONV, bottleneck=GaussianBottleneck(2, kl_weight=Cosine())),
        'schedule: given "cosine"; expected none',
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


@pytest.mark.parametrize("name", OTHERS)
def test_plain_flax_refuses(name):
    workload = replace(WORKLOADS["tiny-conv"], spec=OTHERS[name])
    with pytest.raises(SpecError, match="cannot build this model: "):
        SIDES["flax"].open(workload, "loop")


def test_many_at_once_are_trained_on_the_reconstruction_alone():
    check_many(DENSE)
    for spec in (VAE, replace(DENSE, backbone=DenseBackbone((8,), norm=BatchNorm()))):
        with pytest.raises(SpecError, match="cannot build this model: "):
            check_many(spec)
