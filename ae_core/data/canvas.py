"""Filled outlines, anti-aliased by the area that they cover of each pixel, on many pictures at once.

The area of a polygon is a sum over its edges: one that descends through a row of pixels adds, to each pixel, the part
of it that lies to the right of the edge, and one that ascends takes it away again. So any outline may be given, hollow
or thinner than a pixel, and a picture changes smoothly as its outlines move.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

UNITS = 32
"""Outlines are drawn on a sheet of this many units in height and in width, whatever the size of the picture."""

Value = float | np.float32 | Float32[np.ndarray, " n"]
Point = tuple[Value, Value]

AXIS = -float(UNITS)
"""Where a mirrored outline ends: beyond the axis, so that its two halves meet without a seam."""

_GRAIN = np.float32(1024)


class Canvas:
    """A ``picture`` ``[H, W, n]`` of each of n things: they lie along the last axis, for long inner loops.

    Outlines are polygons, given by their corners in either direction; each coordinate is a number for all pictures, or
    ``[n]``, one for each. ``x`` counts units to the right of the picture's middle, ``y`` units down from its top.
    A mirrored outline is its right half, closed on the left at :data:`AXIS`; it is drawn on both sides.
    """

    def __init__(self, count: int, size: tuple[int, int], background: float):
        self.height, self.width = size
        self.picture = np.full((*size, count), background, np.float32)

    def paint(self, outline: Sequence[Point], value: Value, mirrored: bool = False) -> None:
        """Fill an outline with ``value``, in proportion to the part of each pixel that it covers."""
        row, column, cover = self._cover(outline, self.width // 2 if mirrored else 0)
        rows, stop = slice(row, row + cover.shape[0]), column + cover.shape[1]
        _blend(self.picture[rows, column:stop], value, cover)
        if mirrored:
            # The middle column of an odd number is its own mirror image.
            own = max(0, self.width - 2 * column)
            cover = cover[:, own:]
            flipped = self.picture[rows, ::-1]
            _blend(flipped[:, column + own : stop], value, cover)

    def stroke(self, start: Point, end: Point, thickness: Value, value: Value, mirrored: bool = False) -> None:
        """Paint a straight line, ``thickness`` units wide, that ends squarely at its two ends."""
        (x0, y0), (x1, y1) = start, end
        dx, dy = x1 - x0, y1 - y0
        scale = 0.5 * thickness / np.sqrt(dx * dx + dy * dy, dtype=np.float32)
        ax, ay = -dy * scale, dx * scale
        self.paint([(x0 + ax, y0 + ay), (x1 + ax, y1 + ay), (x1 - ax, y1 - ay), (x0 - ax, y0 - ay)], value, mirrored)

    def _cover(self, outline: Sequence[Point], left: int) -> tuple[int, int, Float32[np.ndarray, "h w n"]]:
        """Return the first row and column, from ``left`` on, of the pixels that an outline touches, and their cover."""
        count = self.picture.shape[2]
        corners = np.empty((2, len(outline), count), np.float32)
        for corner, (x, y) in zip(corners.swapaxes(0, 1), outline, strict=True):
            corner[0], corner[1] = x, y
        xs = (corners[0] / np.float32(UNITS) + np.float32(0.5)) * np.float32(self.width)
        # Sums of whole grains are exact: what one edge adds beyond the outline, the others take away to the last bit,
        # and a picture does not depend on those that are drawn beside it.
        ys = np.rint(corners[1] * np.float32(self.height / UNITS) * _GRAIN) / _GRAIN
        top, bottom = _within(ys.min(), ys.max(), self.height)
        # An edge is blurred over half a pixel to each side; the rest is room for rounding.
        start, stop = _within(max(float(xs.min()) - 1, left), float(xs.max()) + 1, self.width)
        cover = np.zeros((bottom - top, stop - start, count), np.float32)
        centres = np.arange(start, stop, dtype=np.float32)[:, None] + np.float32(0.5)
        for i in range(len(outline)):
            _add_edge(cover, top, centres, xs[i - 1], ys[i - 1], xs[i], ys[i])
        return top, start, np.abs(cover, out=cover)


def _add_edge(
    cover: Float32[np.ndarray, "h w n"],
    top: int,
    centres: Float32[np.ndarray, "w 1"],
    x0: Float32[np.ndarray, " n"],
    y0: Float32[np.ndarray, " n"],
    x1: Float32[np.ndarray, " n"],
    y1: Float32[np.ndarray, " n"],
) -> None:
    """Add to each pixel the part of it to the right of one edge, and between its ends: negative where it ascends."""
    low, high = np.minimum(y0, y1), np.maximum(y0, y1)
    first, last = _within(low.min() - top, high.max() - top, len(cover))
    drop = y1 - y0
    if first == last or not drop.any():
        return
    rows = np.arange(top + first, top + last, dtype=np.float32)[:, None]
    start, stop = np.clip(rows, low, high), np.clip(rows + 1, low, high)
    slope = (x1 - x0) / np.where(drop == 0, np.float32(1), drop)
    middle = x0 + ((start + stop) / 2 - y0) * slope
    # A flat edge crosses a row of pixels over several columns, over which its area grows evenly.
    sharpness = 1 / np.maximum(np.abs((stop - start) * slope), 1)
    offset = np.float32(0.5) - middle * sharpness
    weight = np.where(drop < 0, start - stop, stop - start)
    part = centres * sharpness[:, None]
    part += offset[:, None]
    np.maximum(part, np.float32(0), out=part)
    np.minimum(part, np.float32(1), out=part)
    part *= weight[:, None]
    cover[first:last] += part


def _blend(pixels: Float32[np.ndarray, "h w n"], value: Value, cover: Float32[np.ndarray, "h w n"]) -> None:
    change = value - pixels
    change *= cover
    pixels += change


def _within(low: float | np.float32, high: float | np.float32, count: int) -> tuple[int, int]:
    """Return the whole pixels, from first to one past the last, of ``count`` that an interval touches."""
    first = min(max(int(np.floor(low)), 0), count)
    return first, min(max(int(np.ceil(high)), first), count)
