"""The harness on sides with a clock of their own: equals, a planted delay, a missing wait, a worker that dies."""

from pathlib import Path

import numpy as np
import pytest

from ae_core.spec import spec_to_json
from benchmarks.race.journal import Journal
from benchmarks.race.process import WorkerError
from benchmarks.race.rounds import Entry, Reference, Rounds
from benchmarks.race.session import BLOCK_SECONDS, Session
from benchmarks.race.stats import Estimate, beyond, ratio_of, spread_of
from benchmarks.race.workloads import WORKLOADS
from benchmarks.report.analysis import analyse

WORKLOAD = WORKLOADS["tiny-dense"]
LOSSES = np.array([0.7, 0.6, 0.55])
REFERENCE = Reference(np.stack([LOSSES, LOSSES * (1 + 1e-7)]), 1e-7)
JAX, TORCH = Entry("jax", "default"), Entry("torch", "channels_last")


class Machine:
    """A runner with a clock that nothing but its work moves."""

    def __init__(self, step, jitter=0.0, seed=0, waits=True, losses=LOSSES, handing="all at once"):
        self.now, self.owed = 0.0, 0.0
        self.step, self.jitter, self.waits, self.losses, self.handing = step, jitter, waits, losses, handing
        self.rng = np.random.default_rng(seed)

    def clock(self):
        return self.now

    def take(self, steps, first=0):
        self.owed += steps * self.step * np.exp(self.jitter * self.rng.standard_normal())
        self.now += {"all at once": 1e-4, "step by step": 1e-4 * steps, "at length": 1.1 * BLOCK_SECONDS}[self.handing]
        if self.waits:
            self.settle()
        return self.losses[first : first + steps] if steps <= len(self.losses) else np.resize(self.losses, steps)

    def settle(self):
        self.now, self.owed = self.now + self.owed, 0.0


class Local:
    """A worker without a process."""

    def __init__(self, machine):
        self.session = Session(lambda *_: machine, machine.clock)
        self.closed = False

    def ask(self, request, timeout):
        return self.session.handle(request)

    def close(self):
        self.closed = True


class Dead(Local):
    """A worker that dies in its third block."""

    blocks = 0

    def ask(self, request, timeout):
        self.blocks += request["do"] == "block"
        if self.blocks == 3:
            raise WorkerError("killed by signal 9: out of memory")
        return super().ask(request, timeout)


def race(tmp_path: Path, machines, rounds=20, workers=None):
    """Race one machine for each entry; a copy is a machine like the first with another stream of jitter."""
    journal, started = Journal(), []

    def launch(workload, entry):
        made = (workers or {}).get(entry, Local)(machines(entry))
        started.append(made)
        return made

    spec = {"name": WORKLOAD.name, "phase": WORKLOAD.phase, "batch": WORKLOAD.batch, "models": 1, "target": 0.0}
    journal.add("workload", **spec, spec=spec_to_json(WORKLOAD.spec))
    said = []
    Rounds(WORKLOAD, REFERENCE, journal, launch, said.append, tmp_path, rounds).run([JAX, TORCH])
    assert all(worker.closed for worker in started)
    return analyse(journal.records), said


def seed_of(entry):
    return 10 * entry.copy + len(entry.side)


def test_equal_sides_show_no_difference(tmp_path):
    result, _ = race(tmp_path, lambda entry: Machine(0.002, 0.01, seed_of(entry)))
    (ratio,) = result["ratios"]
    assert ratio["beyond_noise"] == 0
    assert ratio["a_a"].keys() == {"jax", "torch"}
    for _, low, high in ratio["a_a"].values():
        assert low < 1 < high
    assert 0 < ratio["noise"] < 0.03


@pytest.mark.parametrize(("slow", "expected"), [("torch", 1), ("jax", -1)])
def test_a_planted_delay_of_five_percent_is_found(tmp_path, slow, expected):
    result, _ = race(tmp_path, lambda e: Machine(0.002 * (1.05 if e.side == slow else 1), 0.01, seed_of(e)))
    (ratio,) = result["ratios"]
    assert ratio["beyond_noise"] == expected
    assert ratio["ratio_best"] == pytest.approx(1.05**expected, rel=0.02)
    assert ratio["ci"][0] < 1.05**expected < ratio["ci"][1]


def test_a_delay_below_the_spread_of_equals_is_not_claimed(tmp_path):
    result, _ = race(tmp_path, lambda e: Machine(0.002 * (1.002 if e.side == "torch" else 1), 0.05, seed_of(e)))
    assert result["ratios"][0]["beyond_noise"] == 0


@pytest.mark.parametrize("handing", ["all at once", "step by step", "at length"])
def test_a_missing_wait_is_caught(tmp_path, handing):
    """However long it takes to hand work over: twice the steps take no longer, or work is left after the block."""
    machines = {"jax": Machine(0.002, waits=False, handing=handing), "torch": Machine(0.002)}
    result, said = race(tmp_path, lambda entry: machines[entry.side])
    assert result["ratios"] == []
    rows = {row["side"]: row for row in result["rows"]}
    assert rows["jax"]["images_per_second"] is None
    assert "not synchronised" in rows["jax"]["reason"]
    assert rows["torch"]["images_per_second"] == pytest.approx(WORKLOAD.images / 0.002, rel=0.01)
    assert sum("not synchronised" in line for line in said) == 1


def test_a_missing_wait_is_caught_in_a_block():
    machine = Machine(0.002)
    session = Session(lambda *_: machine, machine.clock)
    session.workload, session.runner = WORKLOAD, machine
    assert session.do_block(100)["fault"] is None
    machine.waits = False
    assert "of work were left" in session.do_block(100)["fault"]


def test_calibration():
    machine = Machine(0.002)
    session = Session(lambda *_: machine, machine.clock)
    session.runner = machine
    found = session.do_calibrate()
    assert BLOCK_SECONDS <= found["steps"] * 0.002 < 3 * BLOCK_SECONDS
    assert len(found["warm"]) >= 2
    assert found["doubling"] == pytest.approx(2, rel=0.01)
    assert found["call"] == pytest.approx(1e-4, rel=0.05)


@pytest.mark.parametrize(
    ("losses", "good"),
    [
        (LOSSES * (1 + 2e-7), True),
        (LOSSES * (1 + 2e-6), False),
        (LOSSES * [1, 1, 1 + 2e-6], False),
        (LOSSES * [1, np.nan, 1], False),
        (LOSSES[:2], False),
    ],
)
def test_who_does_not_agree_gets_no_number(tmp_path, losses, good):
    result, _ = race(tmp_path, lambda e: Machine(0.002, losses=losses if e.side == "jax" else LOSSES), rounds=5)
    rows = {row["side"]: row for row in result["rows"]}
    assert (rows["jax"]["images_per_second"] is not None) == good
    assert (rows["jax"]["reason"] is None) == good
    assert len(result["ratios"]) == good
    if not good:
        assert "does not agree" in rows["jax"]["reason"] or "not finite" in rows["jax"]["reason"]
        assert "milliseconds" not in rows["jax"]
    assert rows["torch"]["images_per_second"] is not None


def test_a_dead_worker_does_not_end_the_race(tmp_path):
    result, said = race(tmp_path, lambda e: Machine(0.002, seed=seed_of(e)), workers={JAX: Dead})
    rows = {row["side"]: row for row in result["rows"]}
    assert rows["jax"]["reason"] == "killed by signal 9: out of memory"
    assert rows["jax"]["images_per_second"] is None  # blocks from before it died do not count either
    assert rows["torch"]["rounds"] == 20
    assert any("out of memory" in line for line in said)


def test_choice_and_judgement_use_different_rounds(tmp_path):
    """A variant that was chosen for its speed in the screening is judged by its speed in the final alone."""
    slow = {}

    def machine(entry):
        slow[entry] = Machine(0.002)
        return slow[entry]

    class Fading(Local):
        def ask(self, request, timeout):
            answer = super().ask(request, timeout)
            if request["do"] == "block":
                self.blocks = getattr(self, "blocks", 0) + 1
                slow[JAX].step = 0.002 if self.blocks < 6 else 0.004  # from the last block of the screening on
            return answer

    result, _ = race(tmp_path, machine, workers={JAX: Fading}, rounds=5)
    (ratio,) = result["ratios"]
    assert ratio["best_jax"] == "default"
    assert ratio["ci"][0] == pytest.approx(0.5, rel=0.01)
    rows = {row["side"]: row for row in result["rows"]}
    assert rows["jax"]["milliseconds"] == pytest.approx(4, rel=0.01)
    assert rows["torch"]["milliseconds"] == pytest.approx(2, rel=0.01)


def test_statistics():
    a, b = np.array([1.0, 2.0, 4.0, 8.0, 16.0]), np.array([2.0, 4.0, 8.0, 16.0, 32.0])
    assert ratio_of(b, a) == Estimate(2.0, 2.0, 2.0)  # paired: rounds differ sixteenfold, their ratios not at all
    found = ratio_of(np.array([[2.0] * 5, [3.0] * 5]), np.ones(5))  # two processes that differ, in all rounds alike
    assert (found.low, found.high) == (2.0, 3.0)
    assert 2 <= found.value <= 3
    assert spread_of([Estimate(1.0, 0.98, 1.01), Estimate(1.0, 0.99, 1.05)]) == pytest.approx(0.05)
    assert spread_of([]) == float("inf")
    assert [beyond(Estimate(v, v - 0.02, v + 0.02), 0.05) for v in (1.2, 1.06, 1.0, 0.9)] == [1, 0, 0, -1]
    assert beyond(Estimate(9.0, 8.0, 10.0), float("inf")) == 0


def test_the_interval_covers():
    """Of 200 races with a true ratio of 1, at most one in ten has an interval without 1 (nominally 5 %)."""
    rng = np.random.default_rng(0)
    times = np.exp(0.05 * rng.standard_normal((200, 2, 20)))
    missed = sum(not (r.low <= 1 <= r.high) for r in (ratio_of(a, b) for a, b in times))
    assert 0 < missed <= 20
