"""Figures of a run: reconstructions, loss curves, latent codes, throughput.

Only Matplotlib's object interface is used: no figure is registered anywhere, and nothing has to be closed.
"""

import io
import math
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, Num, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from ae_core.figures.pictures import displayable, grid
from ae_core.files.output import write_bytes
from ae_core.latent.plane import principal_axes

# Okabe and Ito, "Color Universal Design" (2008), without its yellow, which is too faint for points on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "o^s"
MAX_CLASSES = len(PALETTE) * len(MARKERS)

MAX_IMAGES = 10
DPI = 120

_INK, _MUTED, _RULE = "#222222", "#555555", "#d9d9d9"
_TITLE, _LABEL, _TICK = 13, 12, 11


class Curve(NamedTuple):
    """The losses of one run, at the steps where they were taken; the held-out pair may be empty."""

    steps: Shaped[np.ndarray, " T"]
    losses: Float[np.ndarray, " T"]
    heldout_steps: Shaped[np.ndarray, " K"]
    heldout_losses: Float[np.ndarray, " K"]


def image_rows(
    rows: Mapping[str, Float[np.ndarray, "N H W C"]],
    difference: Set[str] = frozenset(),
) -> Figure:
    """Draw labelled rows of at most ten images each; equal columns show the same sample.

    Rows named in ``difference`` hold signed values: they are drawn on a diverging map whose symmetrical scale, in
    pixel values, stands beside them. With several channels the one that differs most is shown, with its sign.
    """
    strips, scales = {}, {}
    for name, images in rows.items():
        shown = images[:MAX_IMAGES]
        if name in difference:
            limit = _largest(shown)
            shown, bar = _diverging(shown, limit)
            scales[name] = limit, bar
        strips[name] = grid(displayable(shown), columns=len(shown))

    most = max(min(len(images), MAX_IMAGES) for images in rows.values())
    width, title, pad = min(9.0, 2.2 * most), 0.36, 0.15
    right = 1.05 if scales else pad
    # tall images get less width than they could fill
    heights = {name: min(3.0, width * strip.shape[0] / strip.shape[1]) for name, strip in strips.items()}
    total_w, total_h = pad + width + right, pad + sum(heights.values()) + (title + 0.08) * len(rows)

    figure = Figure(figsize=(total_w, total_h), facecolor="white")
    top = total_h
    for name, strip in strips.items():
        top -= title + heights[name]
        axes = figure.add_axes((pad / total_w, top / total_h, width / total_w, heights[name] / total_h))
        axes.imshow(np.broadcast_to(strip, (*strip.shape[:2], 3)))
        axes.set_title(name, loc="left", fontsize=_TITLE, color=_INK, pad=4)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color(_RULE)
        if name in scales:
            _state_scale(axes.inset_axes((1.0 + 0.09 / width, 0, 0.14 / width, 1)), *scales[name])
        top -= 0.08
    return figure


def _extreme(images: Float[np.ndarray, "N H W C"]) -> Float[np.ndarray, "N H W"]:
    # A mean over channels would hide differences of opposite sign.
    largest = np.abs(images).argmax(axis=-1, keepdims=True)
    return np.take_along_axis(images, largest, axis=-1)[..., 0]


def _largest(images: Float[np.ndarray, "N H W C"]) -> float:
    return float(np.abs(images[np.isfinite(images)]).max(initial=0))


def _diverging(
    images: Float[np.ndarray, "N H W C"], limit: float
) -> tuple[Float[np.ndarray, "N H W 3"], Float[np.ndarray, "256 1 3"]]:
    colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad="black")
    position = 0.5 + 0.5 * np.ma.masked_invalid(_extreme(images)) / (limit or 1.0)
    return colours(position)[..., :3], colours(np.linspace(1, 0, 256))[:, None, :3]


def _state_scale(axes: Axes, limit: float, bar: Float[np.ndarray, "256 1 3"]) -> None:
    if limit == 0:
        axes.set_axis_off()
        axes.text(0, 0.5, "exactly\nzero", va="center", fontsize=_TICK, color=_INK, transform=axes.transAxes)
        return
    axes.imshow(bar, aspect="auto", extent=(0, 1, -1, 1))
    axes.set(xticks=[], yticks=[1, 0, -1])
    axes.yaxis.tick_right()
    axes.set_yticklabels([f"+{limit:.2g}", "0", f"−{limit:.2g}"])
    for label, align in zip(axes.get_yticklabels(), ("top", "center", "bottom"), strict=True):
        label.set(va=align, fontsize=_TICK, color=_INK)
    axes.tick_params(length=0, pad=3)
    axes.spines[:].set_color(_RULE)


def loss_curves(curves: Mapping[str, Curve], x_label: str = "step") -> Figure:
    """Draw the losses of several runs in one plot, the first wide and pale, the next thin on top of it.

    Equal curves therefore both stay visible. The loss axis is logarithmic when all values are positive and span more
    than a factor of twenty.
    """
    figure = _figure(8.0, 4.6)
    axes = _plain(figure.add_subplot())
    for i, (name, curve) in enumerate(curves.items()):
        colour = PALETTE[i % len(PALETTE)]
        width, alpha, size = (6.0, 0.35, 12.0) if i == 0 and len(curves) > 1 else (1.6, 1.0, 5.0)
        style: dict[str, Any] = {"color": colour, "lw": width, "alpha": alpha, "ms": size, "mec": "none"}
        if len(curve.steps):
            alone = "s" if len(curve.steps) == 1 else ""
            axes.plot(curve.steps, curve.losses, marker=alone, label=f"{name}, training", **style)
        if len(curve.heldout_steps):
            style |= {"lw": 0.6 * width, "ls": ":", "marker": "o"}
            axes.plot(curve.heldout_steps, curve.heldout_losses, label=f"{name}, held-out", **style)
    values = np.concatenate([np.concatenate([curve.losses, curve.heldout_losses]) for curve in curves.values()])
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() > 0 and finite.max() > 20 * finite.min():
        axes.set_yscale("log")
        steps = (1.0, 2.0, 5.0) if finite.max() < 2000 * finite.min() else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(subs=steps))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.set_xlabel(x_label, fontsize=_LABEL)
    axes.set_ylabel("loss", fontsize=_LABEL)
    if axes.get_lines():
        axes.legend(frameon=False, fontsize=_LABEL, handlelength=2.6)
    return figure


def latent_scatter(
    codes: Mapping[str, Float[np.ndarray, "N L"]],
    colour: Shaped[np.ndarray, " N"] | None,
    colour_name: str,
    discrete: bool,
    names: Sequence[str] = (),
) -> Figure:
    """Draw each entry's latent codes in a panel of its own, all panels with the same limits.

    Two latent numbers are drawn as they are; one is drawn against ``colour``, or the sample's index without it; of
    more, the first two principal components of the first entry's codes are shown, in every panel the same projection.
    ``discrete`` colours get a legend, or a colour bar over their order when there are more than 21; others a colour
    bar. ``names`` are what the integers of discrete colours mean, that of 0 first; none where they name themselves.
    """
    points, x_label, y_label = _in_the_plane(codes, colour, colour_name)
    columns = min(3, len(points))
    rows = math.ceil(len(points) / columns)
    figure = _figure(0.9 + 4.4 * columns, 0.5 + 4.1 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in panels[len(points) :]:
        axes.set_axis_off()

    classes, order = (None, None) if colour is None or not discrete else np.unique(colour, return_inverse=True)
    if classes is not None and len(classes) > MAX_CLASSES:
        classes, colour, colour_name = None, order, f"{colour_name} (in order)"
    for axes, (name, xy) in zip(panels, points.items(), strict=False):
        _plain(axes).set_title(name, loc="left", fontsize=_TITLE, color=_INK)
        style: dict[str, Any] = {"s": float(np.clip(15_000 / len(xy), 5, 28)), "lw": 0, "alpha": 0.75}
        if colour is None:
            axes.scatter(*xy.T, color=PALETTE[0], **style)
        elif classes is None:
            drawn = axes.scatter(*xy.T, c=colour, cmap="viridis", **style)
        else:
            for i, value in enumerate(classes):
                kind = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i // len(PALETTE)]}
                axes.scatter(*xy[order == i].T, label=_named(value, names), **kind, **style)
    figure.supxlabel(x_label, fontsize=_LABEL, color=_INK)
    figure.supylabel(y_label, fontsize=_LABEL, color=_INK)
    if next(iter(codes.values())).shape[1] == 1:
        # The vertical axis says already what the colours mean.
        if classes is not None:
            panels[0].set_yticks(_as_numbers(classes), [_named(value, names) for value in classes])
    elif classes is not None:
        _legend(figure, panels[0], colour_name)
    elif colour is not None:
        bar = figure.colorbar(drawn, ax=list(panels), fraction=0.04, pad=0.02)
        bar.solids.set_alpha(1)  # type: ignore[union-attr]
        bar.set_label(colour_name, fontsize=_LABEL, color=_INK)
        bar.ax.tick_params(labelsize=_TICK, colors=_MUTED)
        bar.ax.spines[:].set_visible(False)
    return figure


def _named(value: Any, names: Sequence[str]) -> str:
    return names[value] if names and 0 <= value < len(names) else str(value)


def _legend(figure: Figure, panel: Axes, title: str) -> None:
    handles, labels = panel.get_legend_handles_labels()
    legend = figure.legend(
        handles,
        labels,
        title=title,
        loc="outside right upper",
        frameon=False,
        fontsize=_TICK,
        title_fontsize=_LABEL,
        handletextpad=0.2,
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set(sizes=[50], alpha=1)


def _in_the_plane(
    codes: Mapping[str, Float[np.ndarray, "N L"]], colour: Shaped[np.ndarray, " N"] | None, colour_name: str
) -> tuple[dict[str, Num[np.ndarray, "N 2"]], str, str]:
    first, latents = next(iter(codes.items()))
    count, width = latents.shape
    if width == 1:
        height = np.arange(count) if colour is None else _as_numbers(colour)
        points = {name: np.column_stack([z[:, 0], height]) for name, z in codes.items()}
        return points, "the one latent number", "sample" if colour is None else colour_name
    if width == 2:
        return dict(codes), "latent 1", "latent 2"
    # a diverged run has codes that are not finite; its figure should still show the others
    mean, directions, explained = principal_axes(latents)
    of = f"of {first}, " if len(codes) > 1 else "of the codes, "
    x, y = (f"PCA axis {i + 1} {of}{share:.0%} of variance" for i, share in enumerate(explained))
    return {name: (z - mean) @ directions.T for name, z in codes.items()}, x, y


def _as_numbers(values: Shaped[np.ndarray, " N"]) -> Num[np.ndarray, " N"]:
    return values if values.dtype.kind in "biuf" else np.unique(values, return_inverse=True)[1]


def throughput(images_per_second: Mapping[str, float | None]) -> Figure:
    """Draw one bar for each entry, in images per second; an entry of None is said to be not measured."""
    figure = _figure(8.0, 0.9 + 0.55 * len(images_per_second))
    axes = _plain(figure.add_subplot())
    top = max((rate for rate in images_per_second.values() if rate is not None), default=0.0) or 1.0
    for i, (name, rate) in enumerate(images_per_second.items()):
        axes.barh(name, rate or 0.0, height=0.62, color=PALETTE[i % len(PALETTE)])
        text, ink = (
            ("not measured", _MUTED) if rate is None else (f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}", _INK)
        )
        axes.text((rate or 0.0) + 0.01 * top, i, text, va="center", fontsize=_LABEL, color=ink)
    # Room for the number behind the longest bar.
    axes.set_xlim(0, 1.15 * top)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xlabel("images per second", fontsize=_LABEL)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.tick_params(axis="y", length=0, labelsize=_LABEL, labelcolor=_INK)
    if not any(images_per_second.values()):
        axes.set_xticks([])
    return figure


def to_png(figure: Figure) -> bytes:
    """Return the figure as PNG at 120 dots per inch; equal figures give equal bytes."""
    buffer = io.BytesIO()
    # Matplotlib would name its version in the file.
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def save_figure(path: Path, figure: Figure) -> None:
    """Write the figure as PNG, atomically, at 120 dots per inch.

    Raises:
        OutputError: the path cannot be written.
    """
    write_bytes(path, to_png(figure))


def _figure(width: float, height: float) -> Figure:
    # The default leaves labels almost touching the edge.
    return Figure((width, height), facecolor="white", layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))


def _plain(axes: Axes) -> Axes:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_RULE)
    axes.tick_params(labelsize=_TICK, color=_RULE, labelcolor=_MUTED)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    axes.grid(color="#eeeeee", lw=0.8)
    axes.set_axisbelow(True)
    return axes
