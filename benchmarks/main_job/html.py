"""The report of the main job as one web page."""

import math
from collections.abc import Mapping
from typing import Any

from ae_core.figures.html import details, figure, links, numbers, pairs, report_html, row, section, table
from benchmarks.main_job.table import failures, passed, scientific, strain, summary_rows, verdict


def render(report: dict[str, Any], figures: Mapping[str, bytes], beside: Mapping[str, str] | None = None) -> str:
    """Return the report as one HTML page; ``figures`` are PNG files by caption.

    A report that did not pass shows no throughput; figures are shown as given. ``beside`` are files beside the page, by
    what they are.
    """
    sections = [
        section("Summary", _summary(report)),
        section("What failed", _failures(report)),
        section("Figures", "".join(figure(caption, png) for caption, png in figures.items())),
        section("Beside this page", links(beside or {})),
        section("Parity", _parity(report["parity"])),
        section("Data", pairs(report["data"])),
        section("Model", details("Spec", report["spec"])),
        section("Environment", pairs(report["environment"])),
    ]
    footer = str(report["schema"])
    return report_html("Twin autoencoders", _lead(report["data"]), passed(report), verdict(report), sections, footer)


def _lead(data: Mapping[str, Any]) -> str:
    counts = [
        f"{data[key]:,} {word}" for key, word in (("train", "training"), ("heldout", "held-out")) if data.get(key)
    ]
    images = f", {' and '.join(counts)} images" if counts else ""
    return f"One model, written in JAX and in PyTorch, on {data.get('name', 'unnamed data')}{images}."


def _summary(report: dict[str, Any]) -> str:
    rows = summary_rows(report)
    if not rows:
        return ""
    return table("summary", [rows[0][0].capitalize(), *rows[0][1]], (row(label, cells) for label, cells in rows[1:]))


def _failures(report: dict[str, Any]) -> str:
    rows = [row(what, [why]) for what, why in failures(report)]
    return table("pairs", [], rows) if rows else ""


def _parity(checks: list[dict[str, Any]]) -> str:
    note = "Worst is the largest error of a check; margin is its limit divided by it."
    rows = []
    for check in checks:
        cells = [scientific(check["worst"]), scientific(check["limit"]), _margin(check)]
        rows.append((str(check["name"]), [*cells, "pass" if check["passed"] else "FAIL"], bool(check["passed"])))
    return numbers("parity", note, "Check", ["Worst", "Limit", "Margin", "Result"], rows)


def _margin(check: dict[str, Any]) -> str:
    used = strain(check)
    if used == 0:
        return "exact"
    if math.isinf(used):
        return "none"
    return f"{1 / used:,.0f} ×" if used <= 0.1 else f"{1 / used:.2g} ×"
