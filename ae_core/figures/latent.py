"""Figures of a walk through the latent space: grid maps and labelled rows of images."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from ae_core.figures.charts import DPI, PALETTE
from ae_core.figures.pictures import displayable, grid
from ae_core.latent import Plane, grid_codes

_INK, _MUTED, _RULE = "#222222", "#555555", "#d9d9d9"
_TITLE, _LABEL = 13, 12
_MAX_SIDE = {1: 9.0, 2: 6.0}
"""Inches of the longer side of a map, alone and beside another."""


class GridMap(NamedTuple):
    """Decoded images in the order of a picture, and where their codes lie."""

    images: Float[np.ndarray, "Y X H W C"]
    x: Float[np.ndarray, " X"]
    """From left to right."""
    y: Float[np.ndarray, " Y"]
    """From the bottom to the top row."""
    names: tuple[str, str]
    """Of the axes; the second is empty where there is one row and no second axis."""


def decoded_map(
    decode: Callable[[np.ndarray], np.ndarray],
    plane: Plane,
    x: Float[np.ndarray, " X"],
    y: Float[np.ndarray, " Y"],
) -> GridMap:
    """Return the images that hang at each pair of values in a plane of the latent space."""
    images = decode(grid_codes(plane, x, y).reshape(-1, plane.axes.shape[1]))
    return GridMap(images.reshape(len(y), len(x), *images.shape[1:]), x, y, plane.names)


def grid_maps(maps: Mapping[str, GridMap]) -> Figure:
    """Draw one or two maps, beside each other, each below its title."""
    sheets = [grid(displayable(m.images.reshape(-1, *m.images.shape[2:])), m.images.shape[1]) for m in maps.values()]
    most = max(max(sheet.shape[:2]) for sheet in sheets)
    dots = _MAX_SIDE[len(maps)] * DPI / most
    scale = (math.floor(dots) if dots >= 1 else dots) / DPI  # each pixel as many dots as the next
    left, bottom, top, right = 1.15, 0.8, 0.5, 0.15
    widths, heights = ([max(sheet.shape[i] * scale, least) for sheet in sheets] for i, least in ((1, 2.5), (0, 0.4)))
    total = sum(widths) + (left + right) * len(maps), bottom + max(heights) + top
    figure = Figure(total, facecolor="white")
    start = left
    for (title, shown), sheet, width, height in zip(maps.items(), sheets, widths, heights, strict=True):
        axes = figure.add_axes((start / total[0], bottom / total[1], width / total[0], height / total[1]))
        start += width + right + left
        axes.imshow(_colour(sheet), extent=(0, len(shown.x), 0, len(shown.y)), aspect="auto", interpolation="nearest")
        for side, values, name in (("x", shown.x, shown.names[0]), ("y", shown.y, shown.names[1])):
            places = np.arange(0, len(values), -(-len(values) // 7))
            ticks = [number(values[i]) for i in places]
            axes.set(**{f"{side}ticks": places + 0.5 if name else [], f"{side}ticklabels": ticks if name else []})
            axes.set(**{f"{side}label": name})
        axes.tick_params(labelsize=_LABEL, color=_RULE, labelcolor=_MUTED)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set(fontsize=_TITLE, color=_INK)
        axes.set_title(title, loc="left", fontsize=_TITLE, color=_INK)
        axes.spines[:].set_visible(False)
    return figure


def labelled_rows(
    rows: Mapping[str, Float[np.ndarray, "N H W C"]],
    columns: Mapping[str, Sequence[str]] | Sequence[str],
    title: str,
    marked: Mapping[str, Sequence[int]] | None = None,
) -> Figure:
    """Draw rows of images with the row's name on the left and a text under each image.

    ``columns`` are the texts, for each row by name, or one list for the last row alone. ``marked`` images have an
    orange frame. Images that are NaN everywhere stay white.
    """
    texts = columns if isinstance(columns, Mapping) else {list(rows)[-1]: columns}
    most = max(len(images) for images in rows.values())
    h, w = next(iter(rows.values())).shape[1:3]
    names = 0.25 + 0.115 * max(len(line) for name in rows for line in name.split("\n"))
    cell = min(1.3, 13.0 / most)
    tall = min(cell * h / w, 2.5)
    gap, line, top = 0.08, 0.3, 0.5
    height = top + sum(tall + gap + (line if name in texts else 0) for name in rows) + 0.12
    figure = Figure((names + most * (cell + gap) + 0.1, height), facecolor="white")
    total = figure.get_size_inches()
    figure.text(0.12 / total[0], 1 - 0.3 / total[1], title, fontsize=_TITLE, color=_INK, va="center")
    down = height - top
    for name, images in rows.items():
        down -= tall
        middle = (down + tall / 2) / total[1]
        figure.text((names - 0.12) / total[0], middle, name, fontsize=_LABEL, color=_INK, ha="right", va="center")
        for i, image in enumerate(images):
            if np.isnan(image).all():
                continue
            place = ((names + i * (cell + gap)) / total[0], down / total[1], cell / total[0], tall / total[1])
            axes = figure.add_axes(place)
            axes.imshow(_colour(displayable(image[None])[0]), vmin=0, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            strange = marked is not None and i in marked.get(name, ())
            axes.spines[:].set(color=PALETTE[1] if strange else _RULE, linewidth=4 if strange else 0.8)
            if name in texts and i < len(texts[name]):
                axes.set_xlabel(texts[name][i], fontsize=_LABEL, color=_MUTED, labelpad=5)
        down -= gap + (line if name in texts else 0)
    return figure


def _colour(image: Float[np.ndarray, "H W C"]) -> Float[np.ndarray, "H W 3"]:
    return np.broadcast_to(image, (*image.shape[:2], 3))


def number(value: float) -> str:
    """Return a number as a figure shows it: two decimals, a true minus sign."""
    return f"{value:.2f}".rstrip("0").rstrip(".").replace("-", "−") if abs(value) < 100 else f"{value:.3g}"
