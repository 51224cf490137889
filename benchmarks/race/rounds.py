"""One workload's race: agreement first, then blocks in turn, then the best of each side, twins beside copies of theirs.

The variants are chosen by one set of rounds and judged by another, so that luck in the choice does not flatter it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.race.journal import Journal
from benchmarks.race.load import Neighbours
from benchmarks.race.process import Handle, WorkerError
from benchmarks.race.reference import agreement
from benchmarks.race.sides import SIDES
from benchmarks.race.workloads import Workload

LEAST_ROUNDS = 5
START_SECONDS, BLOCK_SECONDS = 900.0, 180.0
"""After which a worker that compiles, or takes steps, is given up."""
DISAGREES = "does not agree"
WARM_UP = "warm-up"
FAR_BEHIND = 6.0
"""Who is so many times slower than the fastest takes part in `LEAST_ROUNDS` rounds of the screening only."""


class Entry(NamedTuple):
    """Who races: a variant of a side. Copy 1 is the same once more, for the race of equals."""

    side: str
    variant: str
    copy: int = 0

    def __str__(self) -> str:
        label = SIDES[self.side].label if self.side in SIDES else self.side
        return f"{label}, {self.variant}{', again' if self.copy else ''}"


class Reference(NamedTuple):
    """What all have to agree with; see `benchmarks.race.reference`."""

    runs: np.ndarray
    rounding: float


Launch = Callable[[Workload, Entry], Handle]


@dataclass
class Heat:
    """One workload and those who race at it."""

    workload: Workload
    reference: Reference
    journal: Journal
    launch: Launch
    """Starts a worker."""
    say: Callable[[str], None]
    """Is told what happens, a line at a time."""
    folder: Path
    """For the numbers that workers leave to be compared."""
    rounds: int
    handles: dict[Entry, Handle] = field(default_factory=dict)
    steps: dict[Entry, int] = field(default_factory=dict)
    """Of a block."""
    seconds: dict[Entry, list[float]] = field(default_factory=dict)
    """Of a step, in each round so far."""

    def run(self, entries: Iterable[Entry]) -> list[Entry]:
        """Race, and return which of our variants stood in the final. Nothing is left running, whatever happens."""
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
        """Start an entry, hold it against the reference, and warm it up; who fails is out, with the reason."""
        try:
            handle = self.handles[entry] = self.launch(self.workload, entry)
            values = self.folder / "values.npy"
            request = {"do": "open", "workload": self.workload.name, "side": entry.side, "variant": entry.variant}
            opened = handle.ask({**request, "values": str(values)}, START_SECONDS)
            runs, size = self.reference
            found = agreement(np.load(values, allow_pickle=False), runs, self.workload.trains, size)
            self.note("start", entry, **opened, distance=found.distance, limit=found.limit)
            if not found.good:
                self.fail(entry, f"{DISAGREES}: {found.distance:.1e} from the reference, limit {found.limit:.1e}")
                return
            tuned = handle.ask({"do": "calibrate"}, START_SECONDS)
            self.note("calibration", entry, **tuned)
            # a copy takes what the first one takes, so that equals are compared
            self.steps[entry] = self.steps.get(entry._replace(copy=0), tuned["steps"])
            if tuned["fault"]:
                self.fail(entry, tuned["fault"])
                return
            first = sum(opened["stages"].get(stage, 0.0) for stage in ("build", "first"))
            self.say(f"{entry}: first step after {first:.1f} s, agrees ({found.distance:.0e} of {found.limit:.0e})")
        except WorkerError as error:
            self.fail(entry, str(error))

    def race(self, stage: str) -> None:
        """Time a block of each in turn, round after round, and note how much others were at work meanwhile.

        Before the first round each takes a block that does not count: after a long stop the first one is slow.
        """
        neighbours = Neighbours()
        for number in range(-1, self.rounds):
            for entry in list(self.handles):
                if number >= LEAST_ROUNDS and self.far_behind(entry):
                    continue
                neighbours.begin()
                try:
                    answer = self.handles[entry].ask({"do": "block", "steps": self.steps[entry]}, BLOCK_SECONDS)
                except WorkerError as error:
                    self.fail(entry, str(error))
                    continue
                neighbours.end(answer["cpu"])
                said = stage if number >= 0 else WARM_UP
                self.note("block", entry, stage=said, round=number, steps=self.steps[entry], **answer)
                if answer["fault"]:
                    self.fail(entry, answer["fault"])
                elif number >= 0:
                    self.seconds.setdefault(entry, []).append(answer["seconds"] / self.steps[entry])
        self.journal.add("neighbours", workload=self.workload.name, stage=stage, share=neighbours.share)

    def best(self) -> list[Entry]:
        """Return the fastest variant of each side, by the medians so far."""
        racing = [entry for entry in self.handles if entry in self.seconds]
        sides = dict.fromkeys(entry.side for entry in racing)
        return [min((e for e in racing if e.side == side), key=self.median) for side in sides]

    def defaults(self) -> set[Entry]:
        """Return the default variant of each of our twins."""
        return {Entry(side.name, side.grid(self.workload)[0]) for side in SIDES.values() if side.ours}

    def far_behind(self, entry: Entry) -> bool:
        """Say whether an entry is out of sight of the fastest."""
        return self.median(entry) > FAR_BEHIND * min(map(self.median, self.handles))

    def median(self, entry: Entry) -> float:
        """Return an entry's median time of a step, in seconds."""
        return float(np.median(self.seconds[entry])) if self.seconds.get(entry) else float("inf")

    def ours(self, entry: Entry) -> bool:
        """Say whether an entry is one of our twins."""
        return entry.side in SIDES and SIDES[entry.side].ours

    def fail(self, entry: Entry, reason: str) -> None:
        """Put an entry out of the race."""
        if entry in self.handles:
            self.handles.pop(entry).close()
        self.note("failure", entry, reason=reason)
        self.say(f"{entry}: no number: {reason}")

    def note(self, kind: str, entry: Entry, **fields: Any) -> None:
        """Write a record about an entry."""
        self.journal.add(kind, workload=self.workload.name, **entry._asdict(), **fields)
