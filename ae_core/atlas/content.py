"""What an atlas shows, as JSON values: codes in their plane, colours, small pictures, and a way to decode."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, Int64

from ae_core.atlas.pack import numbers, packed, pixels, sheet_png
from ae_core.atlas.page_decoder import LIMIT, Means, PageDecoder, View, make_page_decoder
from ae_core.data import Dataset
from ae_core.errors import DataError, nearest
from ae_core.figures.charts import MARKERS, MAX_CLASSES, PALETTE
from ae_core.latent import Plane, data_plane
from ae_core.latent.codes import VectorCodes
from ae_core.spec import Spec
from ae_core.training.engine import Inference

SHEET_BYTES = 800_000
"""What the small pictures of the images may take, as a PNG file."""
CODE_BYTES = 300_000
"""What the codes of the images may take."""
THUMBNAIL_SIDE = 64
"""The most pixels along a side of a small picture."""
MAX_COLOURS, MAX_SLIDERS = 10, 32
"""The most things to colour by, and latents with a slider."""

NOUNS = {"garments": "garment", "fashion-mnist": "garment", "digits": "digit", "mnist": "digit", "cans": "can"}


class Content(NamedTuple):
    """What a page shows, before it is written as HTML."""

    values: dict[str, Any]
    """What the page's script reads."""
    decoder: PageDecoder
    plane: Plane
    view: View
    indices: Int64[np.ndarray, " N"]
    """Which images are shown."""


def make_content(
    spec: Spec,
    tensors: Mapping[str, np.ndarray],
    model: Inference,
    data: Dataset,
    most: int,
    means: Means = "auto",
    colour: str | None = None,
) -> Content:
    """Return what an atlas shows of a model and of at most ``most`` images, evenly chosen, fewer where they are large.

    ``colour`` is what points are coloured by at first: "label" or the name of a factor.

    Raises:
        DataError: nothing called ``colour`` is known of the images, the decoder is asked to be in the page, which
            cannot run it, or the model makes numbers that are not finite.
    """
    colours = _known(data, colour)
    vectors = VectorCodes(model, spec)
    latent = spec.latent_size
    indices, tiles, columns, sheet = _chosen(data, min(most, max(2, CODE_BYTES // (4 * latent))))
    codes = vectors.encode(data.images[indices]).astype(np.float32)
    if not np.isfinite(codes).all():
        raise DataError("atlas: the model makes numbers that are not finite of these images; was its training sound?")
    plane = data_plane(codes)
    points = plane.points(codes)
    view = _view(points)
    decoder = make_page_decoder(spec, tensors, vectors.decode, means, plane, view, codes)
    inside = decoder.is_exact
    values = {
        "noun": NOUNS.get(data.name, "image"),
        "name": data.name,
        "shown": len(indices),
        "all": len(data.images),
        "latent": latent,
        "code": code_in_words(spec.latent_shape),
        "image": list(spec.input_shape),
        "indices": numbers(indices, "u4"),
        "view": list(view),
        "axes": list(plane.names),
        # a grid knows no codes, and the page then takes spots of the plane for them
        "codes": numbers(codes if inside else points[:, : min(latent, 2)], "f4"),
        "width": latent if inside else min(latent, 2),
        "plane": _vectors(
            plane if inside else Plane(np.zeros(min(latent, 2)), np.eye(2)[:, : min(latent, 2)], ("", ""))
        ),
        "colours": [_colouring(name, colours[name][indices], data.label_names) for name in list(colours)[:MAX_COLOURS]],
        "sheet": {"picture": packed(sheet, "image/png"), "columns": columns, "size": list(tiles)},
        "sliders": _sliders(codes) if inside and latent > 2 else [],
        "palette": list(PALETTE),
        "markers": MARKERS,
        "ramp": [matplotlib.colors.to_hex(matplotlib.colormaps["viridis"](i / 15)) for i in range(16)],
        "decoder": decoder.values,
        "reason": decoder.reason,
        "distance": decoder.distance._asdict(),
        "limit": LIMIT,
    }
    return Content(values, decoder, plane, view, indices)


def code_in_words(shape: tuple[int, ...]) -> str:
    """Return how many numbers a code has.

    >>> code_in_words((2,)), code_in_words((8, 8, 4))
    ('2 numbers', '8 × 8 × 4 = 256 numbers')
    """
    size = math.prod(shape)
    product = f"{' × '.join(map(str, shape))} = " if len(shape) > 1 else ""
    return f"{product}{size:,} number{'' if size == 1 else 's'}"


def _known(data: Dataset, first: str | None) -> dict[str, np.ndarray]:
    """Return what is known of the images, by name; what is asked for comes first."""
    known: dict[str, np.ndarray] = {} if data.labels is None else {"label": data.labels}
    if data.factors is not None:
        known |= dict(zip(data.factor_names, data.factors.T, strict=True))
    if first is None:
        return known
    if first not in known:
        right = nearest(first, known) if known else "it has neither labels nor factors"
        raise DataError(f'--colour: given "{first}", which is not known of {data.name}; {right}')
    return {first: known[first]} | known


def _chosen(data: Dataset, most: int) -> tuple[Int64[np.ndarray, " N"], tuple[int, int], int, bytes]:
    """Return which images are shown, height and width of their small pictures, and the sheet: its columns, its PNG."""
    count = min(most, len(data.images))
    while True:
        indices = np.linspace(0, len(data.images) - 1, count).round().astype(np.int64)
        tiles = pixels(data.images[indices], THUMBNAIL_SIDE)
        columns = math.ceil(math.sqrt(count))
        sheet = sheet_png(tiles, columns)
        if len(sheet) <= SHEET_BYTES or count <= 2:
            return indices, (tiles.shape[1], tiles.shape[2]), columns, sheet
        count = max(2, int(count * min(0.95, 0.97 * SHEET_BYTES / len(sheet))))


def _view(points: Float[np.ndarray, "N 2"]) -> View:
    """Return the range of the points with a margin, which is 1 on either side where they do not vary."""
    low, high = points.min(0), points.max(0)
    margin = np.where(high > low, 0.06 * (high - low), 1.0)
    low, high = low - margin, high + margin
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])


def _vectors(plane: Plane) -> dict[str, str]:
    return {"origin": numbers(plane.origin, "f8"), "axes": numbers(plane.axes, "f8")}


def _colouring(name: str, values: np.ndarray, label_names: tuple[str, ...]) -> dict[str, Any]:
    classes, order = np.unique(values, return_inverse=True)
    if name == "label" and len(classes) <= MAX_CLASSES:
        names = [label_names[c] if 0 <= c < len(label_names) else str(c) for c in classes]
        return {"name": name, "kind": "classes", "names": names, "of": numbers(order, "f4")}
    low, high = float(values.min()), float(values.max())
    return {"name": name, "kind": "range", "low": low, "high": high, "of": numbers(values, "f4")}


def _sliders(codes: Float[np.ndarray, "N L"]) -> list[dict[str, float]]:
    """Return the latents that vary most, in that order, with their ranges."""
    order = np.argsort(-codes.std(0), kind="stable")[:MAX_SLIDERS]
    low, high = codes.min(0), codes.max(0)
    return [{"latent": int(i), "low": float(low[i]), "high": float(max(high[i], low[i] + 1e-3))} for i in order]
