"""What a worker does for its parent, one request at a time.

The clock is an argument, so that the harness's own tests can bring another.
"""

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.race.sides import SIDES, Runner
from benchmarks.race.workloads import Timed, workload_from_json

BLOCK_SECONDS = 0.25
"""Shortest timed block."""
LEAD_IN = 8
"""A block is preceded by an eighth as many steps that do not count, since others have used the caches meanwhile."""
CHECKED_STEPS = 3
"""Training steps whose losses are compared with the reference."""
LEAST_DOUBLING = 1.25
"""Twice the steps have to take at least this many times as long. Work that is handed over but not waited for takes
about once as long; the margin between 1 and 2 is for a busy machine, and the best of a few blocks is taken."""
MOST_SETTLING = 0.05
"""The longest wait after a block, as a share of the block; a call that has waited leaves nothing to wait for."""
LEAST_SETTLING = 2e-3
"""Seconds of waiting that are always allowed, since the call itself takes time."""
TRIES = 8
"""The most pairs of blocks in a search for one in which twice the steps take long enough."""
SLOW = 1.0
"""Seconds from which on a block is not repeated to calibrate it better."""

MOST_STEPS = 10**6
"""The most steps in a block. A runner that takes more in `BLOCK_SECONDS` does not do the work."""

Opener = Callable[[str, Timed, str], Runner]


def open_side(side: str, workload: Timed, variant: str) -> Runner:
    """Return a side's runner."""
    return SIDES[side].open(workload, variant)


class Session:
    """A runner, and the requests that it answers."""

    def __init__(self, opener: Opener = open_side, clock: Callable[[], float] = time.perf_counter) -> None:
        self.opener, self.clock = opener, clock
        self.runner: Runner
        self.workload: Timed

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a request: its ``do`` names the method, the rest are its arguments."""
        arguments = {key: value for key, value in request.items() if key != "do"}
        answer: dict[str, Any] = getattr(self, f"do_{request['do']}")(**arguments)
        return answer

    def do_open(self, side: str, workload: dict[str, Any], variant: str, values: str) -> dict[str, Any]:
        """Build the side's runner, take its first steps, and write their losses or outputs to ``values`` (.npy)."""
        self.workload = workload_from_json(workload)
        base = peak_bytes()
        began = self.clock()
        self.runner = self.opener(side, self.workload, variant)
        built = self.clock()
        outcome = self.runner.take(1)
        first = self.clock()
        if self.workload.trains:
            outcome = np.concatenate([outcome, self.runner.take(CHECKED_STEPS - 1, 1)])
        np.save(Path(values), outcome.astype(np.float64), allow_pickle=False)
        return {"stages": {"build": built - began, "first": first - built}, "base_bytes": base}

    def do_calibrate(self, seconds: float = BLOCK_SECONDS) -> dict[str, Any]:
        """Warm up, find how many steps a block needs, and check that the work is done when the clock stops."""
        steps, times = 1, []
        while steps <= MOST_STEPS:
            times.append(self._timed(steps))
            if times[-1] >= seconds:
                if times[-1] < SLOW or len(times) == 1:
                    times.append(self._timed(steps))  # the first may have compiled or been delayed
                if min(times[-2:]) >= seconds or times[-1] >= SLOW:
                    break
            if times[-1] < seconds:
                steps = max(2 * steps, min(10 * steps, int(1.2 * steps * seconds / max(times[-1], 1e-9))))
        else:
            said = f"not synchronised: {steps:,} steps take {times[-1]:.2g} s"
            return {"steps": steps, "warm": times, "doubling": None, "call": None, "fault": said}
        single = double = float("inf")
        for _ in range(2 if times[-1] >= SLOW else TRIES):
            single, double = min(single, self._timed(steps)), min(double, self._timed(2 * steps))
            if double >= LEAST_DOUBLING * single:
                break
        fault = None
        if double < LEAST_DOUBLING * single:
            fault = f"not synchronised: twice the steps take {double / single:.2f} times as long"
        calls = [self._timed(1) for _ in range(5)] if steps > 4 else []
        overhead = max(0.0, float(np.median(calls)) - single / steps) if calls else None
        return {"steps": steps, "warm": times, "doubling": double / single, "call": overhead, "fault": fault}

    def do_block(self, steps: int) -> dict[str, Any]:
        """Time a block, then the wait for whatever is still under way after it."""
        worked = time.process_time()
        if steps > 1:  # where a single step fills a block, warm caches make no difference
            self.runner.take(-(-steps // LEAD_IN))
            self.runner.settle()
        seconds = self._timed(steps)
        began = self.clock()
        self.runner.settle()
        left = self.clock() - began
        late = left > max(MOST_SETTLING * seconds, LEAST_SETTLING)
        fault = f"not synchronised: {left:.3g} s of work were left after {seconds:.3g} s" if late else None
        return {"seconds": seconds, "settle": left, "cpu": time.process_time() - worked, "fault": fault}

    def do_memory(self, steps: int) -> dict[str, Any]:
        """Take steps and return the peak of the process's memory, in bytes."""
        self.runner.take(steps)
        return {"peak_bytes": peak_bytes()}

    def _timed(self, steps: int) -> float:
        began = self.clock()
        result = self.runner.take(steps)
        seconds = self.clock() - began
        if not isinstance(result, np.ndarray) or not np.isfinite(result).all():
            raise ValueError("the outcome of a block is not finite numbers on the host")
        return seconds


def peak_bytes() -> int:
    """Return the peak of this process's resident memory, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
