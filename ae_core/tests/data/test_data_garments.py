from importlib import import_module

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier

from ae_core.data import GARMENT_NAMES, DataOptions, draw_garments, garments, load
from ae_core.errors import DataError

CLASSES = range(10)

module = import_module("ae_core.data.garments")  # the package holds a function of that name


def _lit(pictures):
    """Where a picture differs from its background, by more than the rounding of a sum."""
    return np.abs(pictures[..., 0] - module._BACKGROUND) > 1e-3


def _varied(label, factor, values):
    """One garment with ``factor`` at each of the values, all others in their middle."""
    factors = np.full((len(values), 4), 0.5)
    factors[:, module.FACTOR_NAMES.index(factor)] = values
    return draw_garments(np.full(len(values), label), factors, (64, 64))


def _rows(pictures):
    return _lit(pictures).any(axis=2).sum(axis=1)


def _columns(pictures):
    return _lit(pictures).any(axis=1).sum(axis=1)


def _area(pictures):
    return _lit(pictures).sum(axis=(1, 2))


def _room(pictures):
    """Dark pixels below the arch of a boot: those under the lowest of each column, between its toes and its heel."""
    return _lit(pictures)[:, ::-1, 16:48].argmax(axis=1).sum(axis=1)


def _shoulders(pictures):
    return _lit(pictures[:, 8:14]).any(axis=1).sum(axis=1)


def _calf(pictures):
    return _lit(pictures[:, 12:24]).any(axis=1).sum(axis=1)


MEASURES = {
    "length": (_rows, _rows, _rows, _rows, _rows, _columns, _rows, _columns, _rows, _columns),
    "width": (_columns, _columns, _columns, _columns, _columns, _area, _columns, _rows, _columns, _calf),
    "sleeve": (_columns, _area, _columns, _shoulders, _columns, _rows, _columns, _rows, _rows, _room),
}


def test_determined_by_the_seed():
    first, again, other = garments(50, seed=3), garments(50, seed=3), garments(50, seed=4)
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.factors, again.factors)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.factors, other.factors)
    assert not np.array_equal(first.labels, other.labels)


@pytest.mark.parametrize("shape", [(12, 8, 1), (9, 10, 3)])
def test_draws_others_as_it_was_drawn(shape):
    data = load("garments", shape, DataOptions(count=12))
    np.testing.assert_array_equal(data.draw(data.labels, data.factors), data.images)
    assert not np.array_equal(data.draw(data.labels, 1 - data.factors), data.images)
    assert data.label_names[data.labels[0]] == module._GARMENTS[data.labels[0]].name


def test_longer_set_begins_with_the_shorter():
    long, short = garments(1_003), garments(27)
    np.testing.assert_array_equal(long.images[:27], short.images)
    np.testing.assert_array_equal(long.factors[:27], short.factors)
    np.testing.assert_array_equal(long.labels[:27], short.labels)


def test_every_ten_hold_each_class_once():
    labels = garments(500, (4, 4)).labels
    np.testing.assert_array_equal(np.sort(labels.reshape(-1, 10)), np.tile(np.arange(10), (50, 1)))
    assert len(np.unique(labels.reshape(-1, 10), axis=0)) == 50


def test_classes_are_fashion_mnists():
    tops = ("T-shirt/top", "trouser", "pullover", "dress", "coat")
    assert (*tops, "sandal", "shirt", "sneaker", "bag", "ankle boot") == GARMENT_NAMES


def test_factors_are_uniform_and_independent():
    dataset = garments(5_000, (2, 2))
    assert dataset.factor_names == ("length", "width", "sleeve", "tone")
    assert dataset.factors.shape == (5_000, 4)
    edges = np.linspace(0, 1, 6)
    for factor in dataset.factors.T:
        np.testing.assert_allclose(np.histogram(factor, edges)[0], 1_000, atol=120)
    together = np.corrcoef(np.column_stack([dataset.factors, dataset.labels]).T)
    assert np.abs(together - np.eye(5)).max() < 0.06


@pytest.mark.parametrize(
    "shape", [(32, 32, 1), (8, 8, 1), (1, 1, 1), (20, 48, 3), (50, 7, 1), (28, 28, 1), (96, 96, 3)]
)
def test_any_size(shape):
    dataset = load("garments", shape, DataOptions(count=20, data_seed=1))
    assert dataset.name == "garments"
    assert dataset.images.shape == (20, *shape)
    assert dataset.images.dtype == np.float32
    assert dataset.images.min() >= 0
    assert dataset.images.max() <= 1
    assert len(np.unique(dataset.images.reshape(20, -1), axis=0)) == 20
    np.testing.assert_array_equal(dataset.images, garments(20, shape[:2], 1, shape[2]).images)


def test_chunks_leave_no_seam(monkeypatch):
    """More garments than are drawn at a time give each the picture that it has alone."""
    monkeypatch.setattr(module, "_CHUNK", 3 * 32 * 32)
    dataset = garments(80)
    for index in range(80):
        alone = draw_garments(dataset.labels[[index]], dataset.factors[[index]])
        np.testing.assert_array_equal(dataset.images[index], alone[0])


@pytest.mark.parametrize("label", CLASSES)
@pytest.mark.parametrize("factor", MEASURES)
def test_factor_grows_what_it_names(factor, label):
    sizes = MEASURES[factor][label](_varied(label, factor, np.linspace(0, 1, 5))).astype(int)
    assert (np.diff(sizes) >= 0).all()
    assert sizes[-1] > sizes[0] + 2


@pytest.mark.parametrize("label", CLASSES)
def test_tone_lightens_the_cloth_alone(label):
    pictures = _varied(label, "tone", np.linspace(0, 1, 5))
    assert (np.diff(pictures.mean(axis=(1, 2, 3))) > 0.005).all()
    assert (np.diff(pictures, axis=0) > -1e-6).all()
    lit = _lit(pictures)
    assert (lit ^ lit[0]).mean() < 1e-3


@pytest.mark.parametrize("label", CLASSES)
def test_smooth_in_its_factors(label):
    """A small step of a factor changes the picture by a little, never by nothing and never by a whole pixel."""
    step = 4e-3
    factors = garments(200, (2, 2), seed=5).factors * (1 - step)
    labels = np.full(200, label)
    before = draw_garments(labels, factors)
    for factor in range(4):
        moved = factors.copy()
        moved[:, factor] += step
        change = np.abs(draw_garments(labels, moved) - before).max(axis=(1, 2, 3))
        assert change.min() > 0
        assert change.max() < 0.15


def test_pixels_tell_the_classes_apart():
    dataset = garments(1_500)
    x, y = dataset.images.reshape(1_500, -1), dataset.labels
    for judge in (KNeighborsClassifier(10), RidgeClassifier()):
        assert judge.fit(x[:1_000], y[:1_000]).score(x[1_000:], y[1_000:]) >= 0.95


@pytest.mark.parametrize("width", [31, 32])
@pytest.mark.parametrize("label", [0, 1, 2, 3, 4, 6, 8])
def test_garments_are_symmetric(label, width):
    factors = garments(20, (2, 2)).factors
    pictures = draw_garments(np.full(20, label), factors, (32, width))
    np.testing.assert_allclose(pictures, pictures[:, :, ::-1], atol=1e-5)


def test_nothing_is_cut_off():
    """The extremes of every factor stay on the sheet, with all of their outlines."""
    corners = np.array(np.meshgrid(*[[0.0, 1.0]] * 4)).reshape(4, -1).T
    for label in CLASSES:
        lit = _lit(draw_garments(np.full(16, label), corners, (64, 64)))
        assert not (lit[:, 0] | lit[:, -1] | lit[:, :, 0] | lit[:, :, -1]).any(), GARMENT_NAMES[label]


def test_colour_is_the_same_garment():
    gray, colour = garments(10).images, garments(10, channels=3).images
    np.testing.assert_allclose(colour / colour.max(axis=(0, 1, 2)) * gray.max(), np.repeat(gray, 3, 3), atol=1e-6)


_ONE = np.array([0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: garments(0), "count is 0"),
        (lambda: garments(1, (0, 8)), "size is 0×8"),
        (lambda: garments(1, channels=2), "1 or 3 channels, not 2"),
        (lambda: draw_garments(np.array([10]), np.full((1, 4), 0.5)), "labels must be 0 to 9"),
        (lambda: draw_garments(np.array([-1]), np.full((1, 4), 0.5)), "labels must be 0 to 9"),
        (lambda: draw_garments(_ONE, np.array([[0.5, 1.2, 0.5, 0.5]])), "must each be in"),
        (lambda: draw_garments(_ONE, np.array([[0.5, 0.5, np.nan, 0.5]])), "must each be in"),
    ],
)
def test_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


def test_pictures_are_frozen():
    """A published result can be repeated only while garments look as they did: their rows' means, in thousandths."""
    pictures = draw_garments(np.arange(10), np.full((10, 4), 0.5), (8, 8))[..., 0] * 1000
    rows = [
        [40, 271, 487, 357, 350, 354, 227, 40],
        [138, 213, 232, 211, 198, 182, 167, 40],
        [53, 188, 304, 397, 335, 283, 119, 40],
        [71, 220, 214, 162, 270, 351, 350, 40],
        [90, 241, 249, 229, 231, 187, 164, 90],
        [40, 40, 106, 170, 120, 266, 196, 40],
        [106, 362, 417, 486, 416, 314, 205, 40],
        [40, 40, 40, 179, 460, 489, 421, 40],
        [40, 41, 85, 243, 332, 395, 443, 88],
        [48, 164, 138, 150, 179, 272, 218, 51],
    ]
    np.testing.assert_allclose(pictures.mean(axis=2), rows, atol=0.51)
