"""Figures of a walk through the latent space: grid maps and labelled rows of images."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from ae_core.figures import PALETTE
from ae_core.pictures import displayable, grid

_INK, _MUTED, _RULE = "#222222", "#555555", "#d9d9d9"
_TITLE, _LABEL = 13, 12
_MAX_SIDE = 9.0


def grid_map(
    images: Float[np.ndarray, "Y X H W C"],
    x: Float[np.ndarray, " X"],
    y: Float[np.ndarray, " Y"],
    names: tuple[str, str],
    title: str,
) -> Figure:
    """Draw decoded images where their codes lie: x from left to right, y from the bottom to the top row.

    ``names`` are those of the axes; the second may be empty, where there is one row and no second axis.
    """
    rows, columns = images.shape[:2]
    sheet = grid(displayable(images.reshape(-1, *images.shape[2:])), columns)
    tall, wide = sheet.shape[:2]
    scale = _MAX_SIDE / max(tall, wide, 1)
    left, bottom, top, right = 1.15, 0.8, 0.5, 0.15
    width, height = max(wide * scale, 2.5), max(tall * scale, 0.4)
    figure = Figure((left + width + right, bottom + height + top), facecolor="white")
    total = figure.get_size_inches()
    axes = figure.add_axes((left / total[0], bottom / total[1], width / total[0], height / total[1]))
    axes.imshow(_colour(sheet), extent=(0, columns, 0, rows), aspect="auto", interpolation="nearest")
    for side, values, name in (("x", x, names[0]), ("y", y, names[1])):
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
