import numpy as np
import pytest

from ae_core.data.canvas import AXIS, UNITS, Canvas


def _painted(outline, size, mirrored=False):
    canvas = Canvas(1, size, 0.0)
    canvas.paint(outline, 1.0, mirrored)
    return canvas.picture[..., 0]


def _polygon(corners, seed):
    """A star: its corners go round the middle once, at any distance, so that it may bend inward."""
    draw = np.random.default_rng(seed)
    turn = np.sort(draw.uniform(0, 2 * np.pi, corners))
    reach = draw.uniform(3, 14, corners)
    return [(float(r * np.cos(t)), float(16 + r * np.sin(t))) for r, t in zip(reach, turn, strict=True)]


def _area(outline):
    x, y = np.array(outline).T
    return abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [(32, 32), (24, 40), (7, 64)])
def test_cover_adds_up_to_the_area(seed, size):
    outline = _polygon(9, seed)
    picture = _painted(outline, size)
    scale = size[0] * size[1] / UNITS**2
    assert picture.sum() == pytest.approx(_area(outline) * scale, rel=2e-3)
    np.testing.assert_allclose(picture, _painted(outline[::-1], size), atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_each_pixel_is_the_mean_of_its_parts(seed):
    """Painted sixteen times as large and averaged, an outline gives the same picture."""
    outline = _polygon(9, seed)
    fine = _painted(outline, (512, 512)).reshape(32, 16, 32, 16).mean(axis=(1, 3))
    # An edge at 45 degrees is blurred as a flat one is, which is wrong by an eighth at most.
    np.testing.assert_allclose(_painted(outline, (32, 32)), fine, atol=0.13)
    assert np.abs(_painted(outline, (32, 32)) - fine).mean() < 2e-3


def test_whole_pixels_are_exact():
    picture = _painted([(-4.0, 8.0), (6.0, 8.0), (6.0, 11.0), (-4.0, 11.0)], (32, 32))
    wanted = np.zeros((32, 32), np.float32)
    wanted[8:11, 12:22] = 1
    np.testing.assert_array_equal(picture, wanted)


def test_beyond_the_edge_is_cut_off():
    large = _painted([(-10.0, -5.0), (40.0, -5.0), (40.0, 50.0), (-10.0, 50.0)], (32, 32))
    np.testing.assert_array_equal(large, np.repeat(np.arange(32)[None] >= 6, 32, axis=0))
    assert _painted([(20.0, 2.0), (30.0, 2.0), (30.0, 9.0)], (32, 32)).max() == 0
    assert _painted([(0.0, -9.0), (3.0, -9.0), (3.0, -2.0)], (32, 32)).max() == 0


@pytest.mark.parametrize("thickness", [0.05, 0.4, 3.0])
def test_stroke_is_as_thick_as_it_says(thickness):
    canvas = Canvas(1, (32, 32), 0.0)
    canvas.stroke((-6.0, 8.0), (3.0, 20.0), thickness, 1.0)
    assert canvas.picture.sum() == pytest.approx(15 * thickness, rel=1e-2)


def test_a_hole_stays_empty():
    square = [(-9.0, 7.0), (9.0, 7.0), (9.0, 25.0), (-9.0, 25.0)]
    hole = [(-4.0, 12.0), (4.0, 12.0), (4.0, 20.0), (-4.0, 20.0)]
    picture = _painted([*square, square[0], hole[0], *hole[::-1]], (32, 32))
    assert picture.sum() == pytest.approx(18**2 - 8**2)
    assert picture[13:19, 13:19].max() == 0


@pytest.mark.parametrize("width", [1, 2, 31, 32])
def test_mirrored(width):
    half = [(AXIS, 4.0), (3.3, 4.0), (9.1, 12.2), (5.0, 28.0), (AXIS, 28.0)]
    whole = [*half[1:-1], *[(-x, y) for x, y in half[-2:0:-1]]]
    picture = _painted(half, (32, width), mirrored=True)
    np.testing.assert_array_equal(picture, picture[:, ::-1])
    # Both sides of a single column lie in the same pixel.
    np.testing.assert_allclose(picture, _painted(whole, (32, width)), atol=1e-5 if width > 1 else 1)


def test_a_picture_does_not_depend_on_its_neighbours():
    draw = np.random.default_rng(0)
    shift = draw.uniform(-12, 12, (2, 40)).astype(np.float32)
    outline = [(x + 0.7 * shift[0], y + 0.7 * shift[1]) for x, y in _polygon(7, 3)]
    together = Canvas(40, (32, 32), 0.25)
    together.paint(outline, shift[0] / 24 + np.float32(0.5))
    for i in range(40):
        alone = Canvas(1, (32, 32), 0.25)
        alone.paint([(x[[i]], y[[i]]) for x, y in outline], shift[0, [i]] / 24 + np.float32(0.5))
        np.testing.assert_array_equal(alone.picture[..., 0], together.picture[..., i])
