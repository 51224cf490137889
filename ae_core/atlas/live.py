"""How the page decodes while the pointer moves: by the decoder itself, or by blending pictures made beforehand."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from ae_core.atlas.decoder import Storage, decoder_program
from ae_core.atlas.pack import packed, pixels, sheet_png
from ae_core.errors import DataError
from ae_core.figures.pictures import displayable
from ae_core.latent import Plane, grid_codes
from ae_core.rng import generator
from ae_core.spec import Spec

Means = Literal["auto", "page", "grid"]
"""page: the decoder itself; grid: pictures made beforehand, blended; auto: the former where it is small enough."""

STORAGES: tuple[Storage, ...] = ("float32", "float16")
"""How the page may store weights; the first that it has room for is taken."""
WEIGHT_BYTES = 2_100_000
"""What a decoder in the page may take, before it is written as text of 4/3 the length."""
WORK = 100_000_000
"""Products of one picture, above which a page's script would no longer keep up with the pointer: some 0.1 s."""
GRID_BYTES = 2_100_000
"""What the pictures of a grid may take, as a PNG file."""
GRIDS = (48, 40, 32, 24, 16, 12, 8, 6, 4)
"""Pictures along each side of a grid; the first that is small enough is taken."""
GRID_SIDE = 128
"""The most pixels along a side of a grid's picture."""
SPOTS = 96
"""Where the distance to the true decoder is measured."""

View = tuple[float, float, float, float]
"""The part of the plane that the page shows: least and greatest x, least and greatest y."""


class Distance(NamedTuple):
    """How far the page's pictures are from the decoder's own, as shares of the way from black to white."""

    largest: float
    """Of any pixel of any picture."""
    rms: float
    """Root of the mean square, over all pixels of all pictures."""
    spots: int
    """Pictures compared."""


class Live(NamedTuple):
    """A way to decode in a page."""

    content: dict[str, Any]
    """What the page needs for it, as JSON values."""
    decode: Callable[[Float[np.ndarray, "N P"]], Float64[np.ndarray, "N H W D"]]
    """The same in NumPy: of codes, or of a grid's spots in the plane."""
    distance: Distance
    """Measured against the model."""


def itself(
    spec: Spec,
    tensors: Mapping[str, np.ndarray],
    decode: Callable[[np.ndarray], np.ndarray],
    spots: Float[np.ndarray, "N L"],
) -> Live | None:
    """Return the decoder itself, in the finest storage that the page has room for, or None where it has none.

    ``decode`` is the model's; the distance to it is measured at ``spots``.
    """
    for storage in STORAGES:
        program = decoder_program(spec, tensors, storage)
        weights = b"".join(np.ascontiguousarray(a, a.dtype.newbyteorder("<")).tobytes() for a in program.arrays())
        finite = all(np.isfinite(a).all() for a in program.arrays())
        plane = 3 * 8 * spec.bottleneck.latent  # origin and axes, which travel with it
        if len(weights) + plane <= WEIGHT_BYTES and finite and program.work() <= WORK:
            content = {
                "kind": "page",
                "storage": storage,
                "numbers": sum(a.size for a in program.arrays()),
                "steps": program.described(),
                "weights": packed(weights),
            }
            return Live(content, program.decode, _distance(program.decode(spots), decode(spots)))
    return None


def grid(
    plane: Plane, view: View, decode: Callable[[np.ndarray], np.ndarray], work: int, spots: Float[np.ndarray, "N 2"]
) -> Live:
    """Return pictures decoded at a grid of spots over the view, of which the four around a spot are blended.

    ``work`` are the products of one picture, which keep the grid of a slow decoder coarse; ``spots`` lie in the plane.
    """
    flat = len(plane.origin) == 1
    for size in GRIDS:
        if size**2 * work > 2000 * WORK and size != GRIDS[-1]:
            continue
        x, y = np.linspace(*view[:2], size), np.zeros(1) if flat else np.linspace(*view[2:], size)
        codes = grid_codes(plane, x, y)
        tiles = pixels(decode(codes.reshape(-1, codes.shape[-1])), GRID_SIDE)
        png = sheet_png(tiles, size)
        if len(png) <= GRID_BYTES or size == GRIDS[-1]:
            break
    levels = tiles.reshape(len(y), size, *tiles.shape[1:])[::-1]  # the first row is the lowest y

    def blend(points: Float[np.ndarray, "N 2"]) -> Float64[np.ndarray, "N H W D"]:
        return _blended(levels, points, view)

    true = displayable(decode(plane.codes(spots)))
    if max(true.shape[1:3]) > GRID_SIDE:
        true = pixels(true, GRID_SIDE) / 255
    content = {"kind": "grid", "columns": size, "rows": len(y), "picture": packed(png, "image/png")}
    return Live(content, blend, _distance(blend(spots), true))


def _blended(levels: np.ndarray, points: Float[np.ndarray, "N 2"], view: View) -> Float64[np.ndarray, "N H W D"]:
    """Blend the four nearest pictures, in proportion to how near they are along each axis."""
    rows, columns = levels.shape[:2]
    u = np.clip((points[:, 0] - view[0]) / (view[1] - view[0]), 0, 1) * (columns - 1)
    v = np.clip((points[:, 1] - view[2]) / (view[3] - view[2]), 0, 1) * (rows - 1)
    i, j = (np.minimum(np.floor(a).astype(int), max(n - 2, 0)) for a, n in ((u, columns), (v, rows)))
    a, b = ((share - whole)[:, None, None, None] for share, whole in ((u, i), (v, j)))
    above, right = np.minimum(j + 1, rows - 1), np.minimum(i + 1, columns - 1)
    low = (1 - a) * levels[j, i] + a * levels[j, right]
    high = (1 - a) * levels[above, i] + a * levels[above, right]
    return ((1 - b) * low + b * high) / 255


def _distance(page: np.ndarray, true: np.ndarray) -> Distance:
    difference = page.astype(np.float64) - true
    if not np.isfinite(difference).all():
        raise DataError("atlas: the model makes numbers that are not finite of these codes; was its training sound?")
    return Distance(float(np.abs(difference).max()), float(np.sqrt(np.mean(difference**2))), len(difference))


def spots_to_measure(
    codes: Float[np.ndarray, "N L"], plane: Plane, view: View
) -> tuple[Float64[np.ndarray, "S L"], Float64[np.ndarray, "S 2"]]:
    """Return codes, and spots of the plane, at which to measure; the same for the same codes.

    Codes are a third of them those of images, a third of them spots of the view, and a third of them in the box around
    all codes, where sliders lead.
    """
    draw = generator(0, "atlas", "spots")
    uniform = draw.random((SPOTS, 2))
    points = np.array(view)[[0, 2]] + uniform * (np.array(view)[[1, 3]] - np.array(view)[[0, 2]])
    third = SPOTS // 3
    images = codes[np.linspace(0, len(codes) - 1, third).astype(int)]
    low, high = codes.min(0), codes.max(0)
    box = low + draw.random((SPOTS - 2 * third, codes.shape[1])) * (high - low)
    chosen = np.concatenate([images, plane.codes(points[:third]), box])
    return chosen.astype(np.float32).astype(np.float64), points
