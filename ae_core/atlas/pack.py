"""Bytes, numbers and pictures as text in a page."""

import base64
import io
import math

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from ae_core.figures.pictures import displayable


def packed(data: bytes, kind: str = "") -> str:
    """Return bytes as base64; with a media type, as a data URL."""
    text = base64.b64encode(data).decode("ascii")
    return f"data:{kind};base64,{text}" if kind else text


def numbers(array: np.ndarray, dtype: str) -> str:
    """Return an array as base64 of little-endian numbers."""
    return packed(np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<")).tobytes())


def pixels(images: Float[np.ndarray, "N H W C"], side: int) -> UInt8[np.ndarray, "N h w D"]:
    """Return images of at most ``side`` pixels along each side, as a screen shows them; the mean over pixels' areas."""
    shown = np.rint(displayable(images) * 255).astype(np.uint8)
    n, h, w, d = shown.shape
    if max(h, w) <= side:
        return shown
    scale = side / max(h, w)
    size = max(1, round(w * scale)), max(1, round(h * scale))
    small = [np.asarray(Image.fromarray(x[..., 0] if d == 1 else x).resize(size, Image.Resampling.BOX)) for x in shown]
    return np.stack(small).reshape(n, size[1], size[0], d)


def sheet_png(tiles: UInt8[np.ndarray, "N H W D"], columns: int) -> bytes:
    """Return pictures in reading order, edge to edge, as one PNG file; free places are black."""
    n, h, w, d = tiles.shape
    rows = math.ceil(n / columns)
    cells = np.zeros((rows * columns, h, w, d), np.uint8)
    cells[:n] = tiles
    sheet = cells.reshape(rows, columns, h, w, d).swapaxes(1, 2).reshape(rows * h, columns * w, d)
    buffer = io.BytesIO()
    Image.fromarray(sheet[..., 0] if d == 1 else sheet).save(buffer, format="PNG", compress_level=9)
    return buffer.getvalue()
