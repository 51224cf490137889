"""Figures of a race: ratios with their intervals, speeds, the roofline, and what steps and starts spend time on."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ae_core.figures.charts import MARKERS, PALETTE
from benchmarks.race.profiles import GROUPS

Result = dict[str, Any]

COLOURS = dict(zip(("jax", "torch", "flax", "keras-jax", "keras-torch", "pythae"), PALETTE, strict=False))
COLOURS |= {f"pair-{side}": COLOURS[side] for side in ("jax", "torch")}
SIDES = tuple(COLOURS)
STAGES = ("import", "trace", "lower", "compile", "other")
_SIZE = 10


def plots(result: Result) -> dict[str, Figure]:
    """Return the figures for which there are results, by caption."""
    made: dict[str, Figure] = {}
    rows = [row for row in result["rows"] if row["images_per_second"] is not None]
    if result["ratios"]:
        made["Our JAX over our PyTorch: the best variants and the defaults, with 95 % intervals"] = _ratios(result)
    if rows:
        made["Images a second, as a share of the fastest of each workload"] = _speeds(rows)
    counted = [row for row in rows if row["operations"] is not None]
    if counted and result["peak"].get("gflops"):
        made["Roofline: the best of each side under the peaks measured in the same run"] = _roofline(
            counted, result["peak"]
        )
    if any(row.get("shares") for row in rows):
        made["On what a step of the best is spent, as the frameworks' own profilers saw it"] = _spent(rows)
    if any(row.get("cold") for row in rows):
        made["Time to the first step from an empty cache, in seconds"] = _starts(rows)
    return made


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure((width, height), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eeeeee", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=_SIZE)
    return figure, axes


def _ratios(result: Result) -> Figure:
    ratios = result["ratios"]
    figure, axes = _axes(8.5, 1.2 + 0.45 * len(ratios))
    kinds = (
        ("ratio_best", "ci", "best against best", 0),
        ("ratio_default", "ci_default", "default against default", 1),
    )
    for value, bounds, label, i in kinds:
        found = [(y, r[value], r[bounds]) for y, r in enumerate(ratios) if r[value] is not None]
        if not found:
            continue
        y, middle = np.array([f[0] for f in found]) + 0.18 * (2 * i - 1), np.array([f[1] for f in found])
        reach = np.abs(np.array([f[2] for f in found]).T - middle)
        axes.errorbar(middle, y, xerr=reach, fmt=MARKERS[i], color=PALETTE[i], label=label, capsize=3, lw=1.5, ms=6)
    axes.axvline(1, color="#222222", lw=1)
    axes.set_yticks(range(len(ratios)), [r["workload"] for r in ratios])
    axes.set_ylim(len(ratios) - 0.5, -0.5)
    axes.set_xlabel("times as fast", fontsize=_SIZE)
    axes.legend(frameon=False, fontsize=_SIZE, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def _speeds(rows: list[Result]) -> Figure:
    workloads = list(dict.fromkeys(row["workload"] for row in rows))
    best = {(r["workload"], r["side"]): r["images_per_second"] for r in rows if r["best"]}
    sides = [side for side in SIDES if any(key[1] == side for key in best)]
    figure, axes = _axes(8.5, 1.2 + 0.55 * len(workloads))
    height = 0.8 / len(sides)
    for i, side in enumerate(sides):
        for y, workload in enumerate(workloads):
            rate = best.get((workload, side))
            if rate is None:
                continue
            share = rate / max(best[key] for key in best if key[0] == workload)
            at = y + (i - (len(sides) - 1) / 2) * height
            label = next(r["label"] for r in rows if r["side"] == side) if y == _first(workloads, best, side) else None
            axes.barh(at, share, height=0.9 * height, color=COLOURS[side], label=label)
            text = f" {rate:,.0f}" if rate >= 100 else f" {rate:.3g}"
            axes.text(share, at, text, va="center", fontsize=7)
    axes.set_yticks(range(len(workloads)), workloads)
    axes.set_ylim(len(workloads) - 0.5, -0.5)
    axes.set_xlim(0, 1.15)
    axes.set_xlabel("share of the fastest; the number is images a second", fontsize=_SIZE)
    axes.legend(frameon=False, fontsize=_SIZE, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return figure


def _first(workloads: list[str], best: dict[tuple[str, str], float], side: str) -> int:
    return min(y for y, workload in enumerate(workloads) if (workload, side) in best)


def _roofline(rows: list[Result], peak: Result) -> Figure:
    best = [row for row in rows if row["best"]]
    figure, axes = _axes(8.5, 5.2)
    intensity = [row["operations"] / row["bytes"] for row in best]
    x = np.geomspace(min(*intensity, 1) / 2, 2 * max(*intensity, 100), 200)
    axes.plot(x, np.minimum(peak["gflops"], x * peak["gbytes"]), color="#222222", lw=1.5)
    axes.text(x[-1], peak["gflops"], f"{peak['gflops']:.0f} GFLOP/s", ha="right", va="bottom", fontsize=_SIZE)
    for i, side in enumerate(dict.fromkeys(row["side"] for row in best)):
        of = [(row["operations"] / row["bytes"], row["gflops"], row["label"]) for row in best if row["side"] == side]
        style: dict[str, Any] = {"color": COLOURS.get(side, PALETTE[-1]), "marker": MARKERS[i % len(MARKERS)], "s": 40}
        axes.scatter([p[0] for p in of], [p[1] for p in of], label=of[0][2], **style)
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("operations a byte that has to be moved", fontsize=_SIZE)
    axes.set_ylabel("GFLOP/s", fontsize=_SIZE)
    axes.legend(frameon=False, fontsize=_SIZE)
    return figure


def _spent(rows: list[Result]) -> Figure:
    shown = [row for row in rows if row.get("shares") and row["best"]]
    return _bars(shown, [*GROUPS, "rest"], lambda row, group: 100 * float(row["shares"][group]), "% of a step")


def _starts(rows: list[Result]) -> Figure:
    shown = [row for row in rows if row.get("cold") and row["best"]]
    return _bars(shown, STAGES, lambda row, stage: _stage(row["cold"], stage), "seconds")


def _bars(rows: list[Result], parts: Sequence[str], size: Callable[[Result, str], float], unit: str) -> Figure:
    figure, axes = _axes(8.5, 1.2 + 0.3 * len(rows))
    left = np.zeros(len(rows))
    for i, part in enumerate(parts):
        width = np.array([size(row, part) for row in rows])
        axes.barh(range(len(rows)), width, left=left, color=PALETTE[i], label=part, height=0.7)
        left += width
    axes.set_yticks(range(len(rows)), [f"{row['workload']}: {row['label']}, {row['variant']}" for row in rows])
    axes.tick_params(axis="y", labelsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(unit, fontsize=_SIZE)
    axes.legend(frameon=False, fontsize=_SIZE, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(parts))
    return figure


def _stage(cold: dict[str, float], stage: str) -> float:
    known = sum(cold.get(name, 0.0) for name in ("trace", "lower", "compile"))
    if stage == "other":
        return max(0.0, cold.get("build", 0.0) + cold.get("first", 0.0) - known)
    return cold.get(stage, 0.0)
