"""Each single layer, in float64: output, input gradient and parameter gradients."""

import pytest

from parity_tests.gates.layers import SINGLE_LAYERS


@pytest.mark.parametrize("name", SINGLE_LAYERS)
def test_single_layer(name, hold):
    hold(SINGLE_LAYERS[name]())
