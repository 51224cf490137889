"""Pictures: every pixel where it belongs, with the value it had."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ae_core.errors import OutputError
from ae_core.figures.pictures import GAP, displayable, grid, write_png


def _numbered(n: int, h: int = 4, w: int = 4, c: int = 1) -> np.ndarray:
    values = np.arange(1, n + 1, dtype=np.float32)[:, None, None, None] / 100
    return values + np.arange(h * w * c, dtype=np.float32).reshape(1, h, w, c) / 10_000


@pytest.mark.parametrize(
    ("shape", "columns", "rows_and_columns"),
    [
        ((9, 4, 4, 1), None, (3, 3)),
        ((10, 4, 4, 3), None, (3, 4)),
        ((5, 4, 4, 1), 2, (3, 2)),
        ((3, 4, 4, 1), 8, (1, 3)),
        ((1, 4, 4, 3), None, (1, 1)),
        ((8, 4, 16, 1), None, (4, 2)),
    ],
)
def test_grid_puts_images_in_reading_order(
    shape: tuple[int, ...], columns: int | None, rows_and_columns: tuple[int, int]
) -> None:
    images = _numbered(*shape)
    _, h, w, c = shape
    rows, cols = rows_and_columns
    sheet = grid(images, columns)
    assert sheet.dtype == np.float32
    assert sheet.shape == (rows * (h + 1) - 1, cols * (w + 1) - 1, c)
    free = np.ones(sheet.shape, bool)
    for i, image in enumerate(images):
        y, x = i // cols * (h + 1), i % cols * (w + 1)
        place = np.s_[y : y + h, x : x + w]
        np.testing.assert_array_equal(sheet[place], image)
        free[place] = False
    assert (sheet[free] == GAP).all()


@pytest.mark.parametrize(("n", "columns"), [(0, None), (2, 0), (2, -1)])
def test_grid_refuses(n: int, columns: int | None) -> None:
    with pytest.raises(ValueError, match="at least one image and one column"):
        grid(np.zeros((n, 4, 4, 1)), columns)


def test_displayable() -> None:
    image = np.array([[[[np.nan, 2.0], [-1.0, 0.5], [0.25, 0.75]]]])
    np.testing.assert_array_equal(displayable(image[..., :1]).ravel(), [0, 0, 0.25])
    np.testing.assert_array_equal(displayable(image[..., 1:]).ravel(), [1, 0.5, 0.75])
    np.testing.assert_array_equal(displayable(image)[0, 0, 1:].ravel(), [0, 0.5])


@pytest.mark.parametrize("channels", [1, 3])
def test_png_returns_the_values(tmp_path: Path, channels: int) -> None:
    values = np.arange(8 * 6 * channels).reshape(8, 6, channels)
    image = (values[None] - 0.4) / 255
    write_png(tmp_path / "a.png", image)
    with Image.open(tmp_path / "a.png") as file:
        assert (file.mode, file.size) == ("L" if channels == 1 else "RGB", (6 * 32, 8 * 32))
        pixels = np.asarray(file).reshape(256, 192, channels)
    blocks = pixels.reshape(8, 32, 6, 32, channels)
    assert (blocks == blocks[:, :1, :, :1]).all()
    np.testing.assert_array_equal(blocks[:, 0, :, 0], values)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((1, 300, 20, 1), (20, 300)), ((1, 100, 20, 1), (60, 300)), ((4, 28, 28, 2), (57 * 5, 57 * 5))],
)
def test_png_size(tmp_path: Path, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    write_png(tmp_path / "a.png", np.zeros(shape))
    with Image.open(tmp_path / "a.png") as file:
        assert file.size == size


def test_png_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_png(tmp_path / "none" / "a.png", np.zeros((1, 4, 4, 1)))
