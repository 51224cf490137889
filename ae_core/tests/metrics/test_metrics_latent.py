"""Metrics of codes, against scikit-learn and small cases worked out by hand."""

import numpy as np
import pytest
from scipy.stats import energy_distance as scipy_energy_distance
from sklearn.feature_selection import r_regression
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Lasso, LinearRegression
from sklearn.manifold import trustworthiness as scikit_trustworthiness
from sklearn.metrics import mutual_info_score, r2_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from ae_core.metrics import (
    dci,
    dci_scores,
    energy_distance,
    knn_agreement,
    lasso,
    linear_r2,
    mig,
    monotone,
    sap,
    smooth_r2,
    trustworthiness,
)
from ae_core.metrics import factors as module
from ae_core.metrics.knn import nearest
from ae_core.rng import generator, normal


@pytest.mark.parametrize("k", [1, 5, 20])
def test_trustworthiness_is_scikit_learns(k):
    images = normal((60, 3, 4, 1), 0, "images")
    codes = images.reshape(60, 12)[:, :2] + 0.3 * normal((60, 2), 0, "codes")
    expected = scikit_trustworthiness(images.reshape(60, 12), codes, n_neighbors=k)
    assert 0.5 < expected < 0.99
    assert trustworthiness(images, codes, k) == pytest.approx(expected, rel=1e-13)


def test_trustworthiness_by_hand():
    # on a line 0 1 3 7 15 the codes swap the ends: each end's nearest code is now the other's neighbour
    images, codes = np.array([[0.0], [1], [3], [7], [15]]), np.array([[15.0], [1], [3], [7], [0]])
    # nearest codes: 0→3, 1→4, 2→1, 3→2, 4→1; their ranks among images: 3, 4, 1, 1, 3
    assert trustworthiness(images, codes, 1) == pytest.approx(1 - 2 / (5 * 6) * (2 + 3 + 0 + 0 + 2))
    assert trustworthiness(images, images, 2) == 1
    with pytest.raises(ValueError, match="given k = 3 of 5"):
        trustworthiness(images, codes, 3)


@pytest.mark.parametrize("kind", ["i", "U"])
@pytest.mark.parametrize(("classes", "k"), [(3, 1), (10, 5), (70, 4)])
def test_knn_agreement_is_scikit_learns(classes, k, kind):
    labels = generator(0, "labels").integers(0, classes, 300)
    codes = labels[:, None] / classes * 4 + normal((300, 2), 0, "codes")
    guess = cross_val_predict(KNeighborsClassifier(k, algorithm="brute"), codes, labels, cv=LeaveOneOut())
    expected = (guess == labels).mean()
    assert 0 < expected < 1
    given = labels if kind == "i" else np.char.zfill(labels.astype(str), 2)  # in the order of the numbers
    assert knn_agreement(codes, given, k) == expected


def test_knn_agreement_by_hand():
    codes = np.array([[0.0], [1], [2.5], [10], [11]])
    assert knn_agreement(codes, np.array([0, 0, 1, 1, 1]), 1) == 4 / 5
    assert knn_agreement(codes, np.array([0, 0, 0, 1, 1]), 1) == 1


def test_nearest_is_scikit_learns():
    codes, queries = normal((1500, 3), 0, "codes") + 1e4, normal((700, 3), 0, "queries") + 1e4
    expected = NearestNeighbors(n_neighbors=7, algorithm="kd_tree").fit(codes).kneighbors(queries)[1]
    np.testing.assert_array_equal(nearest(queries, codes, 7), expected)
    expected = NearestNeighbors(n_neighbors=4, algorithm="kd_tree").fit(codes).kneighbors()[1]
    np.testing.assert_array_equal(nearest(codes, codes, 4, True), expected)


def _halves(count=200, latents=3):
    codes = normal((2 * count, latents), 1, "codes") * 3 + 5
    factors = np.stack([np.sin(codes[:, 0] / 3) + codes[:, 1], codes[:, 1] ** 2], 1) + 0.05 * normal(
        (2 * count, 2), 1, "factors"
    )
    return codes[:count], factors[:count], codes[count:], factors[count:]


def test_linear_r2_is_scikit_learns():
    codes, factors, unseen, truth = _halves()
    guess = LinearRegression().fit(codes, factors).predict(unseen)
    expected = r2_score(truth, guess, multioutput="raw_values")
    np.testing.assert_allclose(linear_r2(codes, factors, unseen, truth), expected, rtol=1e-11)


def test_linear_r2_of_equal_and_constant_latents():
    codes, factors, unseen, truth = _halves()
    more = [np.column_stack([z, z[:, 0], np.full(len(z), 3.0)]) for z in (codes, unseen)]
    expected = linear_r2(codes, factors, unseen, truth)
    np.testing.assert_allclose(linear_r2(more[0], factors, more[1], truth), expected, rtol=1e-10)


def test_smooth_r2_is_scikit_learns_kernel_ridge():
    """The choice by a closed form is the choice by fitting as many times as there are codes."""
    codes, factors, unseen, truth = _halves(40)
    x, y = module.standardised(codes, unseen)
    distances = ((x[:, None] - x) ** 2).sum(-1)[np.triu_indices(len(x), 1)]
    mean = factors.mean(0)
    expected = []
    for i in range(2):
        choices = {}
        for bandwidth in module.BANDWIDTHS:
            for ridge in module.RIDGES:
                gamma = 0.5 / (bandwidth**2 * np.median(distances))
                model = KernelRidge(alpha=ridge * len(x), kernel="rbf", gamma=gamma)
                # the mean is taken out once, before: it is that of all fitted codes
                left_out = cross_val_predict(model, x, factors[:, i] - mean[i], cv=LeaveOneOut())
                error = ((left_out - factors[:, i] + mean[i]) ** 2).mean()
                choices[error] = model.fit(x, factors[:, i] - mean[i]).predict(y) + mean[i]
        expected.append(r2_score(truth[:, i], choices[min(choices)]))
    ours = smooth_r2(codes, factors, unseen, truth)
    np.testing.assert_allclose(ours, expected, rtol=1e-8)  # condition of the kernel with its ridge, 1e6, times 1e-14


def test_a_smooth_regressor_reads_what_a_line_cannot():
    halves = _halves(500)
    assert linear_r2(*halves).min() < 0.9 < 0.98 < smooth_r2(*halves).min()


def test_r2_of_noise_is_not_above_zero_by_much():
    codes, factors, unseen, truth = _halves(300)
    noise = normal(factors.shape, 3, "noise")
    other = normal(truth.shape, 4, "noise")
    for regressor in (linear_r2, smooth_r2):
        assert (regressor(codes, noise, unseen, other) < 0.05).all()


def _twentieths(x):
    low, high = x.min(), x.max()
    return np.minimum(np.floor((x - low) / (high - low) * module.MIG_BINS), module.MIG_BINS - 1)


def test_mig_is_scikit_learns_mutual_information():
    codes, factors = _halves(1000)[:2]
    told = np.array([[mutual_info_score(_twentieths(z), _twentieths(v)) for v in factors.T] for z in codes.T])
    entropy = [mutual_info_score(_twentieths(v), _twentieths(v)) for v in factors.T]
    expected = (np.sort(told, 0)[-1] - np.sort(told, 0)[-2]) / entropy
    np.testing.assert_allclose(mig(codes, factors), expected, rtol=1e-10)


def test_mig_by_hand():
    # a latent that is the factor, one that knows nothing: the gap is the whole entropy; twice the factor: no gap
    factor, other = np.repeat([0.0, 1.0], 4)[:, None], np.tile([0.0, 1.0], 4)[:, None]
    assert mig(np.hstack([factor, other]), factor) == pytest.approx(1)
    assert mig(np.hstack([factor, -factor]), factor) == pytest.approx(0)
    assert mig(np.hstack([factor, 0 * factor]), factor) == pytest.approx(1)
    with pytest.raises(ValueError, match="given one latent number"):
        mig(factor, factor)


def test_sap_is_the_gap_of_squared_correlations():
    codes, factors = _halves()[:2]
    told = np.array([r_regression(codes, v) ** 2 for v in factors.T]).T
    expected = np.sort(told, 0)[-1] - np.sort(told, 0)[-2]
    np.testing.assert_allclose(sap(codes, factors), expected, rtol=1e-11)
    still = np.column_stack([codes[:, 0], np.full(len(codes), 2.0)])
    np.testing.assert_allclose(sap(still, codes[:, :1]), [1])
    with pytest.raises(ValueError, match="given one latent number"):
        sap(codes[:, :1], factors)


@pytest.mark.parametrize("alpha", [0.01, 0.3, 10])
def test_lasso_is_scikit_learns(alpha):
    x = normal((100, 6), 0, "x") @ normal((6, 6), 0, "mixing")
    x[:, 4] = 0
    y = x @ normal((6, 2), 0, "weights") + normal((100, 2), 0, "noise")
    expected = Lasso(alpha=alpha, fit_intercept=False, tol=1e-14, max_iter=10**6).fit(x, y).coef_.T
    np.testing.assert_allclose(lasso(x, y, alpha), expected, rtol=1e-7, atol=1e-9)
    assert (lasso(x, y, alpha)[4] == 0).all()


def test_dci_by_hand():
    assert dci_scores(np.eye(3)) == (1, 1)
    assert dci_scores(np.ones((3, 4))) == pytest.approx((0, 0))
    assert dci_scores(np.zeros((2, 2))) == (0, 0)
    # both latents are for one factor each, the first factor needs them both; a latent without use has no share
    both = np.array([[3.0, 0], [1, 0], [0, 0]])
    completeness = 1 + (0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / np.log(3)
    assert dci_scores(both) == pytest.approx((1, completeness / 2))
    # the first latent serves both factors alike and is half of all that is important
    halves = np.array([[1.0, 1], [2, 0]])
    entropy = -(np.log(1 / 3) / 3 + np.log(2 / 3) * 2 / 3) / np.log(2)
    assert dci_scores(halves) == pytest.approx((0.5, (1 - entropy + 1) / 2))


def test_dci_of_codes():
    codes = normal((400, 3), 0, "codes")
    factors = codes[:, :2] * [1, -4] + 7
    known = dci(codes[:200], factors[:200], codes[200:], factors[200:])
    assert min(known[:2]) > 0.98
    assert known.error.max() < 0.02  # the penalty shrinks each weight by 0.01
    turned = codes @ np.linalg.qr(normal((3, 3), 0, "turn"))[0]
    mixed = dci(turned[:200], factors[:200], turned[200:], factors[200:])
    assert max(mixed[:2]) < 0.7
    assert mixed.error.max() < 0.05
    unknown = dci(normal((200, 3), 1, "z"), factors[:200], normal((200, 3), 2, "z"), factors[200:])
    np.testing.assert_allclose(unknown.error, 1, atol=0.2)
    with pytest.raises(ValueError, match="given 1 latents and 2 factors"):
        dci(codes[:200, :1], factors[:200], codes[200:, :1], factors[200:])


def test_energy_distance_is_scipys():
    a, b = normal((50, 1), 0, "a"), 0.5 + normal((70, 1), 0, "b")
    assert energy_distance(a, b) == pytest.approx(scipy_energy_distance(a[:, 0], b[:, 0]) ** 2, rel=1e-9)
    # of wide points, in long form
    x, y = normal((9, 2, 3), 0, "x"), normal((7, 2, 3), 0, "y")
    mean = [np.mean([np.linalg.norm(i - j) for i in p for j in q]) for p, q in ((x, y), (x, x), (y, y))]
    assert energy_distance(x, y) == pytest.approx(2 * mean[0] - mean[1] - mean[2], rel=1e-9)
    # a distance of 0 comes out as the root of what rounding leaves of squares near 6: √(6·2⁻⁵²) = 4e-8
    assert energy_distance(x, x) == pytest.approx(0, abs=4e-8)


def test_monotone_by_hand():
    line, arc = [[0, 0], [1, 0], [2, 0]], [[0, 0], [1, 1], [2, 0]]
    fold, still = [[0, 0], [3, 0], [2, 0]], [[0, 0], [0, 1], [2, 0]]
    assert monotone(np.array([line, arc], float)) == 1
    assert monotone(np.array([line, fold, fold, still], float)) == 0.25
