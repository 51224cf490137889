"""What a report says, in words and rows: for the terminal, and for its HTML in html.py."""

import math
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

TWINS = {"jax": "JAX", "torch": "PyTorch"}
REFERENCE = "torch"
MISSING = "—"


def passed(report: dict[str, Any]) -> bool:
    """Return whether the report proves the twins equal: its verdict is "pass", and every one of its checks passed."""
    return report["verdict"] == "pass" and bool(report["parity"]) and all(c["passed"] for c in report["parity"])


def strain(check: dict[str, Any]) -> float:
    """Return how much of its limit a check has used; above 1, or infinite where the error is not a number, it failed.

    JSON has no NaN, so an error that is not finite arrives as None.
    """
    worst = _number(check["worst"])
    if not math.isfinite(worst):
        return math.inf
    return 0.0 if worst == 0 else worst / check["limit"] if check["limit"] else math.inf


def verdict(report: dict[str, Any]) -> str:
    """Return the result of the report as one sentence.

    A proof that failed names the check that is furthest off, a run that failed its message; of a report that passed,
    what else failed is named.
    """
    checks = report["parity"]
    if not checks:
        return "Nothing is proven: no check was run"
    failed = [check for check in checks if not check["passed"]]
    if failed:
        worst = max(failed, key=strain)
        many = f"{len(failed):,} of {len(checks):,} checks failed" if len(checks) > 1 else "the only check failed"
        return (
            f"The twins are not the same model: {many}, worst {worst['name']}: "
            f"{scientific(worst['worst'])}, limit {scientific(worst['limit'])}"
        )
    worst = max(checks, key=strain)
    count = f"{len(checks):,} check{'s' if len(checks) > 1 else ''}"
    numbers = f"{count}, worst {scientific(worst['worst'])} of limit {scientific(worst['limit'])}"
    if not passed(report):
        message = report.get("message")
        return f"The run failed, although the twins agree: {numbers}{'; ' if message else ''}{message or ''}"
    lost = ", ".join(what for what, _ in failures(report))
    return f"The twins are the same model: {numbers}{f'; what failed beside it: {lost}' if lost else ''}"


def failures(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what failed beside proof and training, such as a picture, with the reason."""
    return [(str(failure["what"]), str(failure["why"])) for failure in report.get("failed") or []]


def summary_rows(report: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Return the summary as rows of (quantity, one cell for each twin), the twins in the order of the first row.

    A report that did not pass gets no rows: models that differ cannot be raced, so no speed of theirs is shown.
    """
    training = report.get("training") or {}
    if not training or not passed(report):
        return []
    twins = {key: training[key] for key in [*TWINS, *(training.keys() - TWINS.keys())] if key in training}
    reference = _number((training.get(REFERENCE) or {}).get("images_per_second"))

    def row(label: str, value: Any) -> tuple[str, list[str]]:
        return label, [value(twin) for twin in twins.values()]

    return [
        ("twin", [TWINS.get(key, key) for key in twins]),
        row("held-out loss", lambda twin: _significant(twin.get("heldout_loss"))),
        row("held-out MSE", lambda twin: _significant(twin.get("heldout_mse"))),
        row("MSE of PCA", lambda twin: _significant(twin.get("pca_mse"))),
        row("MSE relative to PCA", lambda twin: _ratio(twin.get("heldout_mse"), twin.get("pca_mse"))),
        row("images per second", lambda twin: _rate(twin.get("images_per_second"))),
        row(f"speed relative to {TWINS[REFERENCE]}", lambda twin: _ratio(twin.get("images_per_second"), reference)),
        row("training, seconds", lambda twin: _format(twin.get("seconds"), ",.1f")),
        row("variant", lambda twin: str(twin.get("variant") or MISSING)),
    ]


def summary(report: dict[str, Any]) -> Group:
    """Return the verdict and the summary for a terminal of 80 columns or more."""
    good = passed(report)
    parts: list[Text | Table] = [
        Text.assemble(("PASS  " if good else "FAIL  ", "bold green" if good else "bold red"), verdict(report))
    ]
    rows = summary_rows(report)
    if rows:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column(Text(rows[0][0]), style="dim", no_wrap=True)
        for name in rows[0][1]:
            table.add_column(Text(name), justify="right", overflow="fold")
        for label, cells in rows[1:]:
            table.add_row(Text(label), *(Text(cell) for cell in cells))
        parts += [Text(), table]
    parts += [Text.assemble(("FAILED  ", "bold red"), f"{what}: {why}") for what, why in failures(report)]
    return Group(*parts)


def scientific(value: Any) -> str:
    """Return an error with two digits, such as 3.1e-15; 0 where it is exactly zero."""
    return "0" if value == 0 else _format(value, ".1e", missing="not finite")


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _format(value: Any, form: str, missing: str = MISSING) -> str:
    number = _number(value)
    return format(number, form) if math.isfinite(number) else missing


def _significant(value: Any) -> str:
    return _format(value, ".6g")


def _rate(value: Any) -> str:
    return _format(value, ",.0f" if _number(value) >= 100 else ".3g", missing="not measured")


def _ratio(value: Any, base: Any) -> str:
    number, base = _number(value), _number(base)
    return f"{number / base:.2f} ×" if base > 0 and math.isfinite(number) else MISSING
