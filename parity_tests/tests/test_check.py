"""The comparison itself can fail, and does where it must."""

import numpy as np
import pytest

from parity_tests.check import Check, compare, normwise, worst

A = {"x": np.arange(6.0).reshape(2, 3), "y": np.ones(4)}


def changed(**arrays):
    return {**A, **arrays}


FAULTS = {
    "a perturbed number": changed(x=A["x"] + [[0, 0, 0], [0, 0, 1e-9]]),
    "a NaN on one side": changed(y=np.array([1, 1, np.nan, 1])),
    "an infinity on one side": changed(y=np.array([1, 1, np.inf, 1])),
    "another shape": changed(x=A["x"].T.copy()),
    "a narrower dtype": changed(y=A["y"].astype(np.float32)),
    "a missing array": {"x": A["x"]},
    "an extra array": changed(z=np.ones(1)),
    "zeros for numbers": changed(y=np.zeros(4)),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("swapped", [False, True])
def test_fault_fails(fault, swapped):
    pair = (FAULTS[fault], A) if swapped else (A, FAULTS[fault])
    assert not all(check.passed for check in compare("test", *pair, 1e-11, "float64"))


def test_nan_on_both_sides_fails():
    both = changed(y=np.array([1, 1, np.nan, 1]))
    assert not all(check.passed for check in compare("test", both, both, 1e-11, "float64"))


def test_narrowed_on_both_sides_fails():
    both = {"x": np.ones(3, np.float32)}
    assert not compare("test", both, both, 1e-11, "float64")[0].passed


def test_equal_arrays_pass():
    checks = compare("test", A, changed(), 1e-11, "float64")
    assert [check.worst for check in checks] == [0.0, 0.0]


def test_nothing_to_compare_is_an_error():
    with pytest.raises(ValueError, match="nothing to compare"):
        compare("test", {}, {}, 1e-11, "float64")


def test_normwise_is_relative_and_symmetric():
    a, b = np.array([3.0, 4.0]), np.array([3.0, 4.5])
    assert normwise(a, b) == normwise(b, a) == pytest.approx(0.5 / np.hypot(3, 4.5), rel=1e-15)
    assert normwise(a * 1e-150, b * 1e-150) == pytest.approx(normwise(a, b), rel=1e-12)


def test_worst_takes_nan_for_the_worst():
    checks = [Check("a", "", 1.0, 1e-11), Check("b", "", float("nan"), 1e-11), Check("c", "", 0.0, 1e-11)]
    assert worst(checks).name == "b"


def test_an_infinite_limit_passes_nothing():
    assert not Check("a", "", 0.0, float("inf")).passed
    assert not Check("a", "", float("inf"), float("inf")).passed
