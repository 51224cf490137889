"""Units that are counted: equal to those by hand where a layer is one sum of products, sound elsewhere, or refused."""

import math

import numpy as np
import pytest

from ae_core.errors import MissingError
from parity_tests import oracle
from parity_tests.cases import CASES, covering, images_of
from parity_tests.gates import drift
from parity_tests.oracle.layer import Bounded
from parity_tests.oracle.linear import Bilinear
from parity_tests.oracle.residual import Attention, Enlarge
from parity_tests.oracle.rounding import counted_units, units_of
from parity_tests.tests.test_oracle import GRADIENTS

U = 2.0**-24
LAYERS = GRADIENTS | {"attention": (Attention(6), {}, (12, 9)), "enlarge": (Enlarge(2), {}, (2, 3, 2, 4))}
SUMS = [name for name, (layer, *_) in LAYERS.items() if isinstance(layer, Bilinear)]


def given(name):
    layer, shapes, shape = LAYERS[name]
    rng = np.random.default_rng(8)
    p, x = {key: rng.standard_normal(size) for key, size in shapes.items()}, rng.standard_normal(shape)
    return layer, p, x, rng.standard_normal(layer.forward(p, x).shape)


@pytest.mark.quick
@pytest.mark.parametrize("name", SUMS)
def test_sums_of_products_are_counted_as_by_hand(name):
    """But for a bias' gradient: a sum of N numbers takes N − 1 roundings, which by hand count for N."""
    layer, p, x, dy = given(name)
    counted, by_hand = counted_units(layer, p, x, dy, U), layer.units(p, x, dy, U)
    # a number that is nothing but a bias is exact
    output = np.where(counted.output == 0, by_hand.output, counted.output)
    np.testing.assert_allclose(output, by_hand.output, rtol=1e-12)
    assert (counted.output != 0).mean() > 0.1
    np.testing.assert_allclose(counted.input_gradient, by_hand.input_gradient, rtol=1e-12)
    np.testing.assert_allclose(counted.gradients["weight"], by_hand.gradients["weight"], rtol=1e-12)
    if "bias" in p:
        n = dy.size / dy.shape[-1]
        np.testing.assert_allclose(
            counted.gradients["bias"], by_hand.gradients["bias"] * math.sqrt((n - 1) / n), rtol=1e-12
        )


@pytest.mark.quick
@pytest.mark.parametrize("name", LAYERS)
def test_everything_by_hand_can_be_counted(name):
    """Of the same shapes; what rounds at all is known no better than to half a rounding of itself."""
    layer, p, x, dy = given(name)
    y, (dx, gradients) = layer.forward(p, x), layer.backward(p, x, dy)
    counted = counted_units(layer, p, x, dy, U)
    pairs = [(y, counted.output), (dx, counted.input_gradient)]
    assert counted.gradients.keys() == gradients.keys()
    for right, unit in [*pairs, *((gradients[key], counted.gradients[key]) for key in gradients)]:
        assert unit.shape == right.shape
        assert ((unit == 0) | (unit >= U / 2 * np.abs(right))).all()


class Formula:
    """A layer of one formula, which takes float32 too."""

    def __init__(self, formula):
        self.forward = lambda p, x: formula(x)
        self.backward = lambda p, x, dy: (x, {})


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


FORMULAS = {
    "softmax": softmax,
    "root of a mean of squares": lambda x: x / np.sqrt((x**2).mean(-1, keepdims=True) + np.float32(1e-3)),
    "variance": lambda x: np.var(x, axis=0),
    "standard scores": lambda x: (x - x.mean(0)) / np.std(x, axis=0),
    "distances": lambda x: np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1) + np.float32(0.5)),
    "covariance": lambda x: np.einsum("bi,bj->ij", x - x.mean(0), x - x.mean(0)) / len(x),
    "products": lambda x: np.tensordot(x, x @ x.T, ((0,), (0,))),
    "pieces": lambda x: np.where(x > 0.5, x - np.float32(0.25), np.clip(x, -1, 0.5) ** 3),
    "logistic": lambda x: np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0),
    "mixture": lambda x: np.logaddexp(x[:, :2], x[:, 2:4] * np.float32(0.3)),
    "waves": lambda x: np.concatenate([np.sin(x), np.cos(x)], -1).reshape(-1) * np.tanh(x.sum()),
    "cancelling": lambda x: (1 + x) - (1 - x) - 2 * x + x**4,
    "filled in place": lambda x: filled(x),
    "quotient": lambda x: np.stack([1 / (1 + x**2), x**2.5 if (x > 0).all() else x**5], 1),
}


def filled(x):
    y = np.zeros_like(x, shape=(len(x), x.shape[1] + 2))
    y[:, 1:-1] += x
    y[:, :-2] += x * np.float32(0.1)
    return y


@pytest.mark.quick
@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_float32_stays_within_the_count(name, offset):
    """K·u·scale always, and two units: 25 draws of some 40 numbers each, near 0 and far from it."""
    formula = FORMULAS[name]
    for seed in range(25):
        x = (offset + np.random.default_rng(seed).standard_normal((6, 7))).astype(np.float32)
        wide = x.astype(np.float64)
        right, measured = formula(wide), formula(x)
        assert measured.dtype == np.float32
        unit = counted_units(Formula(formula), {}, wide, np.ones(right.shape), U).output
        assert (np.abs(measured - right) <= 2 * unit).all()
    assert (unit > 0).any()


@pytest.mark.quick
def test_rules():
    def units(formula):
        return counted_units(Formula(formula), {}, np.array([[1.5, -3.0], [0.0, 0.7]]), np.ones((2, 2)), 1.0).output

    def assert_units(formula, right):
        np.testing.assert_allclose(units(formula), right, rtol=1e-15)

    assert_units(lambda x: x, [[0, 0], [0, 0]])
    assert_units(lambda x: -4 * x / 2, [[0, 0], [0, 0]])  # powers of two
    assert_units(lambda x: 3 * x, [[4.5, 9], [0, 2.1]])
    assert_units(lambda x: 0.1 * x, np.sqrt(2) * 0.1 * np.array([[1.5, 3], [0, 0.7]]))  # a rounded constant
    assert_units(lambda x: x + 1, [[2.5, 4], [0, 1.7]])  # and 0 + 1 is exact
    assert_units(lambda x: x - x - x, np.sqrt(2) * np.array([[4.5, 9], [0, 2.1]]))
    assert_units(lambda x: x.sum(1), [4.5, 0])
    assert_units(lambda x: x.mean(), np.sqrt(2) * 5.2 / 4)  # of three numbers that are not 0; by 4 it is exact
    assert_units(lambda x: np.sqrt(np.abs(x)), np.sqrt(np.array([[1.5, 3], [0, 0.7]])) * [[1.5, 1.5], [0, 1.5]])


@pytest.mark.quick
@pytest.mark.parametrize(
    ("formula", "named"),
    [
        (lambda x: np.array([x.sum()]), r"what NumPy does unasked, as np\.array"),
        (lambda x: x + float(x.mean()), "what NumPy does unasked"),
        (lambda x: np.asarray(x) * 2, "what NumPy does unasked"),
        (lambda x: np.linalg.inv(x), "inv"),
        (lambda x: np.sort(x), "sort"),
        (lambda x: np.cumsum(x, 0), "cumsum"),
        (lambda x: np.floor(x), "floor"),
        (lambda x: np.add.accumulate(x), r"add\.accumulate"),
        (lambda x: np.add(x, 1, out=np.zeros((2, 2))), "an array of zeros that is filled in place"),
        (lambda x: np.multiply(x, 2, where=x > 0), "multiply"),
    ],
)
def test_what_cannot_be_counted_is_refused(formula, named):
    with pytest.raises(MissingError, match=f"no count of roundings for {named}.* in Formula; expected"):
        counted_units(Formula(formula), {}, np.array([[1.5, -3.0], [0.5, 0.7]]), np.ones((2, 2)), U)


@pytest.mark.quick
def test_a_nan_that_was_given_is_none_of_numpys():
    layer, p, x, dy = given("linear")
    x[0, 0] = np.nan
    assert np.isnan(counted_units(layer, p, x, dy, U).output[0]).all()


@pytest.mark.quick
def test_units_by_hand_come_first():
    layer, p, x, dy = given("layer norm")
    assert isinstance(layer, Bounded)
    np.testing.assert_array_equal(units_of(layer, p, x, dy, U).output, layer.units(p, x, dy, U).output)
    bare = Formula(lambda x: x + 1)
    assert not isinstance(bare, Bounded)
    np.testing.assert_array_equal(units_of(bare, {}, x, x, U).output, U * (np.abs(x) + 1))


def parts_of(spec):
    return {(type(layer), getattr(layer, "name", "")) for layer in oracle.layers_of(spec).values()}


@pytest.mark.parametrize("name", covering(parts_of))
def test_twins_are_within_what_is_counted(name, monkeypatch, hold):
    """The gate without any unit by hand, on rows that have every layer of the table.

    Of GELU and SiLU the twins compute other formulas than the oracle, and of norms one of less cancellation.
    """

    def counted(layer, *rest):
        other = type(layer).__name__ == "Activation"
        return (layer.units if other else lambda *each: counted_units(layer, *each))(*rest)

    monkeypatch.setattr(drift.oracle, "units_of", counted)
    spec = CASES[name]
    hold(drift.check_layers(spec, images_of(spec), 1, "float32"))
