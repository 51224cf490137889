"""What holds for every row of the table of cases, in either twin."""

from itertools import pairwise

import pytest

import ae_jax.model.conv
import ae_jax.model.dense
import ae_torch.model.conv
import ae_torch.model.dense
from ae_core.spec import BatchNorm
from parity_tests.cases import CASES
from parity_tests.gates.order import ENGINES
from parity_tests.oracle import layers_of
from parity_tests.oracle.linear import Linear
from parity_tests.oracle.norm import Norm

NORMED = {name: spec for name, spec in CASES.items() if spec.backbone.norm is not None}


def before_norms(spec):
    """Return every layer whose bias a norm takes away again, in part or whole.

    Batch norm takes away what is the same for all images, also after one more fully connected layer.
    """
    layers = layers_of(spec)
    found = [before for before, name in pairwise(layers) if isinstance(layers[name], Norm)]
    if isinstance(spec.backbone.norm, BatchNorm):
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
    assert {type(spec.backbone.norm).__name__ for spec in NORMED.values()} == {"BatchNorm", "GroupNorm", "LayerNorm"}


@pytest.mark.quick
@pytest.mark.parametrize("twin", ENGINES)
def test_a_bias_before_a_norm_is_found(twin, monkeypatch):
    package = ae_jax if twin == "jax" else ae_torch
    for module, name in ((package.dense, "Linear"), (package.conv, "Conv"), (package.conv, "ConvTranspose")):
        layer = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *fields, use_bias=True, layer=layer: layer(*fields))
    for spec in NORMED.values():
        assert biased(twin, spec) == [layer for layer in before_norms(spec) if ".bottleneck." not in layer]
        assert biased(twin, spec)


@pytest.mark.quick
def test_a_code_before_batch_norm_counts():
    assert "encoder.bottleneck.code" in before_norms(CASES["dense batch norm"])
    assert "encoder.bottleneck.code" not in before_norms(CASES["dense layer norm"])
    assert "encoder.bottleneck" not in before_norms(CASES["dense batch norm, vae"])
