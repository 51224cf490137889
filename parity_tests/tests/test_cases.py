"""What holds for every row of the table of cases, in either twin."""

from itertools import pairwise

import pytest

import ae_jax.model.conv
import ae_jax.model.dense
import ae_torch.model.conv
import ae_torch.model.dense
from ae_core.spec import components_of, families
from ae_core.spec.presets import PRESETS
from parity_tests.cases import CASES, ROWS, covering, own_kinds
from parity_tests.gates.order import ENGINES
from parity_tests.oracle import layers_of, without_oracle
from parity_tests.oracle.linear import Linear
from parity_tests.oracle.norm import Norm

NORMED = {name: spec for name, spec in CASES.items() if getattr(spec.backbone, "norm", None) is not None}
"""Those with blocks of a layer, a normalisation and an activation."""


def before_norms(spec):
    """Return every layer whose bias a norm takes away again, in part or whole.

    Batch norm takes away what is the same for all images, also after one more fully connected layer.
    """
    if getattr(spec.backbone, "norm", None) is None:
        return []
    layers = layers_of(spec)
    found = [before for before, name in pairwise(layers) if isinstance(layers[name], Norm)]
    if spec.backbone.norm.couples_samples:
        linear = [name for name, layer in layers.items() if isinstance(layer, Linear)]
        found += [before for before, name in pairwise(layers) if name in found and {before, name} <= set(linear)]
    return found


def biased(twin, spec):
    names = ENGINES[twin].shapes(spec)
    assert all(f"{layer}.weight" in names for layer in before_norms(spec))
    return [layer for layer in before_norms(spec) if f"{layer}.bias" in names]


@pytest.mark.quick
@pytest.mark.parametrize("twin", ENGINES)
def test_no_bias_before_a_norm(twin):
    """Its true gradient would be 0, and Adam would turn the rounding of it into full steps."""
    assert [name for name, spec in CASES.items() if biased(twin, spec)] == []
    assert {name for name, spec in CASES.items() if before_norms(spec)} == set(NORMED)


@pytest.mark.quick
def test_no_row_stands_in_for_a_preset():
    assert len(CASES) == len(PRESETS) + len(ROWS)


@pytest.mark.quick
def test_rows_that_cover_the_table():
    assert covering(lambda spec: ()) == ()
    assert len(covering(lambda spec: ("all",))) == 1
    chosen = covering(lambda spec: {part.kind for part in components_of(spec)})
    assert {part.kind for name in chosen for part in components_of(CASES[name])} == {
        part.kind for spec in CASES.values() for part in components_of(spec)
    }
    assert len(chosen) < len(CASES) / 3


@pytest.mark.quick
def test_every_kind_has_a_case():
    found = {(part.family, part.kind) for spec in CASES.values() for part in components_of(spec)}
    assert found == {(family, name) for family in families() for name in own_kinds(family)}


@pytest.mark.quick
def test_every_case_has_an_oracle():
    assert {name: without_oracle(spec) for name, spec in CASES.items() if without_oracle(spec)} == {}


@pytest.mark.quick
@pytest.mark.parametrize("twin", ENGINES)
def test_a_bias_before_a_norm_is_found(twin, monkeypatch):
    package = ae_jax.model if twin == "jax" else ae_torch.model
    for module, name in ((package.dense, "Linear"), (package.conv, "Conv"), (package.conv, "ConvTranspose")):
        layer = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *fields, use_bias=True, layer=layer: layer(*fields))
    for spec in NORMED.values():
        assert biased(twin, spec) == [layer for layer in before_norms(spec) if not layer.startswith("bottleneck.")]
        assert biased(twin, spec)


@pytest.mark.quick
def test_a_code_before_batch_norm_counts():
    assert "bottleneck.code" in before_norms(CASES["dense batch norm"])
    assert "bottleneck.code" not in before_norms(CASES["dense layer norm"])
    assert "bottleneck" not in before_norms(CASES["dense batch norm, vae"])
