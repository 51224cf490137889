"""From the records of a race to its results, as a pure function: the same records give the same results."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ae_core.spec import Spec, spec_from_json
from benchmarks.race.flops import bytes_moved, operations
from benchmarks.race.journal import Record
from benchmarks.race.load import RECORD
from benchmarks.race.sides import SIDES
from benchmarks.race.stats import Estimate, beyond, median_of, ratio_of, spread_of
from benchmarks.report.targets import judge

SCHEMA = "twin-autoencoders/race/1"

Key = tuple[str, str, int]
"""Side, variant, copy."""


def analyse(records: list[Record]) -> dict[str, Any]:
    """Return the results of a race, as race.json holds them.

    They are the race's options, environment and workloads; ``ratios`` between the twins, and of ours to ``peers``;
    ``rows``, one for each variant of each side; the gain of a loop inside a dispatch; times to quality; the load of
    other processes; and what the targets came to, which are about the published workloads alone.
    """
    first = {kind: next((r for r in records if r["kind"] == kind), {}) for kind in ("options", "environment")}
    first["peak"] = _peak([record for record in records if record["kind"] == "peak"])
    workloads = [record for record in records if record["kind"] == "workload"]
    parts = [_WorkloadRecords(workload, records, first["peak"]) for workload in workloads]
    result: dict[str, Any] = {
        "schema": SCHEMA,
        **{kind: _body(record) for kind, record in first.items()},
        "workloads": [_body(workload) for workload in workloads],
        "ratios": [ratio for part in parts if (ratio := part.ratio()) is not None],
        "peers": [row for part in parts for row in part.peers()],
        "rows": [row for part in parts for row in part.rows()],
        "inside_loop": [row for part in parts for row in part.inside_loop()],
        "quality": [row for part in parts for row in part.quality()],
    }
    shares = [record["share"] for record in records if record["kind"] == RECORD and record["share"] is not None]
    result[RECORD] = max(shares, default=None)
    result["targets"] = judge(result) if model_of(result) is None else []
    return result


def model_of(result: dict[str, Any]) -> str | None:
    """Return the model that a user brought to a race, as the options named it; None where the published ones raced."""
    options = result["options"]
    return next((options[name] for name in ("preset", "spec", "pair") if options.get(name) is not None), None)


def _peak(measured: list[Record]) -> Record:
    """Return the best of each rate that was measured."""
    return {name: max(record[name] for record in measured) for name in ("gflops", "gbytes") if measured}


def _body(record: Record) -> Record:
    return {key: value for key, value in record.items() if key != "kind"}


def _geometry(spec: Record) -> Spec:
    """Return the part of a recorded spec on which the work of a step depends, with defaults for all others."""
    return spec_from_json({name: spec[name] for name in ("input_shape", "backbone", "bottleneck")})


class _WorkloadRecords:
    """The records of one workload."""

    def __init__(self, workload: Record, records: list[Record], peak: Record) -> None:
        self.workload, self.peak = workload, peak
        self.records = [r for r in records if r.get("workload") == workload["name"] and "side" in r]
        self.images = workload["batch"] * workload["models"]
        self.twins = ("pair-jax", "pair-torch") if "pair" in workload else ("jax", "torch")
        self.failed = {_key(r): r["reason"] for r in self.of("failure") if not r["reason"].startswith("alone")}

    def of(self, kind: str, **wanted: Any) -> list[Record]:
        return [r for r in self.records if r["kind"] == kind and all(r.get(k) == v for k, v in wanted.items())]

    def samples(self, key: Key, stage: str) -> dict[int, float]:
        """Return seconds of a step by round; nothing for an entry that failed at any time."""
        if key in self.failed:
            return {}
        return {r["round"]: r["seconds"] / r["steps"] for r in self.of("block", stage=stage) if _key(r) == key}

    def judged(self, key: Key) -> list[float]:
        """Return seconds of a step in the final; for an entry that was not in the final, in the screening."""
        return list((self.samples(key, "final") or self.samples(key, "screening")).values())

    def keys(self) -> list[Key]:
        return list(dict.fromkeys(_key(r) for r in self.records if r["kind"] in ("start", "failure", "block")))

    def best(self, side: str, stage: str = "screening") -> Key | None:
        """Return a side's fastest variant in the screening, whose rounds do not count in the final."""
        found = {key: self.samples(key, stage) for key in self.keys() if key[0] == side and not key[2]}
        racing = {key: float(np.median(list(samples.values()))) for key, samples in found.items() if samples}
        return min(racing, key=racing.__getitem__) if racing else None

    def faster(self, ours: Key | None, theirs: Key | None, stage: str = "final") -> Estimate | None:
        """Return how many times as fast ours is as theirs, paired by round, over all processes of either."""
        if ours is None or theirs is None:
            return None
        one, two = ([s for k in _copies(key) if (s := self.samples(k, stage))] for key in (ours, theirs))
        rounds = sorted(set.intersection(*(set(samples) for samples in (*one, *two)))) if one and two else []
        if not rounds:
            return None
        slow, fast = (np.array([[samples[i] for i in rounds] for samples in side]) for side in (two, one))
        return ratio_of(slow, fast)

    def equals(self) -> dict[str, list[float]]:
        """Return, by twin, the ratio of the best variant to its copy in the final, with its interval."""
        found = {}
        for side in self.twins:
            best = self.best(side)
            first, second = (self.samples(key, "final") for key in _copies(best)) if best else ({}, {})
            rounds = sorted(first.keys() & second.keys())
            if rounds:
                pairs = np.array([[second[i], first[i]] for i in rounds])
                found[side] = list(ratio_of(pairs[:, 0], pairs[:, 1]))
        return found

    def ratio(self) -> dict[str, Any] | None:
        """Return our JAX against our PyTorch, or a pair's, best against best and default against default."""
        ours, theirs = map(self.best, self.twins)
        if self.workload["phase"] == "quality" or ours is None or theirs is None:
            return None
        best = self.faster(ours, theirs)
        if best is None:
            return None
        first, second = (_default(side, self.keys()) for side in self.twins)
        default = self.faster(first, second)
        equals = self.equals()
        spread = spread_of([Estimate(*values) for values in equals.values()])
        return {
            "workload": self.workload["name"],
            "phase": self.workload["phase"],
            "batch": self.workload["batch"],
            "ratio_best": best.value,
            "ci": [best.low, best.high],
            "ratio_default": default.value if default else None,
            "ci_default": [default.low, default.high] if default else None,
            "best_jax": ours[1],
            "best_torch": theirs[1],
            "a_a": equals,
            "noise": spread,  # as a measurement has noise; in code the word is a model's
            "beyond_noise": beyond(best, spread),
        }

    def peers(self) -> list[dict[str, Any]]:
        """Return our best JAX against the best of each peer: by the final, or by the screening if it was far behind."""
        ours = self.best("jax")
        rows = []
        for side in SIDES:
            theirs = self.best(side) if side not in self.twins else None
            ratio = self.faster(ours, theirs) or self.faster(ours, theirs, "screening")
            if ratio is not None:
                named = {"workload": self.workload["name"], "side": side, "label": SIDES[side].label}
                rows.append({**named, "ratio": ratio.value, "ci": [ratio.low, ratio.high]})
        return rows

    def inside_loop(self) -> list[dict[str, Any]]:
        """Return how many times as fast our JAX takes steps in a loop inside one dispatch as one by one."""
        ratio = self.faster(("jax", "default", 0), ("jax", "single steps", 0), "screening")
        named = {"workload": self.workload["name"]}
        return [{**named, "ratio": ratio.value, "ci": [ratio.low, ratio.high]}] if ratio else []

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each variant of each side, with its speed or the reason why it has none."""
        if self.workload["phase"] == "quality":
            return []
        return [self.row(key) for key in self.keys() if not key[2]]

    def row(self, key: Key) -> dict[str, Any]:
        side, variant, _ = key
        label = SIDES[side].label if side in SIDES else side
        row: dict[str, Any] = {
            "workload": self.workload["name"],
            "phase": self.workload["phase"],
            "batch": self.workload["batch"],
            "side": side,
            "label": label,
            "variant": variant,
            "best": key == self.best(side),
            "images_per_second": None,
            "reason": self.failed.get(key),
        }
        samples = self.judged(key)
        if not samples:
            return row
        step = median_of(np.array(samples))
        work, moved = self.work()
        rate, peak = None if work is None else work / step.value / 1e9, self.peak.get("gflops")
        row |= {
            "images_per_second": self.images / step.value,
            "ci": [self.images / step.high, self.images / step.low],
            "milliseconds": 1e3 * step.value,
            "gflops": rate,
            "operations": work,
            "bytes": moved,
            "share_of_peak": rate / peak if peak and rate is not None else None,
            "rounds": len(samples),
            "cold": self.stages(key),
            "warm": None,
            "call_milliseconds": self.call(key),
            "break_even_step": self.break_even(key, step.value),
            "distance": next((r["distance"] for r in self.of("start") if _key(r) == key), None),
            "limit": next((r["limit"] for r in self.of("start") if _key(r) == key), None),
        }
        memory = [r for r in self.of("memory") if _key(r) == key]
        if memory:
            row |= {name: memory[0][name] for name in ("peak_bytes", "base_bytes")} | {"warm": memory[0]["stages"]}
            row["temporary_bytes"] = memory[0].get("temporary_bytes")
        profiles = [r for r in self.of("profile") if _key(r) == key]
        if profiles:
            row["shares"] = profiles[0]["shares"]
        return row

    def work(self) -> tuple[int | None, int | None]:
        """Return the operations of a step, and the bytes that it moves; None where the model is not a spec's."""
        if "spec" not in self.workload:
            return None, None
        spec, phase = _geometry(self.workload["spec"]), self.workload["phase"]
        moved = bytes_moved(spec, phase, self.workload["batch"]) * self.workload["models"]
        return operations(spec, phase) * self.images, moved

    def stages(self, key: Key) -> dict[str, float] | None:
        """Return the seconds of each stage of a start with an empty cache."""
        starts = [r for r in self.of("start") if _key(r) == key]
        return starts[0]["stages"] if starts else None

    def call(self, key: Key) -> float | None:
        found = [r["call"] for r in self.of("calibration") if _key(r) == key and r["call"] is not None]
        return 1e3 * found[0] if found else None

    def break_even(self, key: Key, step: float) -> int | None:
        """Return the step from which on an entry is ahead of our PyTorch's default, where both start with empty caches.

        It is the first step k with start + k·step below that of the default; None where there is none, and for the
        default itself.
        """
        default = _default(self.twins[1], self.keys())
        samples = self.judged(default) if default else []
        ours, theirs = self.stages(key), self.stages(default) if default else None
        if key == default or not samples or ours is None or theirs is None:
            return None
        gain, cost = float(np.median(samples)) - step, _start(ours) - _start(theirs)
        return max(1, int(np.ceil(cost / gain))) if gain > 0 else None

    def quality(self) -> list[dict[str, Any]]:
        """Return the time to quality of each variant, and its ratio to our JAX's, paired by seed."""
        rows: list[dict[str, Any]] = []
        if self.workload["phase"] != "quality":
            return rows
        times = {key: {r["seed"]: r for r in self.of("quality") if _key(r) == key} for key in self._qualified()}
        ours = next((found for key, found in times.items() if key[0] == "jax"), {})
        for key, found in times.items():
            good = {seed: r["seconds"] for seed, r in found.items() if r["reached"]}
            row: dict[str, Any] = {
                "workload": self.workload["name"],
                "side": key[0],
                "label": SIDES[key[0]].label,
                "variant": key[1],
                "target": self.workload["target"],
                "seeds": len(found),
                "reached": len(good),
                "seconds": None,
                "steps": [r["steps"] for r in found.values()],
                "reason": self.failed.get(key),
            }
            if good:
                seconds = median_of(np.array(list(good.values())))
                row |= {"seconds": seconds.value, "ci": [seconds.low, seconds.high]}
            both = sorted(good.keys() & {seed for seed, r in ours.items() if r["reached"]})
            if both and key[0] != "jax":
                pairs = np.array([[good[seed], ours[seed]["seconds"]] for seed in both])
                ratio = ratio_of(pairs[:, 0], pairs[:, 1])
                row |= {"ratio": ratio.value, "ratio_ci": [ratio.low, ratio.high]}
            rows.append(row)
        return rows

    def _qualified(self) -> list[Key]:
        return list(dict.fromkeys(_key(r) for r in self.records if r["kind"] in ("quality", "failure")))


def _key(record: Record) -> Key:
    return record["side"], record["variant"], record["copy"]


def _copies(key: Key) -> tuple[Key, Key]:
    side, variant, _ = key
    return (side, variant, 0), (side, variant, 1)


def _default(side: str, keys: Iterable[Key]) -> Key | None:
    """Return the first variant of a side, since grids begin with the default."""
    return next((key for key in keys if key[0] == side and not key[2]), None)


def _start(stages: dict[str, float]) -> float:
    return stages.get("build", 0.0) + stages.get("first", 0.0)
