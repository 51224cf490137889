"""Tin cans: pictures of thousands of pixels that two numbers, width and height, describe completely.

Every outline of a can is a curve over the columns of the picture: the back of the rim, the lid, the label, the foot.
A picture is therefore a sum over these curves of the step in brightness that a column takes on crossing one, and its
anti-aliasing is the part of each pixel that lies below the curve.
"""

import math

import numpy as np
from jaxtyping import Float32, Float64

from ae_core.data.dataset import Dataset
from ae_core.errors import DataError
from ae_core.rng import generator

FACTOR_NAMES = ("width", "height")
WIDTHS = (0.25, 0.85)
HEIGHTS = (0.30, 0.90)
MAX_COUNT = 10**8

_BACKGROUND = 0.04
_TINT = np.array([1.0, 0.95, 0.86], np.float32)
_TILT = 0.24
_LIGHT = -0.55
_CHUNK = 16_384


def cans(count: int, size: tuple[int, int] = (32, 32), seed: int = 0, channels: int = 1) -> Dataset:
    """Draw ``count`` cans whose widths and heights are uniform in ``WIDTHS`` and ``HEIGHTS``.

    ``images`` are ``[count, *size, channels]``; ``factors`` are ``[count, 2]``, in fractions of the picture's width and
    height. A longer data set of the same seed begins with the shorter one.

    Raises ``DataError`` for a count or size below one and for channels other than 1 or 3.
    """
    if not 1 <= count <= MAX_COUNT:
        raise DataError(f"cans: count is {count}, must be 1 to {MAX_COUNT:,}")
    low, high = np.array([WIDTHS, HEIGHTS]).T
    factors = generator(seed, "cans").uniform(low, high, size=(count, 2))
    images = draw_cans(factors, size, channels)
    return Dataset(
        "cans",
        images,
        factors=factors,
        factor_names=FACTOR_NAMES,
        draw=lambda _, others: draw_cans(others, size, channels),
    )


def draw_cans(
    factors: Float64[np.ndarray, "N 2"], size: tuple[int, int] = (32, 32), channels: int = 1
) -> Float32[np.ndarray, "N H W C"]:
    """Draw the cans of the given widths and heights, centred, on a dark background.

    A can is as wide and high as its factors, in fractions of the picture, each in (0, 1]. Three channels show the same
    can in the tint of tin.

    Raises ``DataError`` for factors outside (0, 1], a size below one, and channels other than 1 or 3.
    """
    height, width = size
    if min(size) < 1:
        raise DataError(f"cans: size is {height}×{width}, must be at least 1×1")
    if channels not in (1, 3):
        raise DataError(f"cans: drawn with 1 or 3 channels, not {channels}")
    if not ((factors > 0) & (factors <= 1)).all():
        raise DataError("cans: width and height are fractions of the picture, each must be in (0, 1]")
    images = np.empty((len(factors), height, width, channels), np.float32)
    # Cans lie along the last axis while they are drawn, in chunks that stay in the cache: long inner loops.
    chunk = max(1, _CHUNK // width)
    for start in range(0, len(factors), chunk):
        gray = _draw(factors[start : start + chunk].astype(np.float32), height, width).transpose(2, 0, 1)
        part = images[start : start + chunk]
        if channels == 1:
            part[..., 0] = gray
        else:
            np.multiply(gray[..., None], _TINT, out=part)
    return images


def _draw(factors: Float32[np.ndarray, "n 2"], height: int, width: int) -> Float32[np.ndarray, "H W n"]:
    """Sum, over the curves of each can, its step in brightness times the part of the pixel that lies below it."""
    curves = _curves(factors, height, width)
    picture = np.full((height, width, len(factors)), _BACKGROUND, np.float32)
    below = np.empty((width, len(factors)), np.float32)
    for row, pixels in enumerate(picture):
        for edge, sharpness, step in curves:
            np.subtract(np.float32(row + 0.5), edge, out=below)
            below *= sharpness
            below += np.float32(0.5)
            np.maximum(below, np.float32(0), out=below)
            np.minimum(below, np.float32(1), out=below)
            below *= step
            pixels += below
    return picture


_Curve = tuple[Float32[np.ndarray, "W n"], Float32[np.ndarray, "W n"], Float32[np.ndarray, "W n"]]


def _curves(factors: Float32[np.ndarray, "n 2"], height: int, width: int) -> list[_Curve]:
    """Return, from top to bottom, each curve's row, its sharpness and its step in brightness, all per column."""
    half = factors[:, 0] * width / 2
    tall = factors[:, 1] * height
    # The tilt is that of a square picture, stretched with it, so that lid and foot never meet in a flat one.
    bow = np.minimum(_TILT * factors[:, 0] * height / 2, 0.3 * tall)
    top, bottom = (height - tall) / 2, (height + tall) / 2

    left = np.arange(width, dtype=np.float32)[:, None] - np.float32(width / 2)
    x, cover, arc, slope = _arc(left, half)
    _, lid_cover, lid_arc, lid_slope = _arc(left, half * np.float32(0.86))
    lid_bow = bow * np.float32(0.74)

    side = x / half
    front = np.sqrt(np.maximum(1 - side**2, 0))
    facing = np.maximum(_LIGHT * side + math.sqrt(1 - _LIGHT**2) * front, 0)
    # Multiplied out: only products and roots are rounded alike on every processor, a power is not.
    gloss = np.square(np.square(np.square(facing)))
    gloss = gloss * gloss * gloss
    tin = 0.17 + 0.47 * facing + 0.26 * gloss
    label = 0.08 + 0.25 * facing
    rim = 0.86 + 0.12 * _LIGHT * side
    lid = 0.72 - 0.14 * _LIGHT * side

    face = bottom - top - 2 * bow
    back = top + bow - bow * arc
    near = top + bow + bow * arc
    lid_back = top + bow - lid_bow * lid_arc
    lid_near = top + bow + lid_bow * lid_arc
    label_top, label_end = near + 0.24 * face, near + 0.76 * face
    foot, end = near + 0.95 * face, near + face

    sharp, lid_sharp = 1 / np.sqrt(1 + (bow * slope) ** 2), 1 / np.sqrt(1 + (lid_bow * lid_slope) ** 2)
    return [
        (back, sharp, cover * (rim - _BACKGROUND)),
        (lid_back, lid_sharp, lid_cover * (lid - rim)),
        (lid_near, lid_sharp, lid_cover * (rim - lid)),
        (near, sharp, cover * (tin - rim)),
        (label_top, sharp, cover * (label - tin)),
        (label_end, sharp, cover * (tin - label)),
        (foot, sharp, cover * (-0.55 * tin)),
        (end, sharp, cover * (_BACKGROUND - 0.45 * tin)),
    ]


def _arc(left: Float32[np.ndarray, "W 1"], half: Float32[np.ndarray, " n"]) -> tuple[np.ndarray, ...]:
    """Return, per column, the centre and the amount of its covered part, and a unit half-ellipse's rise and slope.

    Only the covered part of a column counts, so a picture changes smoothly as the can grows into the next column.
    """
    start, stop = np.clip(left, -half, half), np.clip(left + 1, -half, half)
    rise_start, rise_stop = (np.sqrt(np.maximum(1 - (x / half) ** 2, 0)) for x in (start, stop))
    return (start + stop) / 2, stop - start, (rise_start + rise_stop) / 2, rise_stop - rise_start
