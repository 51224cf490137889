"""The rounds of one workload: agreement first, then a screening of all variants, then a final of the best.

A side's best variant is chosen by one set of rounds and judged by another, so that a lucky choice is not flattered. In
the final each twin's best runs twice, in two processes: how far they seem apart is the spread of equals.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from benchmarks.race.journal import Journal
from benchmarks.race.load import RECORD, OtherLoad
from benchmarks.race.process import Handle, WorkerError
from benchmarks.race.reference import agreement
from benchmarks.race.sides import SIDES
from benchmarks.race.workloads import Timed, workload_to_json

LEAST_ROUNDS = 5
"""The fewest rounds of a stage."""
START_SECONDS, BLOCK_SECONDS = 900.0, 180.0
"""Time after which a worker is given up while it compiles, or while it takes steps."""
DISAGREES = "does not agree"
WARM_UP = "warm-up"
FAR_BEHIND = 6.0
"""An entry this many times slower than the fastest takes part in `LEAST_ROUNDS` rounds of the screening only."""


class Entry(NamedTuple):
    """A variant of a side in the race. Copy 1 is the same variant in a second process."""

    side: str
    variant: str
    copy: int = 0

    def __str__(self) -> str:
        label = SIDES[self.side].label if self.side in SIDES else self.side
        return f"{label}, {self.variant}{', again' if self.copy else ''}"


class Reference(NamedTuple):
    """What all entries have to agree with; see `benchmarks.race.reference`."""

    runs: np.ndarray
    rounding: float
    own: Mapping[str, np.ndarray] = MappingProxyType({})
    """The runs of sides that have some of their own, such as one that has its outputs in another order."""

    def of(self, side: str) -> np.ndarray:
        """Return what a side has to agree with."""
        return self.own.get(side, self.runs)


Launch = Callable[[Timed, Entry], Handle]


@dataclass
class Rounds:
    """The rounds of one workload, and the entries that take part."""

    workload: Timed
    reference: Reference
    journal: Journal
    launch: Launch
    """Starts a worker."""
    say: Callable[[str], None]
    """Receives what happens, a line at a time."""
    folder: Path
    """Where workers write the numbers that are compared with the reference."""
    number: int
    """Number of rounds in a stage."""
    handles: dict[Entry, Handle] = field(default_factory=dict)
    """Workers of the entries that are still in the race."""
    steps: dict[Entry, int] = field(default_factory=dict)
    """Number of steps in a block of each entry."""
    seconds: dict[Entry, list[float]] = field(default_factory=dict)
    """Seconds of a step of each entry, in each round so far."""

    def run(self, entries: Iterable[Entry]) -> list[Entry]:
        """Race, and return the twins' entries in the final. No worker is left running, whatever happens."""
        try:
            for entry in entries:
                self.enter(entry)
            self.race("screening")
            best = self.best()
            peers = [e for e in best if not self.ours(e) and not self.far_behind(e)]
            twins = [e for e in self.handles if self.ours(e) and (e in best or e in self.defaults())]
            for entry in [e for e in self.handles if e not in (*twins, *peers)]:
                self.handles.pop(entry).close()
            for entry in [e for e in best if self.ours(e)]:
                self.enter(entry._replace(copy=1))
            self.race("final")
            return [entry for entry in self.handles if self.ours(entry) and not entry.copy]
        finally:
            for handle in self.handles.values():
                handle.close()
            self.handles.clear()

    def enter(self, entry: Entry) -> None:
        """Start an entry, compare it with the reference and warm it up; one that fails is out, with the reason."""
        try:
            handle = self.handles[entry] = self.launch(self.workload, entry)
            values = self.folder / "values.npy"
            request = {"do": "open", "workload": workload_to_json(self.workload), "values": str(values)}
            opened = handle.ask({**request, "side": entry.side, "variant": entry.variant}, START_SECONDS)
            runs, size = self.reference.of(entry.side), self.reference.rounding
            found = agreement(np.load(values, allow_pickle=False), runs, self.workload.trains, size)
            self.note("start", entry, **opened, distance=found.distance, limit=found.limit)
            if not found.good:
                self.fail(entry, f"{DISAGREES}: {found.distance:.1e} from the reference, limit {found.limit:.1e}")
                return
            tuned = handle.ask({"do": "calibrate"}, START_SECONDS)
            self.note("calibration", entry, **tuned)
            # a copy takes as many steps as the first process, so that equals are compared
            self.steps[entry] = self.steps.get(entry._replace(copy=0), tuned["steps"])
            if tuned["fault"]:
                self.fail(entry, tuned["fault"])
                return
            first = sum(opened["stages"].get(stage, 0.0) for stage in ("build", "first"))
            self.say(f"{entry}: first step after {first:.1f} s, agrees ({found.distance:.0e} of {found.limit:.0e})")
        except WorkerError as error:
            self.fail(entry, str(error))

    def race(self, stage: str) -> None:
        """Time a block of each entry in turn, round after round, and note the load of other processes meanwhile.

        Before the first round each takes a block that does not count: after a long stop the first one is slow.
        """
        load = OtherLoad()
        for number in range(-1, self.number):
            for entry in list(self.handles):
                if number >= LEAST_ROUNDS and self.far_behind(entry):
                    continue
                load.begin()
                try:
                    answer = self.handles[entry].ask({"do": "block", "steps": self.steps[entry]}, BLOCK_SECONDS)
                except WorkerError as error:
                    self.fail(entry, str(error))
                    continue
                load.end(answer["cpu"])
                said = stage if number >= 0 else WARM_UP
                self.note("block", entry, stage=said, round=number, steps=self.steps[entry], **answer)
                if answer["fault"]:
                    self.fail(entry, answer["fault"])
                elif number >= 0:
                    self.seconds.setdefault(entry, []).append(answer["seconds"] / self.steps[entry])
        self.journal.add(RECORD, workload=self.workload.name, stage=stage, share=load.share)

    def best(self) -> list[Entry]:
        """Return the fastest variant of each side, by the medians so far."""
        racing = [entry for entry in self.handles if entry in self.seconds]
        sides = dict.fromkeys(entry.side for entry in racing)
        return [min((e for e in racing if e.side == side), key=self.median) for side in sides]

    def defaults(self) -> set[Entry]:
        """Return the default variant of each of our twins."""
        grids = {side.name: side.variants(self.workload) for side in SIDES.values() if side.ours}
        return {Entry(name, grid[0]) for name, grid in grids.items() if grid}

    def far_behind(self, entry: Entry) -> bool:
        """Say whether an entry is `FAR_BEHIND` times slower than the fastest."""
        return self.median(entry) > FAR_BEHIND * min(map(self.median, self.handles))

    def median(self, entry: Entry) -> float:
        """Return an entry's median time of a step, in seconds."""
        return float(np.median(self.seconds[entry])) if self.seconds.get(entry) else float("inf")

    def ours(self, entry: Entry) -> bool:
        """Say whether an entry is one of our twins."""
        return entry.side in SIDES and SIDES[entry.side].ours

    def fail(self, entry: Entry, reason: str) -> None:
        """Take an entry out of the race."""
        if entry in self.handles:
            self.handles.pop(entry).close()
        self.note("failure", entry, reason=reason)
        self.say(f"{entry}: no number: {reason}")

    def note(self, kind: str, entry: Entry, **fields: Any) -> None:
        """Write a record about an entry."""
        self.journal.add(kind, workload=self.workload.name, **entry._asdict(), **fields)
