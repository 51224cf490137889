"""Images from .npy and .npz files, single pictures and folders of them."""

import numpy as np
import pytest
from PIL import Image

from ae_core.data import DataOptions, load
from ae_core.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
UNIT = (IMAGES / np.float32(255))[..., None]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_npy(tmp_path, dtype):
    path = tmp_path / "a.npy"
    np.save(path, IMAGES if dtype == np.uint8 else UNIT.astype(dtype))
    dataset = load(str(path), (5, 4, 1))
    np.testing.assert_array_equal(dataset.images, UNIT)
    assert dataset.name == "a.npy"
    # Nothing of the file is left in the images: they outlive it and may be written to.
    path.write_bytes(bytes(path.stat().st_size))
    dataset.images[0] = 0
    np.testing.assert_array_equal(dataset.images[1:], UNIT[1:])


@pytest.mark.parametrize("key", ["images", "x", "X", "arr_0", "anything"])
def test_npz_keys(tmp_path, key):
    np.savez(tmp_path / "a.npz", **{key: IMAGES}, y=np.arange(6, dtype=np.uint8))
    dataset = load(str(tmp_path / "a.npz"), (5, 4, 1))
    np.testing.assert_array_equal(dataset.images, UNIT)
    np.testing.assert_array_equal(dataset.labels, range(6))
    assert dataset.labels.dtype == np.int64
    assert dataset.factors is None


def test_npz_factors(tmp_path):
    factors = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.savez_compressed(tmp_path / "a.npz", images=IMAGES, factors=factors, factor_names=["w", "h"], other=np.ones(2))
    dataset = load(str(tmp_path / "a.npz"), (5, 4, 1))
    np.testing.assert_array_equal(dataset.factors, factors)
    assert dataset.factors.dtype == np.float64
    assert dataset.factor_names == ("w", "h")
    assert dataset.labels is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": IMAGES, "b": IMAGES}, "holds a, b, images must be in one of images, x, X, arr_0"),
        ({}, "holds nothing"),
        ({"x": IMAGES.astype(int)}, "npz: x: dtype is int64"),
        ({"x": np.array([None])}, "not a .npz file of plain arrays"),
        ({"x": IMAGES, "y": np.arange(5)}, r"labels are int64 \(5,\), must be 6 integers"),
        ({"x": IMAGES, "y": np.zeros(6)}, "labels are float64"),
        ({"x": IMAGES, "factors": np.zeros((5, 2))}, r"must be \[6, F\] numbers"),
        ({"x": IMAGES, "factors": np.zeros((6, 2)), "factor_names": ["w"]}, "1 factor_names for 2 factors"),
    ],
)
def test_npz_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load(str(tmp_path / "a.npz"), (5, 4, 1))


def _damaged(tmp_path, suffix, damage):
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".npy":
        np.save(whole, IMAGES)
    elif suffix == ".npz":
        np.savez(whole, IMAGES)
    else:
        Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8)).save(whole)
    content = whole.read_bytes()
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes({"empty": b"", "foreign": b"not what its name says" * 9, "truncated": content[:-60]}[damage])
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".png", ".jpg"])
@pytest.mark.parametrize("damage", ["empty", "foreign", "truncated"])
def test_damaged(tmp_path, suffix, damage):
    path = _damaged(tmp_path, suffix, damage)
    with pytest.raises(DataError, match=f"damaged{suffix}: not a ") as caught:
        load(str(path), (64, 64, 1))
    assert "\n" not in str(caught.value)


def test_npy_of_objects(tmp_path):
    np.save(tmp_path / "a.npy", np.array([None]))
    with pytest.raises(DataError, match=r"not a \.npy file of uint8 or float images: .*Python objects"):
        load(str(tmp_path / "a.npy"), (5, 4, 1))


RGB = np.random.default_rng(2).integers(0, 256, (5, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.fromarray(IMAGES[0]), UNIT[0]),
        (Image.fromarray(RGB), RGB / 255),
        (Image.fromarray(RGB).convert("RGBA"), RGB / 255),
        (Image.fromarray(IMAGES[0]).convert("LA"), UNIT[0]),
        (Image.fromarray(IMAGES[0] > 99), (IMAGES[0] > 99)[..., None]),
        (Image.fromarray(IMAGES[0].astype(np.uint16) * 257), UNIT[0]),
    ],
    ids=["gray", "rgb", "rgba", "gray+alpha", "bilevel", "16 bit"],
)
def test_picture(tmp_path, picture, expected):
    picture.save(tmp_path / "a.PNG")
    images = load(str(tmp_path / "a.PNG"), expected.shape).images
    np.testing.assert_allclose(images[0], expected, atol=1e-6)


def test_folder_is_sorted(tmp_path):
    for index in (3, 1, 2, 0):
        Image.fromarray(IMAGES[index]).save(tmp_path / f"{index}.png")
    (tmp_path / ".0.png").write_bytes(b"not a picture, and hidden")
    (tmp_path / "readme.txt").write_text("not a picture, and not called one")
    dataset = load(str(tmp_path), (5, 4, 1))
    np.testing.assert_array_equal(dataset.images, UNIT[:4])
    assert dataset.labels is None


def test_sub_folders_are_labels(tmp_path):
    for index, (name, folder) in enumerate([("z", "ant"), ("b", "bee"), ("a", "cat"), ("c", "cat")]):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(IMAGES[index]).save(tmp_path / folder / f"{name}.png")
    (tmp_path / "bare").mkdir()
    dataset = load(str(tmp_path), (5, 4, 1))
    np.testing.assert_array_equal(dataset.images, UNIT[:4])
    np.testing.assert_array_equal(dataset.labels, [0, 1, 2, 2])


def test_folder_of_mixed_pictures(tmp_path):
    Image.fromarray(IMAGES[0]).save(tmp_path / "0.png")
    Image.fromarray(RGB[:3]).save(tmp_path / "1.png")
    with pytest.raises(DataError, match=r"1\.png: images are 3×4×3.* --channels gray"):
        load(str(tmp_path), (5, 4, 1))
    with pytest.raises(DataError, match=r"1\.png: images are 3×4×1.* --adapt pad or --adapt resize"):
        load(str(tmp_path), (5, 4, 1), DataOptions(channels="gray"))
    images = load(str(tmp_path), (5, 4, 1), DataOptions(adapt="pad", channels="gray")).images
    np.testing.assert_array_equal(images[0], UNIT[0])
    assert (images[1, [0, 4]] == 0).all()
    np.testing.assert_allclose(images[1, 1:4, :, 0], RGB[:3] @ [0.299, 0.587, 0.114] / 255, atol=1e-6)


def test_empty_folder(tmp_path):
    with pytest.raises(DataError, match="holds no pictures"):
        load(str(tmp_path), (5, 4, 1))
