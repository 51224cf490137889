"""Images as PNG files: one image, or a contact sheet of many."""

import io
import math
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, UInt8

from ae_core.files.output import write_bytes

# Neither black nor white, so that images with either background stay apart.
GAP = np.float32(0.75)

MIN_SIDE = 256


def displayable(images: Float[np.ndarray, "N H W C"]) -> Float32[np.ndarray, "N H W D"]:
    """Return the images as a screen can show them: clipped to [0, 1], NaN black, and D is 1 or 3.

    C of 1 and 3 are kept; any other C becomes gray, the mean over the channels.
    """
    if images.shape[-1] not in (1, 3):
        images = images.mean(axis=-1, keepdims=True)
    shown: np.ndarray = np.clip(np.nan_to_num(images, nan=0.0), 0, 1).astype(np.float32)
    return shown


def grid(images: Float[np.ndarray, "N H W C"], columns: int | None = None) -> Float32[np.ndarray, "R S C"]:
    """Return a contact sheet: images in reading order with a thin gray gap between them; free cells are gray too.

    ``columns`` counts images; without it the sheet is as near to a square as N allows.
    """
    n, h, w, c = images.shape
    if n == 0 or (columns is not None and columns < 1):
        raise ValueError(f"a grid needs at least one image and one column; given {n} images, columns={columns}")
    columns = min(n, columns or math.ceil(math.sqrt(n * h / w)))
    rows = math.ceil(n / columns)
    gap = max(1, min(h, w) // 16)
    cells = np.full((rows * columns, h + gap, w + gap, c), GAP, np.float32)
    cells[:n, :h, :w] = images
    sheet = cells.reshape(rows, columns, h + gap, w + gap, c).swapaxes(1, 2)
    return sheet.reshape(rows * (h + gap), columns * (w + gap), c)[:-gap, :-gap]


def write_png(path: Path, images: Float[np.ndarray, "N H W C"]) -> None:
    """Write one image as itself, several as a :func:`grid`; atomically, as 8-bit gray or RGB.

    Values are clipped to [0, 1]. Small pictures are enlarged by a whole factor, each pixel a square block, until the
    longer side has at least 256 pixels.

    Raises:
        OutputError: the path cannot be written.
    """
    shown = displayable(images)
    pixels = np.rint((shown[0] if len(shown) == 1 else grid(shown)) * 255).astype(np.uint8)
    factor = math.ceil(MIN_SIDE / max(pixels.shape[:2]))
    write_bytes(path, _png(pixels.repeat(factor, axis=0).repeat(factor, axis=1)))


def _png(pixels: UInt8[np.ndarray, "H W D"]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, format="PNG")
    return buffer.getvalue()
