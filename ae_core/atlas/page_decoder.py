"""How a page decodes while the pointer moves: by the decoder's own steps, or by blending pictures made beforehand.

Either way it is measured against the model when the page is made, and no page carries out a decoder that is not the
model's.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from ae_core.atlas.decoder import NoSteps, decoder_steps
from ae_core.atlas.pack import packed, pixels, sheet_png
from ae_core.atlas.steps import DecoderSteps, Storage
from ae_core.errors import DataError, MissingError
from ae_core.figures.pictures import displayable
from ae_core.latent import Plane, grid_codes
from ae_core.rng import generator
from ae_core.spec import Spec

Means = Literal["auto", "page", "grid"]
"""page: the decoder itself; grid: pictures made beforehand, blended; auto: the former where the page can run it."""

LIMIT = 1 / 255
"""The most by which a decoder in the page may differ from the model, in any pixel, where black is 0 and white 1.

It is a step of a screen, whose pixels have 256 levels: up to it, two values round to the same level or to neighbours,
so that no pixel is shown more than one level off. It is wide for the right decoder and narrow for a wrong one.

- Weights stored as float32 are those of the model, and the page computes in float64, so that the difference is the
  rounding of the model's own run, of a relative u = 2⁻²⁴ in each operation. In a sum of K products it grows like √K·u
  of the root of the sum of squares (Higham and Mary, 2019): 2·10⁻⁶ for K = 9·128, the most in a preset, before the
  slope of a sigmoid, ¼ at most, and once more in each layer. Measured on trained presets it is 2·10⁻⁷.
- Weights stored as float16 are off by 2⁻¹¹ of themselves at most, and by up to 2⁻¹¹/√3 in the root mean square: in a
  sum by 3·10⁻⁴·√(Σ w²x²), whatever K is, and by a quarter of it after a sigmoid. Measured on presets: up to 2·10⁻⁴. A
  decoder whose logits are so large that it is more than the limit is not in the page.
- A step that is missing, a padding at the other side, a kernel that is turned: in the tests each of them moves some
  pixel by 0.03 or more.
"""
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
"""Where the distance to the model is measured."""

View = tuple[float, float, float, float]
"""The part of the plane that the page shows: least and greatest x, least and greatest y."""
Decode = Callable[[Float[np.ndarray, "N L"]], Float[np.ndarray, "N H W C"]]


class Distance(NamedTuple):
    """How far the page's pictures are from the model's, clipped to [0, 1]: 0 is black and 1 is white."""

    largest: float
    """Of any pixel of any picture."""
    rms: float
    """Root of the mean square, over all pixels of all pictures."""
    spots: int
    """Pictures compared."""


class PageDecoder(NamedTuple):
    """A way to decode in a page."""

    values: dict[str, Any]
    """What the page needs for it, as JSON values."""
    decode: Callable[[Float[np.ndarray, "N P"]], Float64[np.ndarray, "N H W D"]]
    """The same in NumPy: of codes, or of a grid's spots in the plane."""
    distance: Distance
    """Measured against the model."""
    reason: str = ""
    """Why the page has a grid and not the decoder itself."""

    @property
    def is_exact(self) -> bool:
        """Whether it is the decoder itself."""
        return self.values["kind"] == "page"


def make_page_decoder(
    spec: Spec,
    tensors: Mapping[str, np.ndarray],
    decode: Decode,
    means: Means,
    plane: Plane,
    view: View,
    codes: Float[np.ndarray, "N L"],
) -> PageDecoder:
    """Return the decoder itself where the page can run it and makes the same pictures of it, else a grid.

    Args:
        spec: of the model.
        tensors: its weights.
        decode: the model's, of flat codes, to which the distance is measured.
        means: which of the two is wanted.
        plane: in which a grid lies.
        view: the part of it that the page shows.
        codes: of the images.

    Raises:
        DataError: the decoder itself is wanted and cannot be had, or the model makes numbers that are not finite.
    """
    spots, points = spots_to_measure(codes, plane, view)
    steps, reason = None, "a grid was asked for"
    if means != "grid":
        try:
            steps = _steps_of(spec, tensors)
            return _own_decoder(steps, decode, spots)
        except (MissingError, NoSteps) as error:
            reason = str(error)
            if means == "page":
                raise DataError(f"--decoder: given page; expected grid: {reason}") from None
    # where the products are not known, each number of the decoder is in one of them at least
    numbers = sum(tensor.size for name, tensor in tensors.items() if name.startswith("decoder."))
    work = numbers if steps is None else steps.work()
    return make_grid(plane, view, decode, work, points)._replace(reason=reason)


def _steps_of(spec: Spec, tensors: Mapping[str, np.ndarray]) -> DecoderSteps:
    try:
        return decoder_steps(spec, tensors)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise NoSteps(f"its steps cannot be made: {_in_a_line(error)}") from error


def _own_decoder(steps: DecoderSteps, decode: Decode, spots: Float64[np.ndarray, "S L"]) -> PageDecoder:
    """Return the decoder itself, in the finest storage that the page has room for.

    Raises:
        NoSteps: the page has no room for it, or what it makes there is not what the model makes.
    """
    for storage in STORAGES:
        stored = steps.stored(storage)
        weights = b"".join(np.ascontiguousarray(a, a.dtype.newbyteorder("<")).tobytes() for a in stored.arrays())
        finite = all(np.isfinite(a).all() for a in stored.arrays())
        plane = 3 * 8 * spots.shape[1]  # origin and axes, which travel with it
        if len(weights) + plane <= WEIGHT_BYTES and finite and steps.work() <= WORK:
            break
    else:
        size = sum(a.size for a in steps.arrays())
        raise NoSteps(
            f"a decoder of {size:,} numbers and {steps.work():,} products a picture is too large for a page, which has "
            f"room for about a million numbers and {WORK:,} products"
        )
    true = _finite(decode(spots))
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            ours = stored.decode(spots)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise NoSteps(f"its steps cannot be carried out: {_in_a_line(error)}") from error
    if ours.shape != true.shape:
        raise NoSteps(f"its steps make pictures {list(ours.shape[1:])}; expected the model's, {list(true.shape[1:])}")
    distance = _distance(ours, true)
    if not distance.largest <= LIMIT:  # NaN is not
        raise NoSteps(
            f"with its weights as {storage}, its steps make pictures that are up to {distance.largest:.2g} off the "
            f"model's; expected at most {LIMIT:.4f}, a step of a screen"
        )
    values = {
        "kind": "page",
        "storage": storage,
        "numbers": sum(a.size for a in stored.arrays()),
        "steps": stored.described(),
        "weights": packed(weights),
    }
    return PageDecoder(values, stored.decode, distance)


def make_grid(plane: Plane, view: View, decode: Decode, work: int, spots: Float[np.ndarray, "N 2"]) -> PageDecoder:
    """Return pictures decoded at a grid of spots over the view, of which the four around a spot are blended.

    ``work`` is the number of products of one picture, which keeps the grid of a slow decoder coarse; ``spots`` lie in
    the plane.
    """
    flat = len(plane.origin) == 1
    for size in GRIDS:
        if size**2 * work > 2000 * WORK and size != GRIDS[-1]:
            continue
        x, y = np.linspace(*view[:2], size), np.zeros(1) if flat else np.linspace(*view[2:], size)
        codes = grid_codes(plane, x, y)
        tiles = pixels(_finite(decode(codes.reshape(-1, codes.shape[-1]))), GRID_SIDE)
        png = sheet_png(tiles, size)
        if len(png) <= GRID_BYTES or size == GRIDS[-1]:
            break
    levels = tiles.reshape(len(y), size, *tiles.shape[1:])[::-1]  # the first row is the lowest y

    def blend(points: Float[np.ndarray, "N 2"]) -> Float64[np.ndarray, "N H W D"]:
        return _blended(levels, points, view)

    true = displayable(_finite(decode(plane.codes(spots))))
    if max(true.shape[1:3]) > GRID_SIDE:
        true = pixels(true, GRID_SIDE) / 255
    values = {"kind": "grid", "columns": size, "rows": len(y), "picture": packed(png, "image/png")}
    return PageDecoder(values, blend, _distance(blend(spots), true))


def _blended(levels: np.ndarray, points: Float[np.ndarray, "N 2"], view: View) -> Float64[np.ndarray, "N H W D"]:
    """Blend the four nearest pictures, bilinearly."""
    rows, columns = levels.shape[:2]
    u = np.clip((points[:, 0] - view[0]) / (view[1] - view[0]), 0, 1) * (columns - 1)
    v = np.clip((points[:, 1] - view[2]) / (view[3] - view[2]), 0, 1) * (rows - 1)
    i, j = (np.minimum(np.floor(a).astype(int), max(n - 2, 0)) for a, n in ((u, columns), (v, rows)))
    a, b = ((share - whole)[:, None, None, None] for share, whole in ((u, i), (v, j)))
    above, right = np.minimum(j + 1, rows - 1), np.minimum(i + 1, columns - 1)
    low = (1 - a) * levels[j, i] + a * levels[j, right]
    high = (1 - a) * levels[above, i] + a * levels[above, right]
    return ((1 - b) * low + b * high) / 255


def _finite(images: Float[np.ndarray, "N H W C"]) -> Float[np.ndarray, "N H W C"]:
    """Return the images of the model.

    Raises:
        DataError: they have numbers that are not finite.
    """
    if not np.isfinite(images).all():
        raise DataError("atlas: the model makes numbers that are not finite of these codes; was its training sound?")
    return images


def _distance(page: Float[np.ndarray, "N H W D"], true: Float[np.ndarray, "N H W D"]) -> Distance:
    difference = np.clip(page.astype(np.float64), 0, 1) - np.clip(true.astype(np.float64), 0, 1)
    return Distance(float(np.abs(difference).max()), float(np.sqrt(np.mean(difference**2))), len(difference))


def _in_a_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def spots_to_measure(
    codes: Float[np.ndarray, "N L"], plane: Plane, view: View
) -> tuple[Float64[np.ndarray, "S L"], Float64[np.ndarray, "S 2"]]:
    """Return the codes, and the spots of the plane, at which to measure; the same for the same codes.

    A third of the codes are those of images, a third lie in the view, and a third in the box around all codes, where
    sliders lead.
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
