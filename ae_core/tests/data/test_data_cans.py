import numpy as np
import pytest

from ae_core.data import DataOptions, cans, draw_cans, load
from ae_core.errors import DataError


def _lit(pictures):
    """Where a picture differs from its background, by more than the rounding of a sum."""
    return np.abs(pictures - pictures[..., :1, :1]) > 1e-6


def test_determined_by_the_seed():
    first, again, other = cans(50, seed=3), cans(50, seed=3), cans(50, seed=4)
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.factors, again.factors)
    assert not np.array_equal(first.factors, other.factors)
    assert first.factor_names == ("width", "height")


def test_longer_set_begins_with_the_shorter():
    np.testing.assert_array_equal(cans(700).images[:20], cans(20).images)


@pytest.mark.parametrize("shape", [(32, 32, 1), (8, 8, 1), (1, 1, 1), (20, 48, 3), (50, 7, 1), (128, 128, 3)])
def test_any_size(shape):
    dataset = load("cans", shape, DataOptions(count=5, data_seed=1))
    assert dataset.images.shape == (5, *shape)
    assert dataset.images.dtype == np.float32
    assert dataset.images.min() >= 0
    assert dataset.images.max() <= 1
    assert len(np.unique(dataset.images.reshape(5, -1), axis=0)) == 5


@pytest.mark.parametrize("shape", [(12, 8, 1), (9, 10, 3)])
def test_draws_others_as_it_was_drawn(shape):
    data = load("cans", shape, DataOptions(count=12))
    np.testing.assert_array_equal(data.draw(None, data.factors), data.images)
    assert not np.array_equal(data.draw(None, 0.5 * data.factors), data.images)


def test_chunks_leave_no_seam():
    """More cans than are drawn at a time give each the picture that it has alone."""
    dataset = cans(1_100)
    for index in (0, 511, 512, 1_023, 1_024, 1_099):
        alone = draw_cans(dataset.factors[index : index + 1])
        np.testing.assert_array_equal(dataset.images[index], alone[0])


def test_factors_are_the_size_in_pixels():
    side = 64
    dataset = cans(200, (side, side), seed=2)
    lit = _lit(dataset.images[..., 0])
    width, height = lit.any(axis=1).sum(axis=1), lit.any(axis=2).sum(axis=1)
    # What is w pixels wide touches between w and w + 2 columns.
    assert (np.abs(width - 1 - side * dataset.factors[:, 0]) <= 1.001).all()
    assert (np.abs(height - 1 - side * dataset.factors[:, 1]) <= 1.001).all()


def test_width_and_height_move_independently():
    base, wider, taller = draw_cans(np.array([[0.5, 0.5], [0.7, 0.5], [0.5, 0.7]]), (64, 64))[..., 0]
    lit = [_lit(picture) for picture in (base, wider, taller)]
    columns, rows = [picture.any(0).sum() for picture in lit], [picture.any(1).sum() for picture in lit]
    assert columns[1] > columns[0] == columns[2]
    assert rows[2] > rows[0] == rows[1]


def test_smooth_in_its_factors():
    """A tiny step of a factor changes the picture by a little, never by nothing and never by a whole pixel."""
    step = 1e-3
    factors = cans(300, seed=5).factors
    before = draw_cans(factors)
    for factor in (0, 1):
        moved = factors.copy()
        moved[:, factor] += step
        change = np.abs(draw_cans(moved) - before).max(axis=(1, 2, 3))
        assert change.min() > 0
        assert change.max() < 0.1


def test_centred():
    lit = _lit(draw_cans(np.array([[0.5, 0.6]]), (40, 40))[0, ..., 0])
    np.testing.assert_array_equal(lit, lit[:, ::-1])
    np.testing.assert_array_equal(lit, lit[::-1])


def test_colour_is_the_same_can():
    gray, colour = cans(3).images, cans(3, channels=3).images
    np.testing.assert_allclose(colour / colour.max(axis=(0, 1, 2)) * gray.max(), np.repeat(gray, 3, 3), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cans(0), "count is 0"),
        (lambda: cans(1, (0, 8)), "size is 0×8"),
        (lambda: cans(1, channels=2), "1 or 3 channels, not 2"),
        (lambda: draw_cans(np.array([[0.5, 1.2]])), "must be in"),
        (lambda: draw_cans(np.array([[np.nan, 0.5]])), "must be in"),
    ],
)
def test_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


def test_picture_is_frozen():
    """A published result can be repeated only while a can looks as it did: a row and a column, in thousandths."""
    picture = draw_cans(np.array([[0.6, 0.7]]), (16, 16))[0, ..., 0] * 1000
    row = [40, 40, 40, 462, 809, 848, 765, 725, 706, 671, 595, 433, 144, 40, 40, 40]
    column = [40, 40, 446, 696, 765, 735, 641, 321, 321, 321, 321, 569, 735, 232, 40, 40]
    np.testing.assert_allclose(picture[4], row, atol=0.51)
    np.testing.assert_allclose(picture[:, 6], column, atol=0.51)
