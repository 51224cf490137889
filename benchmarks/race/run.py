"""The race: every side at every workload, and what is needed to judge it."""

import subprocess
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from ae_core.errors import UserError
from ae_core.files.output import check_folder, clear_folder, make_folder
from ae_core.system.environment import environment
from benchmarks import NAME
from benchmarks.race.custom import Brought, brought_workloads
from benchmarks.race.journal import LINES, Journal
from benchmarks.race.process import Handle, Process, WorkerError, variables
from benchmarks.race.rounds import BLOCK_SECONDS, DISAGREES, LEAST_ROUNDS, START_SECONDS, Entry, Reference, Rounds
from benchmarks.race.sides import SIDES, Side, choose_sides
from benchmarks.race.workloads import PairWorkload, Timed, choose_workloads, workload_to_json
from benchmarks.report.report import FILES, write_report

QUICK = {
    "jax": ("default", "in turn", "vmap"),
    "torch": ("channels_last", "micro-batches", "func"),
    "flax": ("loop",),
}
"""Variants in a quick race; of sides that are not named here, the default. PyTorch's compilation takes too long."""

SEEDS, QUICK_SEEDS = 5, 2
"""Trainings to quality of each variant."""
MEMORY_STEPS = 8
"""The fewest steps after which the peak of memory is read."""
PROFILED_STEPS = 200
"""The most steps in a profile."""


_ASKED = {"shapes": "{}: builds the model …", "pair": "the pair: are both sides the same model? …"}
"""What is said before a worker is asked."""

Listed = tyro.conf.UseAppendAction[tuple[str, ...]]
"""Of a flag that is given again and again."""


@dataclass(frozen=True)
class Race:
    """Race the twins and their peers, and leave all samples, the results and a report in a folder.

    The workloads are the published ones, or those of a preset or a spec of one's own.
    """

    out: Path
    """Folder for the race; must be empty or new."""
    quick: bool = False
    """Fewer workloads and variants, none that PyTorch compiles: minutes, not an hour."""
    workload: Listed = ()
    """Only this published workload; may be given more than once."""
    preset: str | None = None
    """Race this preset, in place of the published workloads."""
    spec: Path | None = None
    """Race the spec in this JSON file, in place of the published workloads."""
    pair: Path | None = None
    """Race the JAX function and the PyTorch module that this Python file brings; see python -m parity_tests pair."""
    phase: Listed = ()
    """What is timed of the model, with commas between: train, encode, decode, reconstruct, which are all where absent;
    many (sixteen models at once); quality (trainings to a held-out loss). Of a pair: forward, train."""
    batch: Listed = ()
    """Images in a step, with commas between; the spec's batch size where absent."""
    target: float | None = None
    """Held-out loss at which a training to quality ends."""
    side: Listed = ()
    """Only this side; may be given more than once."""
    rounds: int = LEAST_ROUNDS
    """Rounds of blocks in turn, at least 5."""
    force: bool = False
    """Overwrite an older race in the folder."""


def run_race(options: Race) -> int:
    """Race, write records and report, and return the exit status: 1 if a twin did not agree with the reference, else 0.

    Raises:
        UserError: an option is wrong, or the folder cannot be used; nothing is written then.
    """
    check_folder(options.out, options.force)
    if options.rounds < LEAST_ROUNDS:
        raise UserError(f"--rounds: given {options.rounds}; expected at least {LEAST_ROUNDS}")
    sides = choose_sides(options.side)
    workloads = _workloads(options, sides)
    make_folder(options.out)
    clear_folder(options.out, (LINES, *FILES))
    journal = Journal(options.out / LINES)
    try:
        with tempfile.TemporaryDirectory() as folder:
            _Race(options, journal, Path(folder)).run(workloads, sides)
    except KeyboardInterrupt:
        print(f"what was seen until now: {options.out / LINES}; `{NAME} report {options.out}` makes a report of it")
        raise
    write_report(options.out, journal.records)
    print(f"race and report: {options.out / 'report.html'}")
    failures = [record for record in journal.records if record["kind"] == "failure"]
    return int(any(SIDES[f["side"]].ours and f["reason"].startswith(DISAGREES) for f in failures))


def _workloads(options: Race, sides: list[Side]) -> list[Timed]:
    """Return the workloads that the options name, in which at least one of the sides takes part.

    Raises:
        UserError: there are no such ones, or a side that races cannot build the model.
    """
    given = Brought(options.preset, options.spec, options.pair, options.phase, options.batch, options.target)
    console = Console(stderr=True, highlight=False, markup=False)
    with tempfile.TemporaryDirectory() as folder:

        def ask(side: str, request: dict[str, Any]) -> dict[str, Any]:
            console.print(_ASKED[request["do"]].format(SIDES[side].label))
            return _once(side, request, Path(folder))

        found = brought_workloads(given, bool(options.workload), sides, ask)
    workloads: list[Timed] = [*(choose_workloads(options.workload, options.quick) if found is None else found)]
    if not any(side.variants(workload) for side in sides for workload in workloads):
        names = ", ".join(side.name for side in SIDES.values() if any(side.variants(w) for w in workloads))
        raise UserError(f"--side: given {', '.join(options.side)}, which take no part in this; valid: {names}")
    return workloads


def _once(side: str, request: dict[str, Any], folder: Path, timeout: float = START_SECONDS) -> dict[str, Any]:
    """Start a worker, ask it for one thing, and end it."""
    handle = Process(variables(SIDES[side].framework, folder / "cache" / "once"))
    try:
        return handle.ask(request, timeout)
    finally:
        handle.close()


class _Race:
    def __init__(self, options: Race, journal: Journal, folder: Path) -> None:
        self.options, self.journal, self.folder = options, journal, folder
        self.console = Console(stderr=True, highlight=False, markup=False)
        self.began = time.monotonic()
        self.done = self.total = self.ahead = 0.0
        self.launched: set[tuple[str, Entry]] = set()

    def run(self, workloads: list[Timed], sides: list[Side]) -> None:
        entries = {workload.name: self.entries(workload, sides) for workload in workloads}
        self.total = sum(_guess(w, entry) for w in workloads for entry in entries[w.name]) + 20
        described = {field.name: getattr(self.options, field.name) for field in fields(Race) if field.name != "out"}
        files = {name: str(path) for name, path in described.items() if isinstance(path, Path)}
        self.journal.add("options", **{**described, **files})
        racing = {entry.side for found in entries.values() for entry in found}
        machine = self.machine([side for side in sides if side.name in racing])
        self.journal.add("environment", **environment(), commit=_commit(), **machine)
        self.peak()
        for number, workload in enumerate(workloads, 1):
            self.say(f"{number}/{len(workloads)}  {workload.name}")
            named = {"name": workload.name, "phase": workload.phase, "batch": workload.batch, "models": workload.models}
            self.journal.add("workload", **named, target=workload.target, **workload.model)
            if workload.phase == "quality":
                self.quality(workload, entries[workload.name])
            else:
                self.speed(workload, entries[workload.name])
        self.peak()

    def entries(self, workload: Timed, sides: list[Side]) -> list[Entry]:
        found = []
        for side in sides:
            grid = side.variants(workload)
            if self.options.quick:
                grid = tuple(v for v in grid if v in QUICK.get(side.name, grid[:1]))
                grid = grid[:1] if workload.phase == "quality" else grid
            found += [Entry(side.name, variant) for variant in grid]
        return found

    def speed(self, workload: Timed, entries: list[Entry]) -> None:
        """Time steps in rounds, then see what the twins' finalists need when they are alone."""
        present = [entry for entry in entries if self.present(workload, entry)]
        if not present:
            return
        if isinstance(workload, PairWorkload) and workload.apart:
            for entry in present:
                self.note("failure", workload, entry, reason=f"{DISAGREES}: {workload.apart}")
            self.step(f"no numbers: the pair {DISAGREES}: {workload.apart}")
            return
        try:
            reference = self.reference(workload)
        except WorkerError as error:
            for entry in present:
                self.note("failure", workload, entry, reason=f"no reference to agree with: {error}")
            return
        number = self.options.rounds
        rounds = Rounds(workload, reference, self.journal, self.launch, self.step, self.folder, number)
        finalists = rounds.run(present)
        for entry in finalists:
            self.alone(workload, entry, rounds.steps[entry])

    def present(self, workload: Timed, entry: Entry) -> bool:
        side = SIDES[entry.side]
        absent = side.refusal(workload) or side.missing()
        if absent:
            self.note("failure", workload, entry, reason=absent)
            self.say(f"     {entry}: {absent}")
        return absent is None

    def launch(self, workload: Timed, entry: Entry) -> Handle:
        """Start a worker with its entry's cache, which is empty for the first one; a copy has a cache of its own."""
        if not entry.copy and (workload.name, entry) not in self.launched:
            self.launched.add((workload.name, entry))
            self.done, self.ahead = self.done + self.ahead, _guess(workload, entry)
        side = SIDES[entry.side]
        cache = self.folder / "cache" / workload.name / entry.side / f"{entry.variant}-{entry.copy}".replace(" ", "-")
        return Process(variables(side.framework, cache) | dict(side.environment))

    def once(self, side: str, request: dict[str, Any], timeout: float = START_SECONDS) -> dict[str, Any]:
        """Have a worker do one thing."""
        return _once(side, request, self.folder, timeout)

    def reference(self, workload: Timed) -> Reference:
        values = self.folder / "reference.npz"
        request = {"do": "reference", "workload": workload_to_json(workload), "values": str(values)}
        answer = self.once("jax", request)
        with np.load(values, allow_pickle=False) as found:
            runs = dict(found)
        return Reference(next(iter(runs.values())), answer["rounding"], runs)

    def alone(self, workload: Timed, entry: Entry, steps: int) -> None:
        """Note what a process that does nothing else shows: a start with a warm cache, memory, and a profile."""
        handle = self.launch(workload, entry)
        opening = {"side": entry.side, "workload": workload_to_json(workload), "variant": entry.variant}
        try:
            opened = handle.ask({"do": "open", **opening, "values": str(self.folder / "unread.npy")}, START_SECONDS)
            peak = handle.ask({"do": "memory", "steps": max(steps, MEMORY_STEPS)}, BLOCK_SECONDS)
            found = {"base_bytes": opened["base_bytes"], "stages": opened["stages"]}
            self.note("memory", workload, entry, **found, **peak)
            shares = handle.ask({"do": "profile", "steps": min(steps, PROFILED_STEPS)}, BLOCK_SECONDS)
            self.note("profile", workload, entry, **shares)
        except WorkerError as error:
            self.note("failure", workload, entry, reason=f"alone: {error}")
        finally:
            handle.close()

    def quality(self, workload: Timed, entries: list[Entry]) -> None:
        """Train to a held-out loss, each time in a new process with an empty cache."""
        present = [entry for entry in entries if self.present(workload, entry)]
        for seed in range(QUICK_SEEDS if self.options.quick else SEEDS):
            for entry in present:
                cache = self.folder / "cache" / f"{workload.name}-{seed}" / entry.side / entry.variant
                handle = Process(variables(SIDES[entry.side].framework, cache))
                request = {"workload": workload_to_json(workload), "variant": entry.variant, "seed": seed}
                try:
                    found = handle.ask({"do": "quality", "side": entry.side, **request}, START_SECONDS)
                    self.note("quality", workload, entry, seed=seed, **found)
                    self.say(f"     {entry}, seed {seed}: {found['seconds']:.1f} s")
                except WorkerError as error:
                    self.note("failure", workload, entry, reason=str(error))
                finally:
                    handle.close()
                self.done += _guess(workload, entry) / (QUICK_SEEDS if self.options.quick else SEEDS)

    def machine(self, sides: list[Side]) -> dict[str, dict[str, str]]:
        """Return the versions, device and threads that the twins report in a worker."""
        ours = [side for side in sides if side.ours and side.missing() is None]
        return {side.name: self.once(side.name, {"do": "environment", "side": side.name}) for side in ours}

    def peak(self) -> None:
        """Measure the machine's peaks: at the beginning and at the end, of which the best counts."""
        self.say("peaks of matrix products and memory")
        try:
            self.journal.add("peak", **self.once("torch", {"do": "peak"}))
        except WorkerError as error:
            self.say(f"no peaks: {error}")

    def note(self, kind: str, workload: Timed, entry: Entry, **fields: Any) -> None:
        self.journal.add(kind, workload=workload.name, **entry._asdict(), **fields)

    def step(self, line: str) -> None:
        self.say(f"     {line}")

    def say(self, line: str) -> None:
        """Print a line with the time that has passed and an estimate of what is left."""
        gone = time.monotonic() - self.began
        left = f", {_clock(gone * (self.total / self.done - 1))} left" if self.done > 0.05 * self.total else ""
        self.console.print(f"[{_clock(gone)}{left}]  {line}", soft_wrap=True)


def _commit() -> str:
    """Return git's name for the version of the project that races."""
    asked = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    return f"{minutes}:{rest:02d}"


def _guess(workload: Timed, entry: Entry) -> float:
    """Return roughly how many seconds an entry takes on two cores; only the proportions matter."""
    conv, jax = workload.convolves, SIDES[entry.side].framework == "jax"
    compiled = any(word in entry.variant for word in ("compile", "max-autotune", "reduce-overhead"))
    if workload.phase == "quality":
        return (170.0 if conv else 60.0) if compiled else (80.0 if conv else 20.0)
    if conv and jax and not SIDES[entry.side].ours and workload.batch > 128:
        return 70.0
    return 20.0 if compiled else 12.0
