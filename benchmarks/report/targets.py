"""The targets of the race, in one table."""

from collections.abc import Callable
from typing import Any, NamedTuple

Result = dict[str, Any]
Measured = tuple[float | None, list[float] | None]
"""A number and its interval."""


class Target(NamedTuple):
    """A number that the race has to reach."""

    what: str
    measure: Callable[[Result], Measured]
    """Returns the measured number and its interval, None where it was not measured."""
    least: float | None = None
    most: float | None = None
    within: bool = False
    """Whether it is only missed where the whole interval is on the wrong side: a target of being no worse."""
    workload: str | None = None
    """Name of the workload whose speed it is about, None where it is about something else."""


def against_best(workload: str, least: float) -> Callable[[Result], Measured]:
    """Return a measure of our JAX against the best PyTorch of the grid.

    A ratio within the spread of equals may miss the target, but cannot reach it: then it counts as not measured.
    """

    def measure(result: Result) -> Measured:
        found = [r for r in result["ratios"] if r["workload"] == workload]
        if not found or (found[0]["beyond_noise"] == 0 and found[0]["ratio_best"] >= least):
            return None, None
        return found[0]["ratio_best"], found[0]["ci"]

    return measure


def against(side: str, workload: str) -> Callable[[Result], Measured]:
    """Return a measure of our JAX against the best variant of another side."""

    def measure(result: Result) -> Measured:
        found = [r for r in result["peers"] if (r["workload"], r["side"]) == (workload, side)]
        return (found[0]["ratio"], found[0]["ci"]) if found else (None, None)

    return measure


def _best(result: Result, workload: str, side: str) -> Result:
    rows = [r for r in result["rows"] if (r["workload"], r["side"], r["best"]) == (workload, side, True)]
    return rows[0] if rows else {}


def _large_batch(result: Result) -> Measured:
    large, small = (_best(result, f"foster-ae-{batch}", "jax") for batch in (512, 128))
    if not large or not small:
        return None, None
    bounds = [large["ci"][0] / small["ci"][1], large["ci"][1] / small["ci"][0]]
    return large["images_per_second"] / small["images_per_second"], bounds


def _memory(result: Result) -> Measured:
    ours, theirs = (_best(result, "foster-ae-512", side).get("peak_bytes") for side in ("jax", "torch"))
    return (ours / theirs if ours and theirs else None), None


def _share_of_peak(result: Result) -> Measured:
    return _best(result, "foster-ae-128", "jax").get("share_of_peak"), None


def _inside_loop(result: Result) -> Measured:
    """Return the speed of many steps a dispatch over that of one, at the training workload where it is lowest."""
    found = [(row["ratio"], row["ci"]) for row in result["inside_loop"]]
    return min(found, key=lambda pair: pair[0]) if found else (None, None)


def _faster_than_best(what: str, workload: str, least: float) -> Target:
    return Target(f"{what}, against the best PyTorch", against_best(workload, least), least, workload=workload)


TARGETS = (
    *(
        _faster_than_best(f"{model}, training at batch {batch}", f"{model}-{batch}", least)
        for model in ("foster-ae", "foster-vae")
        for batch, least in ((32, 1.4), (128, 1.6), (512, 1.4))
    ),
    *(
        Target(f"{model}, training at batch 128, against {label}", against(side, name), least, workload=name)
        for model, name in (("foster-ae", "foster-ae-128"), ("foster-vae", "foster-vae-128"))
        for side, label, least in (("flax", "plain Flax", 15.0), ("pythae", "pythae", 2.5))
    ),
    _faster_than_best("foster-ae with PyTorch's padding, training at batch 128", "foster-ae-torch-padding", 1.6),
    _faster_than_best("small dense model, training", "dense-small", 2.5),
    _faster_than_best("large dense model, training", "dense-large", 1.4),
    _faster_than_best("sixteen dense models at once", "sixteen-dense", 1.7),
    _faster_than_best("reconstruct at batch 256", "reconstruct-256", 1.6),
    _faster_than_best("reconstruct at batch 1", "reconstruct-1", 1.15),
    Target("images per second at batch 512 over those at 128", _large_batch, 1.0, within=True),
    Target("memory at batch 512 over PyTorch's", _memory, most=1.0),
    Target("a training step inside a loop of steps, over the same outside, at worst", _inside_loop, 1.0, within=True),
    Target(
        "share of the measured matmul peak, foster-ae at batch 128 (an aim)",
        _share_of_peak,
        0.75,
        workload="foster-ae-128",
    ),
)


def judge(result: Result) -> list[dict[str, Any]]:
    """Return the outcome of each target: reached, missed and by what fraction, or not measured.

    ``certain`` says, where there is an interval, whether all of it is on the same side of the target as the value.
    """
    rows = []
    for target in TARGETS:
        value, interval = target.measure(result)
        right = f"at least {target.least:g}" if target.least is not None else f"at most {target.most:g}"
        row: dict[str, Any] = {"target": target.what, "right": right, "value": value, "ci": interval, "reached": None}
        if value is not None:
            judged = interval[1] if target.within and interval else value
            row["reached"] = judged >= target.least if target.least is not None else judged <= (target.most or 0.0)
            if interval and target.least is not None:
                row["certain"] = (interval[0 if row["reached"] else 1] >= target.least) == row["reached"]
            row["short"] = 0.0 if row["reached"] else abs(value / (target.least or target.most or 1.0) - 1)
        ours = _best(result, target.workload, "jax") if target.workload else {}
        if row["reached"] is False and ours and target.least and value:
            # the other side's time is given, so ours would have to be shorter by the factor that the ratio lacks
            row["workload"], row["needed"] = target.workload, ours["milliseconds"] * value / target.least
        rows.append(row)
    return rows
