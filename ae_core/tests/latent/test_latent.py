"""Latent tools: walks, planes, samplers, mixtures, attributes and outliers."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from ae_core import latent
from ae_core.latent import mixture as module
from ae_core.rng import generator, normal

EXACT = 1e-14
"""Relative: some ten float64 operations of 2⁻⁵³ each."""


def test_straight():
    walk = latent.straight(np.array([0.0, 4]), np.array([1.0, 0], np.float32), 5)
    np.testing.assert_array_equal(walk, [[0, 4], [0.25, 3], [0.5, 2], [0.75, 1], [1, 0]])
    with pytest.raises(ValueError, match="given 1 steps"):
        latent.straight(np.zeros(2), np.ones(2), 1)


def test_spherical_turns_at_an_even_pace():
    walk = latent.spherical(np.array([2.0, 0]), np.array([0.0, 2]), 4)
    angles = np.radians([0, 30, 60, 90])
    np.testing.assert_allclose(walk, 2 * np.stack([np.cos(angles), np.sin(angles)], 1), atol=EXACT)


@pytest.mark.parametrize("wide", [2, 5, 64])
def test_spherical_by_rotation(wide):
    """An independent way: turn a about the origin in the plane of a and b; lengths as complex numbers say."""
    a, b = normal((2, wide), 0, "ends")
    walk = latent.spherical(a, b, 7)
    np.testing.assert_allclose(walk[[0, -1]], [a, b], atol=10 * EXACT)
    angle = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    across = b - a * (a @ b) / (a @ a)
    across *= np.linalg.norm(a) / np.linalg.norm(across)
    for t, code in zip(np.linspace(0, 1, 7), walk, strict=True):
        length = np.sin((1 - t) * angle) + np.sin(t * angle) * np.linalg.norm(b) / np.linalg.norm(a) * np.exp(
            1j * angle
        )
        assert np.linalg.norm(code) == pytest.approx(np.linalg.norm(a) * abs(length) / np.sin(angle))
    same = latent.spherical(a, b / np.linalg.norm(b) * np.linalg.norm(a), 7)
    t = np.linspace(0, angle, 7)[:, None]
    np.testing.assert_allclose(same, np.cos(t) * a + np.sin(t) * across, rtol=0, atol=1e-12)


def test_spherical_where_the_formula_has_no_value():
    a = np.array([1.0, 2])
    np.testing.assert_allclose(latent.spherical(a, 3 * a, 3), latent.straight(a, 3 * a, 3), rtol=EXACT)
    np.testing.assert_array_equal(latent.spherical(0 * a, a, 3), latent.straight(0 * a, a, 3))
    near = a + np.array([1e-13, 0])  # where arccos of the cosine would be 0, or not a number
    np.testing.assert_allclose(latent.spherical(a, near, 3), latent.straight(a, near, 3), rtol=1e-12)
    with pytest.raises(ValueError, match="opposite directions"):
        latent.spherical(a, -2 * a, 3)


def test_traversal():
    walks = latent.traversal(np.array([1.0, 2, 3], np.float32), np.array([[7.0, 8], [9, 10]]), [2, 0])
    np.testing.assert_array_equal(walks, [[[1, 2, 7], [1, 2, 8]], [[9, 2, 3], [10, 2, 3]]])


def test_prior_quantiles():
    values = latent.prior_quantiles(7)
    np.testing.assert_allclose(norm.cdf(values), (np.arange(7) + 0.5) / 7, rtol=1e-12)
    assert latent.prior_quantiles(1).tolist() == [0]
    assert np.isfinite(latent.prior_quantiles(1000)).all()


def test_data_plane_is_scikit_learns_pca():
    codes = normal((200, 5), 0, "codes") * [1, 5, 2, 1, 3] + 4
    plane, pca = latent.data_plane(codes), PCA(2).fit(codes)
    signs = np.sign((pca.components_ * plane.axes).sum(1))
    np.testing.assert_allclose(plane.axes, pca.components_ * signs[:, None], atol=1e-10)
    np.testing.assert_allclose(plane.points(codes), pca.transform(codes) * signs, atol=1e-10)
    np.testing.assert_allclose(
        plane.codes(plane.points(codes)), pca.inverse_transform(pca.transform(codes)), atol=1e-10
    )
    assert (np.take_along_axis(plane.axes, np.abs(plane.axes).argmax(1)[:, None], 1) > 0).all()
    assert plane.names[0].startswith(f"PCA axis 1 of the codes, {pca.explained_variance_ratio_[0]:.0%}")


@pytest.mark.parametrize(("wide", "names"), [(1, ("latent 1", "")), (2, ("latent 1", "latent 2"))])
def test_a_narrow_latent_space_is_its_own_plane(wide, names):
    codes = normal((20, wide), 0, "codes")
    plane = latent.data_plane(codes)
    assert plane.names == names
    np.testing.assert_array_equal(plane.codes(plane.points(codes)), codes)


@pytest.mark.parametrize("wide", [1, 2, 5])
def test_data_grid_spans_the_codes(wide):
    codes = normal((50, wide), 0, "codes") * np.arange(1, wide + 1) + 3
    plane, x, y = latent.data_grid(codes, 4)
    points = plane.points(codes)
    for i, values in enumerate((x, y) if wide > 1 else (x,)):
        np.testing.assert_allclose(values, np.linspace(points[:, i].min(), points[:, i].max(), 4), rtol=1e-15)
    assert y.shape == ((4,) if wide > 1 else (1,))
    # the code with the least first coordinate hangs in the first column
    left = latent.grid_codes(plane, x, y)[:, 0]
    np.testing.assert_allclose(plane.points(left)[:, 0], points[:, 0].min(), atol=1e-13)


def test_grid_codes_lie_as_a_picture_shows_them():
    grid = latent.grid_codes(latent.latent_plane(4, (1, 3)), np.array([1.0, 2, 3]), np.array([-5.0, 5]))
    assert grid.shape == (2, 3, 4)
    np.testing.assert_array_equal(grid[0, 2], [0, 3, 0, 5])  # top right
    np.testing.assert_array_equal(grid[1, 0], [0, 1, 0, -5])  # bottom left


def _clusters(count=900):
    centres = np.array([[0.0, 0, 0], [8, 0, 2], [0, 9, -3]])
    which = generator(0, "which").choice(3, count, p=[0.5, 0.3, 0.2])
    return centres[which] + normal((count, 3), 0, "within") * [0.5, 1.0, 0.2]


SAMPLERS = {
    "prior": lambda codes: latent.Prior(3),
    "box": latent.fit_box,
    "gaussian": latent.fit_gaussian,
    "mixture": lambda codes: latent.fit_mixture(codes, 3),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws(name):
    sampler = SAMPLERS[name](_clusters())
    many = sampler.draw(20_000, 1)
    assert many.shape == (20_000, 3)
    np.testing.assert_array_equal(sampler.draw(20, 1), many[:20])
    assert (sampler.draw(20, 2) != many[:20]).all()
    codes = {
        "prior": normal((900, 3), 5, "x"),
        "box": generator(5, "x").uniform(_clusters().min(0), _clusters().max(0), (900, 3)),
    }.get(name, _clusters())
    # five standard errors of 900 draws; the seeds are fixed
    np.testing.assert_allclose(many.mean(0), codes.mean(0), atol=5 * codes.std(0).max() / 30)
    spread = np.cov(codes.T)
    np.testing.assert_allclose(np.cov(many.T), spread, atol=5 * np.trace(spread) * (2 / 900) ** 0.5)
    if name == "box":
        assert (many >= codes.min(0) - 1).all()
        assert (many >= sampler.low).all()
        assert (many <= sampler.high).all()


def test_gaussian_of_codes_in_a_plane():
    """Singular: one latent is the sum of the two others, and one does not vary."""
    flat = normal((100, 2), 0, "flat")
    codes = np.column_stack([flat, flat.sum(1), np.full(100, 3.0)])
    fitted = latent.fit_gaussian(codes)
    np.testing.assert_allclose(fitted.factor @ fitted.factor.T, np.cov(codes.T, bias=True), atol=1e-12)
    drawn = fitted.draw(50, 0)
    # the root of a variance that is 0 but for rounding: √2⁻⁵³ of the largest
    np.testing.assert_allclose(drawn[:, 2], drawn[:, :2].sum(1), atol=1e-6)
    np.testing.assert_allclose(drawn[:, 3], 3, atol=1e-6)


def test_mixture_is_scikit_learns():
    """The same rounds of expectation maximisation, from the same start."""
    codes = _clusters()
    floor = np.zeros((3, 3))
    shares = generator(1, "shares").random((900, 3))
    ours = module.maximised(codes, shares / shares.sum(1, keepdims=True), floor)
    theirs = GaussianMixture(
        3,
        covariance_type="full",
        tol=0,
        reg_covar=0,
        max_iter=12,
        weights_init=ours.weights / ours.weights.sum(),
        means_init=ours.means,
        precisions_init=np.linalg.inv(ours.covariances),
    )
    with pytest.warns(match="did not converge"):
        theirs.fit(codes)
    for _ in range(12):
        parts = ours.log_parts(codes)
        ours = module.maximised(codes, np.exp(parts - ours.log_density(codes)[:, None]), floor)
    np.testing.assert_allclose(ours.weights, theirs.weights_, rtol=1e-7)
    np.testing.assert_allclose(ours.means, theirs.means_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ours.covariances, theirs.covariances_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ours.log_density(codes), theirs.score_samples(codes), rtol=1e-7)


def test_mixture_finds_the_clusters():
    fitted = latent.fit_mixture(_clusters(), 3)
    order = np.argsort(-fitted.weights)
    np.testing.assert_allclose(fitted.weights[order], [0.5, 0.3, 0.2], atol=0.05)
    np.testing.assert_allclose(fitted.means[order], [[0, 0, 0], [8, 0, 2], [0, 9, -3]], atol=0.3)
    single = latent.fit_mixture(_clusters(), 1)
    gaussian = latent.fit_gaussian(_clusters())
    np.testing.assert_allclose(single.means[0], gaussian.mean, atol=1e-12)
    np.testing.assert_allclose(single.covariances[0], gaussian.factor @ gaussian.factor.T, rtol=1e-4, atol=1e-4)
    assert fitted.log_density(_clusters()).mean() > single.log_density(_clusters()).mean() + 1


def test_mixture_of_equal_codes_in_part():
    codes = np.concatenate([np.zeros((20, 2)), normal((20, 2), 0, "others") + 9])
    fitted = latent.fit_mixture(codes, 5)
    assert np.isfinite(fitted.log_density(codes)).all()
    assert np.isfinite(fitted.draw(50, 0)).all()
    assert fitted.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("codes", "components", "fragment"),
    [
        (np.ones((9, 2)), 2, "codes are all the same"),
        (normal((9, 2), 0, "x"), 5, "given 5 components for 9 codes; expected 1 to 4"),
        (normal((9, 2), 0, "x"), 0, "given 0 components"),
    ],
)
def test_mixture_says_what_it_needs(codes, components, fragment):
    with pytest.raises(ValueError, match=fragment):
        latent.fit_mixture(codes, components)


def test_attributes_and_analogies():
    codes, has = np.array([[0.0, 1], [2, 3], [10, 0]]), np.array([False, False, True])
    way = latent.attribute_vector(codes, has)
    np.testing.assert_array_equal(way, [9, -2])
    for none in (has & False, has | True):
        with pytest.raises(ValueError, match="expected some, and some without"):
            latent.attribute_vector(codes, none)
    np.testing.assert_array_equal(latent.analogy(*codes), [12, 2])


def test_neighbours_of_a_spot():
    codes = np.array([[0.0, 0], [3, 4], [1, 0], [0, 2]], np.float32)
    found, distances = latent.neighbours(np.array([0.0, 0]), codes, 3)
    assert found.tolist() == [0, 2, 3]
    np.testing.assert_array_equal(distances, [0, 1, 2])
    assert len(latent.neighbours(np.zeros(2), codes, 99)[0]) == 4


def _encode(images):
    return images.reshape(len(images), -1)[:, :2]


def _decode(z):
    return np.pad(z, ((0, 0), (0, 2))).reshape(-1, 2, 2, 1)


def _images(count, seed):
    images = np.zeros((count, 4))
    images[:, :2] = generator(seed, "codes").random((count, 2))
    images[:, 2] = 0.1 * generator(seed, "errors").random(count)
    return images.reshape(count, 2, 2, 1)


def test_outliers():
    known = _images(199, 0)
    detector = latent.fit_detector(_encode, _decode, known, 0.9)
    errors = known[:, 1, 0, 0] ** 2
    assert detector.reconstruction == np.sort(errors / 4)[179]
    assert detector.pixel == np.sort(errors)[179]
    apart = np.sort(np.linalg.norm(_encode(known)[:, None] - _encode(known), axis=-1), 1)[:, 5]  # itself is the first
    assert detector.distance == pytest.approx(np.sort(apart)[179], rel=1e-12)
    strange = np.array([[[[0.5], [0.5]], [[0.0], [0.4]]], [[[5.0], [0.5]], [[0.0], [0.0]]], [[[0.5]] * 2, [[0.0]] * 2]])
    scores = detector.scores(_encode, _decode, strange)
    np.testing.assert_allclose(scores.reconstruction, [0.04, 0, 0], atol=1e-15)
    np.testing.assert_allclose(scores.pixels[0], [[0, 0], [0, 0.16]], atol=1e-15)
    to_known = np.sort(np.linalg.norm(_encode(strange)[:, None] - _encode(known), axis=-1), 1)[:, 4]
    np.testing.assert_allclose(scores.distance, to_known, rtol=1e-12)
    assert detector.strange(scores).tolist() == [True, True, False]


def test_false_alarms_are_as_many_as_the_quantile_says():
    shares = []
    for seed in range(30):
        detector = latent.fit_detector(_encode, _decode, _images(99, seed), 0.9)
        scores = detector.scores(_encode, _decode, _images(200, 1000 + seed))
        shares.append(
            [(scores.reconstruction > detector.reconstruction).mean(), (scores.distance > detector.distance).mean()]
        )
    # each of 30 sets has a threshold that is itself uncertain, by √(0.1·0.9/99) = 0.03
    np.testing.assert_allclose(np.mean(shares, 0), 0.1, atol=5 * 0.03 / 30**0.5)


def test_upper_quantile():
    values = np.arange(1.0, 100)
    assert latent.upper_quantile(values, 0.5) == 50
    assert latent.upper_quantile(values, 0.99) == 99
    with pytest.raises(ValueError, match=r"0\.995 takes 199 known images at least; given 99"):
        latent.upper_quantile(values, 0.995)
    with pytest.raises(ValueError, match="expected a number between 0 and 1"):
        latent.upper_quantile(values, 1)
    with pytest.raises(ValueError, match="given 5 known images; expected more than 5"):
        latent.fit_detector(_encode, _decode, _images(5, 0), 0.5)
