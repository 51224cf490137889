"""Where a step's time goes: the operations that a framework's own profiler saw, in a few groups.

A profiler slows down what it sees, so only shares of the time are used, and no speed is measured here.
"""

import gzip
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from benchmarks.race.sides import Framework

GROUPS = ("products", "elementwise", "copies", "all-reduce")
"""Matrix products and convolutions; elementwise work, with the optimiser and reductions; copies in memory; sums over
devices, with the wait for them."""

_PRODUCTS = {"addmm", "baddbmm", "bmm", "convolution", "convolutionbackward", "dot", "linear", "matmul", "mm", "ynn"}
_CONTAINERS = re.compile(r"^(?:while|call|conditional)\b")
_ALL_REDUCE = re.compile(r"all-reduce|psum|all_reduce")
_NO_WORK = {"", "fusion", "wrapped", "aten"}
_MOVES = {
    *("bitcast", "broadcast", "cat", "clone", "concatenate", "contiguous", "copy", "fill", "gather", "index", "pad"),
    *("reshape", "reverse", "select-and-pad", "slice", "stack", "to", "transpose", "zero", "dynamic-slice"),
    "dynamic-update-slice",
}


class Event(NamedTuple):
    """One run of an operation."""

    name: str
    lane: str
    """Device that ran it."""
    milliseconds: float


def group_of(operation: str) -> str | None:
    """Return the group of an operation by its name in XLA or ATen; None if it only contains others."""
    name = operation.lower()
    if _CONTAINERS.search(name):
        return None
    if _ALL_REDUCE.search(name):
        return "all-reduce"
    words = set(re.split(r"[_:.\d\s]+", name)) - _NO_WORK
    if words & _PRODUCTS:
        return "products"
    return "copies" if words and words <= _MOVES else "elementwise"


def shares_of(events: Iterable[Event], wall: float) -> dict[str, float]:
    """Return each group's share of ``wall`` milliseconds, averaged over devices, and the idle ``rest``.

    Operations that run at the same time on one device may add up to more than ``wall``: then there is no rest, and the
    shares are of their sum.
    """
    lanes: set[str] = set()
    sums = dict.fromkeys(GROUPS, 0.0)
    for event in events:
        group = group_of(event.name)
        if group is not None:
            lanes.add(event.lane)
            sums[group] += event.milliseconds
    whole = max(wall * max(len(lanes), 1), sum(sums.values()))
    shares = {group: value / whole for group, value in sums.items()}
    return shares | {"rest": max(0.0, 1 - sum(shares.values()))}


def profile(framework: Framework, work: Callable[[], object]) -> dict[str, float]:
    """Run ``work`` under the framework's profiler and return shares by group; see `shares_of`."""
    events, wall = (_jax if framework == "jax" else _torch)(work)
    return shares_of(events, wall)


def _jax(work: Callable[[], object]) -> tuple[list[Event], float]:
    import jax

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, create_perfetto_trace=True, profiler_options=options):
            wall = _wall(work)
        (file,) = Path(folder).rglob("perfetto_trace.json.gz")
        seen = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    return [
        Event(event["name"], str(event["args"].get("device_ordinal", 0)), event["dur"] / 1e3)
        for event in seen
        if event.get("ph") == "X" and "hlo_op" in event.get("args", {})
    ], wall


def _torch(work: Callable[[], object]) -> tuple[list[Event], float]:
    import torch.profiler

    with torch.profiler.profile() as seen:
        wall = _wall(work)
    # an operation's calls are events of their own, so only its self time counts; the profiler sees no other threads
    return [Event(e.key, "0", e.self_cpu_time_total / 1e3) for e in seen.key_averages()], wall


def _wall(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - began)
