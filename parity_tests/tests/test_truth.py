"""What both twins share is what papers, PyTorch, SciPy and scikit-learn say; a fault in both is noticed there."""

import pytest

from parity_tests.faults import FAULTS
from parity_tests.faults.both import CORE
from parity_tests.gates.truth import TRUTHS

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("name", TRUTHS)
def test_truth(name, hold):
    hold(TRUTHS[name]())


def test_every_comparison_with_the_outside_has_a_fault():
    assert {fault.case for fault in CORE.values()} == TRUTHS.keys()
    assert CORE.items() <= FAULTS.items()
