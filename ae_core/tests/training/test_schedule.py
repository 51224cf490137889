"""Learning rates: each shape against its formula, step by step."""

import math

import numpy as np
import pytest

from ae_core.spec import SGD, Adam, Constant, Cosine, DenseBackbone, PlainBottleneck, Spec, Training
from ae_core.spec.schedule import Cyclical, Ramp
from ae_core.training.steps import learning_rates as rates_of


def learning_rates(training, steps, total):
    return rates_of(Spec((2, 2, 1), DenseBackbone(()), PlainBottleneck(1), training=training), steps, total)


def _oracle(schedule, step, total):
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    if schedule.kind == "constant":
        return 1.0
    share = (step - schedule.warmup_steps) / (total - schedule.warmup_steps)
    return schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * share)) / 2


@pytest.mark.parametrize("total", [7, 20])
@pytest.mark.parametrize("warmup", [0, 1, 5])
@pytest.mark.parametrize("make", [Constant, Cosine, lambda warmup: Cosine(warmup, 0.1)])
def test_formula(make, warmup, total):
    training = Training(SGD(0.3), make(warmup))
    rates = learning_rates(training, np.arange(total), total)
    expected = [0.3 * _oracle(training.schedule, step, total) for step in range(total)]
    np.testing.assert_allclose(rates, expected, rtol=1e-14, atol=1e-17)
    assert rates.dtype == np.float64


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(), [1, 1, 1, 1, 1, 1, 1, 1]),
        (Constant(4), [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        (Constant(20), [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4]),
        (Cosine(4), [0.25, 0.5, 0.75, 1, 1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]),
        (Cosine(8), [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1]),
        (Cosine(4, 1.0), [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
    ],
)
def test_numbers(schedule, expected):
    rates = learning_rates(Training(Adam(1.0), schedule), np.arange(8), 8)
    np.testing.assert_allclose(rates, expected, rtol=1e-14)


def test_cosine_ends_where_it_says():
    training = Training(Adam(2.0), Cosine(3, 0.25))
    np.testing.assert_allclose(learning_rates(training, np.array([10, 11]), 10), [0.5, 0.5], rtol=1e-15)


def test_each_step_stands_alone():
    training = Training(Adam(1e-3), Cosine(5, 0.1))
    whole = learning_rates(training, np.arange(40), 40)
    for step in range(40):
        assert learning_rates(training, np.array([step]), 40)[0] == whole[step]


def test_ramp():
    ramp = Ramp(0.5, 2.5, 4)
    np.testing.assert_allclose(
        [ramp.value(step, 100) for step in range(7)], [0.5, 1, 1.5, 2, 2.5, 2.5, 2.5], rtol=1e-15
    )
    assert ramp.last == 2.5


def test_cyclical():
    # 3 cycles of ⌈20/3⌉ = 7 steps, of which 3.5 rise
    saw = Cyclical(2.0, cycles=3, rising=0.5)
    one = [0, 4 / 7, 8 / 7, 12 / 7, 2, 2, 2]
    np.testing.assert_allclose([saw.value(step, 20) for step in range(20)], (one * 3)[:20], rtol=1e-15)
    assert saw.last == 2.0
    np.testing.assert_allclose(
        [Cyclical(1.0, 1, 1.0).value(step, 4) for step in range(4)], [0, 0.25, 0.5, 0.75], rtol=1e-15
    )
