"""Each layer alone, in float64: output, input gradient and parameter gradients."""

import pytest

from parity_tests.gates.layers import ALONE


@pytest.mark.parametrize("name", ALONE)
def test_alone(name, hold):
    hold(ALONE[name]())
