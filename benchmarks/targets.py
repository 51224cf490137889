"""What the race has to show, in one table."""

from collections.abc import Callable
from typing import Any, NamedTuple

Result = dict[str, Any]


class Target(NamedTuple):
    """One line of the table."""

    what: str
    measure: Callable[[Result], tuple[float | None, list[float] | None]]
    """Returns the number reached and its interval; None where it was not measured."""
    least: float | None = None
    most: float | None = None


def against_best(workload: str) -> Callable[[Result], tuple[float | None, list[float] | None]]:
    """Measure our JAX against the best PyTorch of the grid."""

    def measure(result: Result) -> tuple[float | None, list[float] | None]:
        found = [r for r in result["ratios"] if r["workload"] == workload]
        return (found[0]["ratio_best"], found[0]["ci"]) if found else (None, None)

    return measure


def against(side: str, workload: str) -> Callable[[Result], tuple[float | None, list[float] | None]]:
    """Measure our JAX against another side's best."""

    def measure(result: Result) -> tuple[float | None, list[float] | None]:
        found = [r for r in result["peers"] if (r["workload"], r["side"]) == (workload, side)]
        return (found[0]["ratio"], found[0]["ci"]) if found else (None, None)

    return measure


def _best(result: Result, workload: str, side: str) -> Result:
    rows = [r for r in result["rows"] if (r["workload"], r["side"], r["best"]) == (workload, side, True)]
    return rows[0] if rows else {}


def _quotient(a: float | None, b: float | None) -> tuple[float | None, None]:
    return (a / b if a is not None and b else None), None


def _large_batch(result: Result) -> tuple[float | None, None]:
    large, small = (_best(result, f"foster-ae-{batch}", "jax").get("images_per_second") for batch in (512, 128))
    return _quotient(large, small)


def _memory(result: Result) -> tuple[float | None, None]:
    ours, theirs = (_best(result, "foster-ae-512", side).get("peak_bytes") for side in ("jax", "torch"))
    return _quotient(ours, theirs)


def _share_of_peak(result: Result) -> tuple[float | None, None]:
    return _best(result, "foster-ae-128", "jax").get("share_of_peak"), None


def _inside_scan(result: Result) -> tuple[float | None, None]:
    """Many steps a dispatch against one: the worst of all training workloads."""
    found = []
    for workload in {r["workload"] for r in result["rows"] if r["side"] == "jax" and r["phase"] == "train"}:
        rows = {
            r["variant"]: r["images_per_second"]
            for r in result["rows"]
            if (r["workload"], r["side"]) == (workload, "jax")
        }
        if rows.get("default") and rows.get("single steps"):
            found.append(rows["default"] / rows["single steps"])
    return (min(found) if found else None), None


TARGETS = (
    *(
        Target(f"{model}, training at batch {batch}, against the best PyTorch", against_best(f"{model}-{batch}"), least)
        for model in ("foster-ae", "foster-vae")
        for batch, least in ((32, 1.4), (128, 1.6), (512, 1.4))
    ),
    *(
        Target(f"{model}, training at batch 128, against {label}", against(side, f"{model}-128"), least)
        for model in ("foster-ae", "foster-vae")
        for side, label, least in (("flax", "plain Flax", 15.0), ("pythae", "pythae", 2.5))
    ),
    Target("small dense model, training, against the best PyTorch", against_best("dense-small"), 2.5),
    Target("large dense model, training, against the best PyTorch", against_best("dense-large"), 1.4),
    Target("sixteen dense models at once, against the best PyTorch", against_best("sixteen-dense"), 1.7),
    Target("reconstruct at batch 256, against the best PyTorch", against_best("reconstruct-256"), 1.6),
    Target("reconstruct at batch 1, against the best PyTorch", against_best("reconstruct-1"), 1.15),
    Target("images per second at batch 512 over those at 128", _large_batch, 1.0),
    Target("memory at batch 512 over PyTorch's", _memory, most=1.0),
    Target("training step inside a loop of steps, over the same outside, the worst", _inside_scan, 1.0),
    Target("share of the measured matmul peak, foster-ae at batch 128 (an aim)", _share_of_peak, 0.75),
)


def judge(result: Result) -> list[dict[str, Any]]:
    """Return what each target came to: reached, missed, or not measured."""
    rows = []
    for target in TARGETS:
        value, interval = target.measure(result)
        right = f"at least {target.least:g}" if target.least is not None else f"at most {target.most:g}"
        reached = None
        if value is not None:
            reached = value >= target.least if target.least is not None else value <= (target.most or 0.0)
        rows.append({"target": target.what, "right": right, "value": value, "ci": interval, "reached": reached})
    return rows
