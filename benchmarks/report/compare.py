"""Two races side by side: what changed by more than the spread of equals."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from ae_core.errors import DataError, SpecError
from ae_core.spec import spec_from_json
from benchmarks.report.analysis import SCHEMA

Result = dict[str, Any]


@dataclass(frozen=True)
class Compare:
    """Say what changed from an old race to a new one beyond noise; the exit status is 1 if anything is worse."""

    old: tyro.conf.Positional[Path]
    """Folder or race.json of the old race."""
    new: tyro.conf.Positional[Path]
    """Folder or race.json of the new race."""


@dataclass(frozen=True)
class Change:
    """A quantity in both races."""

    what: str
    old: float | None
    new: float | None
    verdict: str
    """better, worse, same, gone, new, or another model."""


def run_compare(options: Compare) -> int:
    """Print the changes and return 1 if anything is worse, else 0.

    Raises:
        DataError: one of the races cannot be read.
    """
    old, new = read_result(options.old), read_result(options.new)
    found = changes(old, new)
    console = Console(markup=False, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, side in (("quantity", "left"), ("old", "right"), ("new", "right"), ("", "left")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for change in found:
        table.add_row(change.what, _shown(change.old), _shown(change.new), change.verdict)
    console.print(table)
    worse = [change.what for change in found if change.verdict in ("worse", "gone")]
    console.print(f"worse: {', '.join(worse)}" if worse else "nothing is worse")
    return 1 if worse else 0


def read_result(path: Path) -> Result:
    """Read the results of a race from its folder or file.

    Raises:
        DataError: the file cannot be read, or does not hold the results of a race.
    """
    path = path / "race.json" if path.is_dir() else path
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        result = None
    if not isinstance(result, dict) or result.get("schema") != SCHEMA:
        raise DataError(f"{path}: not the results of a race; expected a folder that `race --out` left")
    return result


def changes(old: Result, new: Result) -> list[Change]:
    """Compare ratios always, and speeds where both races ran on the same kind of machine with the same versions.

    Ratios may well differ between machines, but they are what is claimed. A quantity has changed when its intervals are
    apart by more than the spread of equals in either race. A workload whose model is another one now is not compared.
    """
    others = _other_models(old, new)
    found = [Change(f"{name}: model", None, None, "another model") for name in others]
    old, new = _without(old, others), _without(new, others)
    raced, spreads = {workload["name"] for workload in new["workloads"]}, (_spreads(old), _spreads(new))
    for name in ("ratio_best", "ratio_default"):
        bounds = {"ratio_best": "ci", "ratio_default": "ci_default"}[name]
        one, two = ({r["workload"]: (r[name], r[bounds]) for r in race["ratios"]} for race in (old, new))
        found += _compared(f"{name.replace('_', ', ')}", one, two, raced, spreads)
    if _machine(old) == _machine(new):
        one, two = (
            {
                f"{r['workload']}, {r['label']}, {r['variant']}": (r["images_per_second"], r.get("ci"))
                for r in race["rows"]
                if r["side"] in ("jax", "pair-jax")
            }
            for race in (old, new)
        )
        found += _compared("images a second", one, two, raced, spreads)
    return found


def _other_models(old: Result, new: Result) -> list[str]:
    """Return the names of the workloads that stand for one model in the old race, and for another in the new one."""
    one, two = ({workload["name"]: workload for workload in race["workloads"]} for race in (old, new))
    return [name for name in one if name in two and _model(one[name]) != _model(two[name])]


def _model(workload: Result) -> Any:
    """Return a workload's spec, with today's defaults for what its record lacks; of a pair the digest of its file."""
    if "pair" in workload:
        return workload.get("digest")
    try:
        return spec_from_json(workload.get("spec"))
    except SpecError:
        return workload.get("spec")  # of a component that is not known here


def _without(race: Result, names: list[str]) -> Result:
    kept = {kind: [row for row in race[kind] if row["workload"] not in names] for kind in ("ratios", "rows")}
    return {**race, **kept, "workloads": [w for w in race["workloads"] if w["name"] not in names]}


def _compared(
    what: str, old: Result, new: Result, raced: set[str], spreads: tuple[dict[str, float], ...]
) -> list[Change]:
    found = []
    for name in [*old, *(n for n in new if n not in old)]:
        (was, before), (now, after) = old.get(name, (None, None)), new.get(name, (None, None))
        if was is None and now is None:
            continue
        if now is None and name.partition(",")[0] not in raced:
            continue  # another choice of workloads is no regression
        if now is None:
            verdict = "gone"
        elif was is None:
            verdict = "new"
        else:
            spread = max(s.get(name.partition(",")[0], float("inf")) for s in spreads)
            verdict = "same"
            if after[0] > before[1] * (1 + spread):
                verdict = "better"
            elif after[1] * (1 + spread) < before[0]:
                verdict = "worse"
        found.append(Change(f"{name}: {what}", was, now, verdict))
    return found


def _spreads(race: Result) -> dict[str, float]:
    """Return the spread of equals at each workload, infinite where equals were not raced."""
    return {r["workload"]: float("inf") if r["noise"] is None else r["noise"] for r in race["ratios"]}


def _machine(race: Result) -> Result:
    return {
        key: value for key, value in race["environment"].items() if key not in ("date", "twin-autoencoders", "commit")
    }


def _shown(value: float | None) -> str:
    return "—" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
