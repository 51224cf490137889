"""Images from arrays: what is accepted, what is refused, and how they are brought to another shape."""

import numpy as np
import pytest

from ae_core.data import DataOptions, load, validate_images
from ae_core.errors import DataError
from ae_core.system import extras

RAMP = np.arange(2 * 4 * 4, dtype=np.float32).reshape(2, 4, 4) / 31


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (RAMP, RAMP),
        (RAMP.astype(np.float64), RAMP),
        (RAMP.astype(">f8"), RAMP),
        (RAMP.astype(np.float16), RAMP.astype(np.float16).astype(np.float32)),
        ((RAMP * 255).astype(np.uint8), (RAMP * 255).astype(np.uint8) / np.float32(255)),
        (RAMP > 0.5, (RAMP > 0.5).astype(np.float32)),
        (np.asfortranarray(RAMP), RAMP),
        (RAMP[..., None].repeat(3, 3), RAMP[..., None].repeat(3, 3)),
    ],
)
def test_accepted(given, expected):
    images = validate_images(given, "here")
    assert images.dtype == np.float32
    assert images.flags.c_contiguous
    np.testing.assert_array_equal(images, expected.reshape(2, 4, 4, -1))


def _with(value):
    images = RAMP.astype(np.float64)
    images[1, 2, 3] = value
    return images


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 4)), r"here: shape is \(4, 4\), images must be \[N, H, W\]"),
        (np.zeros((1, 1, 4, 4, 1)), "images must be"),
        (np.zeros((0, 4, 4)), "at least one image"),
        (np.zeros((3, 4, 0, 1)), "at least one image"),
        (np.zeros((1, 4, 4), np.int64), "dtype is int64, images must be bool, uint8, or float"),
        (np.zeros((1, 4, 4), complex), "dtype is complex128"),
        (np.zeros((1, 4, 4), object), "dtype is object"),
        (_with(np.nan), "image 1 holds NaN"),
        (_with(np.inf), "image 1 holds infinity"),
        (_with(1e300), "image 1 holds infinity"),
        (_with(1.5), r"image 1 ranges from 0.516129 to 1.5, float images must be in \[0, 1\]"),
        (_with(-0.25), "image 1 ranges from -0.25 to 1"),
    ],
)
def test_refused(given, message):
    with pytest.raises(DataError, match=message) as caught:
        validate_images(given, "here")
    assert "\n" not in str(caught.value)


@pytest.fixture
def saved(tmp_path):
    def save(images):
        np.save(tmp_path / "a.npy", images)
        return str(tmp_path / "a.npy")

    return save


def test_pad_centres_in_zeros(saved):
    images = load(saved(RAMP + 0), (7, 6, 1), DataOptions(adapt="pad")).images
    np.testing.assert_array_equal(images[:, 1:5, 1:5, 0], RAMP)
    assert images.sum() == pytest.approx(RAMP.sum())


def test_resize_is_bilinear_and_antialiased(saved):
    stripes = np.zeros((1, 8, 8), np.float32)
    stripes[:, :, ::2] = 1
    small = load(saved(stripes), (2, 2, 1), DataOptions(adapt="resize")).images
    np.testing.assert_allclose(small, 0.5, atol=0.08)  # without antialiasing: 0 or 1
    large = load(saved(np.array([[[0, 1]]], np.float32)), (1, 4, 1), DataOptions(adapt="resize")).images
    np.testing.assert_allclose(large.ravel(), [0, 0.25, 0.75, 1], atol=1e-6)


def test_resize_keeps_images_and_channels_apart(saved):
    images = np.random.default_rng(0).random((2, 5, 6, 3), np.float32)
    both = load(saved(images), (9, 4, 3), DataOptions(adapt="resize")).images
    one = load(saved(images[1:, ..., 2]), (9, 4, 1), DataOptions(adapt="resize")).images
    np.testing.assert_array_equal(both[1, ..., 2], one[0, ..., 0])


def test_gray_is_luma_and_rgb_repeats(saved):
    primaries = np.eye(3, dtype=np.float32).reshape(1, 1, 3, 3)
    gray = load(saved(primaries), (1, 3, 1), DataOptions(channels="gray")).images
    np.testing.assert_allclose(gray.ravel(), [0.299, 0.587, 0.114], rtol=1e-6)
    white = load(saved(np.ones((1, 1, 1, 3), np.float32)), (1, 1, 1), DataOptions(channels="gray")).images
    assert white.item() == pytest.approx(1)
    assert white.item() <= 1
    rgb = load(saved(RAMP), (4, 4, 3), DataOptions(channels="rgb")).images
    np.testing.assert_array_equal(rgb, RAMP[..., None].repeat(3, 3))


def test_options_change_only_what_has_to(saved):
    images = load(saved(RAMP), (4, 4, 1), DataOptions(adapt="resize", channels="rgb")).images
    np.testing.assert_array_equal(images[..., 0], RAMP)


@pytest.mark.parametrize(
    ("given", "wanted", "options", "message"),
    [
        ((4, 4, 1), (6, 6, 1), {}, "images are 4×4×1, the spec wants 6×6×1: use --adapt pad or --adapt resize"),
        ((4, 4, 1), (2, 6, 1), {}, "use --adapt resize"),
        ((4, 4, 1), (2, 6, 1), {"adapt": "pad"}, "too large to pad to 2×6×1: use --adapt resize"),
        ((4, 4, 3), (4, 4, 1), {}, "use --channels gray"),
        ((4, 4, 3), (4, 4, 1), {"channels": "rgb"}, "use --channels gray"),
        ((4, 4, 1), (4, 4, 3), {}, "use --channels rgb"),
        ((4, 4, 2), (4, 4, 1), {"channels": "gray"}, "only 3 channels become 1"),
    ],
)
def test_misfit_names_the_option(saved, given, wanted, options, message):
    path = saved(np.zeros((2, *given), np.float32))
    with pytest.raises(DataError, match=message) as caught:
        load(path, wanted, DataOptions(**options))
    assert str(caught.value).startswith(path)


def test_digits():
    dataset = load("digits", (8, 8, 1))
    assert dataset.images.shape == (1797, 8, 8, 1)
    assert dataset.images.max() == 1
    assert set(np.unique(dataset.images * 16)) == set(range(17))
    assert dataset.labels.dtype == np.int64
    np.testing.assert_array_equal(dataset.labels[:10], range(10))


def test_digits_without_sklearn(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"digits: scikit-learn not installed; expected: pip install 'twin-"):
        load("digits", (8, 8, 1))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("mnits", 'no data set, file or folder "mnits": did you mean "mnist"'),
        ("missing.npy", '"missing.npy": valid: cans, garments, digits, mnist, fashion-mnist, or a path'),
        ("x" * 1_000, "no data set, file or folder"),
    ],
)
def test_unknown_source(source, message):
    with pytest.raises(DataError, match=message):
        load(source, (8, 8, 1))
