"""How batches are divided: nothing is lost, little is padded, and what cannot be divided is refused."""

from dataclasses import replace

import jax
import pytest

from ae_core.errors import SpecError
from ae_core.spec import BatchNorm
from ae_core.spec.presets import PRESETS, preset
from ae_jax.execution import plan
from ae_jax.execution.plan import Division, Plan, divide

_COUPLED = replace(preset("dense-mnist"), backbone=replace(preset("dense-mnist").backbone, norm=BatchNorm()))


@pytest.fixture
def cores(monkeypatch):
    """Say how many devices there are."""
    return lambda count: monkeypatch.setattr(jax, "local_device_count", lambda: count)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("there", [1, 2, 3, 8])
def test_every_image_has_a_row_and_few_rows_have_none(name, there, cores):
    cores(there)
    for batch in (*range(1, 70), 100, 128, 500, 512, 1000):
        division = divide(preset(name), batch)
        assert batch <= division.rows < 1.25 * batch + 1
        assert 1 <= division.devices <= there
        assert (division.devices - 1) * division.parts * division.size < batch, "a device without images"


def test_convolutions_are_worth_a_mesh_and_dense_layers_are_not(cores):
    cores(2)
    assert divide(preset("foster-ae"), 128).devices == 2
    assert divide(preset("foster-ae"), 2).devices == 1
    assert divide(preset("dense-mnist"), 64).devices == 1


def test_a_part_fits_the_cache(cores):
    cores(1)
    division = divide(preset("foster-ae"), 512)
    assert 4 * 76_000 * division.size < 1.25 * plan.CACHE_BYTES
    half = replace(preset("foster-ae"), training=replace(preset("foster-ae").training, precision="float64"))
    assert divide(half, 512).size <= max(plan.LEAST_PART * 5 // 4, division.size)
    assert divide(preset("dense-mnist"), 64) == Division(1, 1, 64)


def test_the_user_decides(cores):
    cores(4)
    assert divide(preset("foster-ae"), 100, Plan(3, 5)) == Division(3, 7, 5)
    assert divide(preset("dense-mnist"), 10, Plan(4)) == Division(4, 1, 3)
    assert divide(preset("foster-ae"), 3, Plan(1, 100)) == Division(1, 1, 3)


def test_accelerators_take_a_batch_whole(cores, monkeypatch):
    cores(4)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert divide(preset("foster-ae"), 512) == Division(4, 1, 128)
    assert divide(preset("foster-ae"), 102) == Division(3, 1, 34)


def test_batch_norm_is_not_divided_in_training(cores):
    cores(8)
    assert divide(_COUPLED, 600) == Division(1, 1, 600)
    assert divide(_COUPLED, 600, Plan(1, 600)) == Division(1, 1, 600)
    assert divide(_COUPLED, 600, Plan(2), train=False).devices == 2
    for wish in (Plan(2), Plan(None, 8), Plan(1, 599)):
        with pytest.raises(SpecError, match='the norm "batch" couples the samples'):
            divide(_COUPLED, 600, wish)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Plan(3), "plan.devices: given 3; expected at least 1, at most 2"),
        (Plan(0), "plan.devices: given 0; expected at least 1"),
        (Plan(1, 0), "plan.micro_batch: given 0; expected at least 1$"),
    ],
)
def test_wishes_that_cannot_be(wish, message, cores):
    cores(2)
    with pytest.raises(SpecError, match=message):
        divide(preset("foster-ae"), 100, wish)
