"""Garments: drawings in Fashion-MNIST's ten classes, of which four factors say everything that the class does not.

They let clothes be shown where nothing can be downloaded. Classes and labels are those of Xiao, Rasul and Vollgraf
(2017), "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms". Each factor runs from 0,
the least that its class has, to 1, the most; the tone from the darkest cloth to the lightest. The others are:

=========================  =====================  ==============================  =======================
class                      length                 width                           sleeve
=========================  =====================  ==============================  =======================
T-shirt, pullover, coat,   neck to hem            across the body                 of the sleeve
shirt
trouser                    waist to hem           across the hips                 of the leg's opening
dress                      straps to hem          of the skirt                    of the cap; 0 is a strap
bag                        height of the body     across the base                 height of the handle
sandal                     toe to heel            of the straps                   height of the heel
sneaker                    toe to heel            height of the shoe on its sole  thickness of the sole
ankle boot                 toe to heel            of the shaft                    height of the heel
=========================  =====================  ==============================  =======================
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

from ae_core.data import garment_shapes as shapes
from ae_core.data.canvas import Canvas
from ae_core.data.dataset import Dataset
from ae_core.errors import DataError
from ae_core.rng import generator

FACTOR_NAMES = ("length", "width", "sleeve", "tone")
MAX_COUNT = 10**8

_BACKGROUND = 0.04
_TINT = np.array([0.88, 0.94, 1.0], np.float32)
_CHUNK = 1 << 19


class _Garment(NamedTuple):
    name: str
    darkest: float
    lightest: float
    draw: Callable[[Canvas, shapes.Look], None]


# The position is the label.
_GARMENTS = (
    _Garment("T-shirt/top", 0.62, 0.88, shapes.tshirt),
    _Garment("trouser", 0.40, 0.62, shapes.trouser),
    _Garment("pullover", 0.42, 0.64, shapes.pullover),
    _Garment("dress", 0.60, 0.90, shapes.dress),
    _Garment("coat", 0.32, 0.50, shapes.coat),
    _Garment("sandal", 0.66, 0.92, shapes.sandal),
    _Garment("shirt", 0.70, 0.92, shapes.shirt),
    _Garment("sneaker", 0.48, 0.72, shapes.sneaker),
    _Garment("bag", 0.44, 0.70, shapes.bag),
    _Garment("ankle boot", 0.34, 0.56, shapes.boot),
)
GARMENT_NAMES = tuple(garment.name for garment in _GARMENTS)
"""What the labels 0 to 9 mean, here and in Fashion-MNIST."""


def garments(count: int, size: tuple[int, int] = (32, 32), seed: int = 0, channels: int = 1) -> Dataset:
    """Draw ``count`` garments whose factors are uniform in [0, 1] and independent of each other and of the class.

    ``images`` are ``[count, *size, channels]``, ``labels`` ``[count]``, ``factors`` ``[count, 4]``. Every ten in a row,
    from the first on, hold each class once. A longer data set of the same seed begins with the shorter one.

    Raises ``DataError`` for a count or size below one and for channels other than 1 or 3.
    """
    if not 1 <= count <= MAX_COUNT:
        raise DataError(f"garments: count is {count}, must be 1 to {MAX_COUNT:,}")
    classes = len(_GARMENTS)
    draws = generator(seed, "garments").random((-(-count // classes), classes, 1 + len(FACTOR_NAMES)))
    labels = draws[..., 0].argsort(axis=1, kind="stable").reshape(-1)[:count].astype(np.int64)
    factors = draws[..., 1:].reshape(-1, len(FACTOR_NAMES))[:count]
    draw = partial(draw_garments, size=size, channels=channels)
    return Dataset("garments", draw(labels, factors), labels, factors, FACTOR_NAMES, GARMENT_NAMES, draw)


def draw_garments(
    labels: Int64[np.ndarray, " N"],
    factors: Float64[np.ndarray, "N 4"],
    size: tuple[int, int] = (32, 32),
    channels: int = 1,
) -> Float32[np.ndarray, "N H W C"]:
    """Draw the garments of the given classes, 0 to 9, and factors, each in [0, 1], on a dark background.

    A picture that is not square shows the garment stretched with it. Three channels show it in a bluish tint.

    Raises ``DataError`` for labels and factors outside their ranges, a size below one, and channels other than 1 or 3.
    """
    height, width = size
    if min(size) < 1:
        raise DataError(f"garments: size is {height}×{width}, must be at least 1×1")
    if channels not in (1, 3):
        raise DataError(f"garments: drawn with 1 or 3 channels, not {channels}")
    if not ((labels >= 0) & (labels < len(_GARMENTS))).all():
        raise DataError(f"garments: labels must be 0 to {len(_GARMENTS) - 1}")
    if not ((factors >= 0) & (factors <= 1)).all():
        raise DataError(f"garments: {', '.join(FACTOR_NAMES)} must each be in [0, 1]")
    images = np.empty((len(labels), height, width, channels), np.float32)
    chunk = max(1, _CHUNK // (height * width))
    for label, garment in enumerate(_GARMENTS):
        indices = np.flatnonzero(labels == label)
        for start in range(0, len(indices), chunk):
            part = indices[start : start + chunk]
            gray = _draw(garment, factors[part].astype(np.float32), size).transpose(2, 0, 1)[..., None]
            images[part] = gray if channels == 1 else gray * _TINT
    return images


def _draw(
    garment: _Garment, factors: Float32[np.ndarray, "n 4"], size: tuple[int, int]
) -> Float32[np.ndarray, "H W n"]:
    length, width, sleeve, tone = np.ascontiguousarray(factors.T)
    canvas = Canvas(len(factors), size, _BACKGROUND)
    gray = garment.darkest + (garment.lightest - garment.darkest) * tone
    garment.draw(canvas, shapes.Look(length, width, sleeve, gray))
    return canvas.picture
