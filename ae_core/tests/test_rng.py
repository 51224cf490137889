"""Random numbers: each site has a stream of its own, the same today, tomorrow and on any machine."""

import itertools

import numpy as np

from ae_core.rng import generator, normal

_SITES = [(0,), (1,), (0, "a"), (0, "b"), (0, 1), (0, "1"), (1, "a"), (0, "a", 1), (0, "a", 2), (0, "a1"), (-1, "a")]


def test_equal_sites_have_equal_streams():
    for site in _SITES:
        np.testing.assert_array_equal(generator(*site).random(8), generator(*site).random(8))


def test_different_sites_have_independent_streams():
    draws = {site: generator(*site).standard_normal(10_000) for site in _SITES}
    for one, two in itertools.combinations(_SITES, 2):
        # the correlation of independent draws has the standard error 1/√10000
        assert abs(np.corrcoef(draws[one], draws[two])[0, 1]) < 0.05, (one, two)


def test_drawing_from_one_site_moves_no_other():
    first = normal((4,), 0, "noise", 7)
    generator(0, "noise", 7).random(100)
    np.random.default_rng(0).random(100)
    np.testing.assert_array_equal(normal((4,), 0, "noise", 7), first)


def test_normal():
    x = normal((100, 200), 0, "noise")
    assert x.shape == (100, 200)
    assert x.dtype == np.float64
    # five standard errors of 20,000 draws: 1/√n of the mean, √(2/n) of the variance
    assert abs(x.mean()) < 5 / np.sqrt(x.size)
    assert abs(x.var() - 1) < 5 * np.sqrt(2 / x.size)
    np.testing.assert_array_equal(x, generator(0, "noise").standard_normal((100, 200)))


def test_frozen():
    # Weights, splits and batches of earlier runs can only be had again while these numbers stay.
    np.testing.assert_array_equal(generator(0, "init", "a").integers(0, 1000, 4), [926, 326, 711, 389])
