"""Initial weights: the distributions, and that each tensor depends on its name, shape and seed alone."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from ae_core.spec import DenseBackbone, PlainBottleneck, Spec
from ae_core.training import initial

_DENSE, _CONV = (300, 200), (64, 32, 5, 5)

# name: variance as a function of fan in and fan out
_VARIANCES = {
    "glorot_uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "glorot_normal": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "he_uniform": lambda fan_in, fan_out: 2 / fan_in,
    "he_normal": lambda fan_in, fan_out: 2 / fan_in,
    "lecun_normal": lambda fan_in, fan_out: 1 / fan_in,
}


def initial_weights(shapes, initializer, seed):
    return initial.initial_weights(
        shapes, Spec((2, 2, 1), DenseBackbone(()), PlainBottleneck(1), initializer=initializer), seed
    )


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), [(_DENSE, 200, 300), (_CONV, 32 * 25, 64 * 25)])
@pytest.mark.parametrize("initializer", _VARIANCES)
def test_distribution(initializer, shape, fan_in, fan_out):
    w = initial_weights({"w.weight": shape}, initializer, 0)["w.weight"]
    assert w.shape == shape
    assert w.dtype == np.float64
    variance, n = _VARIANCES[initializer](fan_in, fan_out), w.size
    # Five standard errors: √(variance/n) of the mean; of the mean square, variance·√((κ − 1)/n), where the kurtosis κ
    # is 3 for a normal and 9/5 for a uniform variable.
    kurtosis = 1.8 if initializer.endswith("uniform") else 3.0
    assert abs(w.mean()) < 5 * math.sqrt(variance / n)
    assert abs((w**2).mean() / variance - 1) < 5 * math.sqrt((kurtosis - 1) / n)
    # The measured kurtosis lies within 0.2 of its own: its standard error is below √(96/n) < 0.05.
    assert abs((w**4).mean() / (w**2).mean() ** 2 - kurtosis) < 0.2
    if initializer.endswith("uniform"):
        limit = math.sqrt(3 * variance)
        # All n numbers stay below (1 − δ)·limit with probability (1 − δ)ⁿ < e⁻²⁰ at δ = 20/n.
        assert (1 - 20 / n) * limit < np.abs(w).max() <= limit


def test_vectors_are_zeros_and_ones():
    names = {
        "encoder.blocks.0.conv.bias": 0,
        "encoder.blocks.0.norm.weight": 1,
        "encoder.blocks.0.norm.bias": 0,
        "encoder.blocks.0.norm.running_mean": 0,
        "encoder.blocks.0.norm.running_var": 1,
    }
    tensors = initial_weights(dict.fromkeys(names, (7,)), "he_normal", 3)
    for name, value in names.items():
        np.testing.assert_array_equal(tensors[name], np.full(7, float(value)), strict=True)


_SHAPES = {"a.weight": (3, 4), "a.bias": (3,), "b.weight": (5, 3, 2, 2), "c.weight": (3, 4)}


def test_depends_on_nothing_but_name_shape_and_seed():
    whole = initial_weights(_SHAPES, "glorot_uniform", 1)
    turned = initial_weights(dict(reversed(_SHAPES.items())), "glorot_uniform", 1)
    for name, shape in _SHAPES.items():
        alone = initial_weights({name: shape}, "glorot_uniform", 1)[name]
        np.testing.assert_array_equal(whole[name], alone)
        np.testing.assert_array_equal(whole[name], turned[name])


def test_names_and_seeds_have_streams_of_their_own():
    one, two = (initial_weights(_SHAPES, "glorot_uniform", seed) for seed in (1, 2))
    assert not np.isin(one["a.weight"], one["c.weight"]).any()
    assert not np.isin(one["a.weight"], two["a.weight"]).any()


@dataclass(frozen=True)
class _Named(PlainBottleneck.__base__):
    """Says where its tensors start."""

    kind: ClassVar[str] = "named starts"

    def latent_shape(self, features):
        return (2,)

    @property
    def initial_values(self):
        return {"table": 0.5, "counts.running_of": "ones", "scale": "kernel", "gate.weight": "zeros"}


def test_a_component_says_where_its_tensors_start():
    spec = Spec((2, 2, 1), DenseBackbone(()), _Named())
    shapes = {"bottleneck.table": (40, 50), "bottleneck.counts.running_of": (4, 2), "bottleneck.gate.weight": (3,)}
    tensors = initial.initial_weights(shapes | {"bottleneck.unstable": (3,)}, spec, 0)
    # the standard error of a standard deviation is σ/√(2n)
    assert abs(tensors["bottleneck.table"].std() - 0.5) < 5 * 0.5 / math.sqrt(2 * 2000)
    np.testing.assert_array_equal(tensors["bottleneck.counts.running_of"], np.ones((4, 2)))
    np.testing.assert_array_equal(tensors["bottleneck.gate.weight"], np.zeros(3))
    np.testing.assert_array_equal(tensors["bottleneck.unstable"], np.zeros(3))  # "table" is not the end of a part
