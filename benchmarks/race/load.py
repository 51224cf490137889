"""Whether the machine was quiet: how much other processes used its cores while blocks were timed."""

import os
import time
from pathlib import Path

QUIET = 0.05
"""Share of the cores that other processes may use: what an idle system needs for itself."""

RECORD = "neighbours"
"""Kind of the journal's records about other load, and its name in race.json."""

_STAT = Path("/proc/stat")
_IDLE = (3, 4)
"""Fields of /proc/stat that are not work: idle and waiting for input. Guest time is part of user time already."""


class OtherLoad:
    """Sums, over timed blocks, the processor time of the whole machine and that of the worker which was timed."""

    def __init__(self) -> None:
        self.busy = self.ours = self.wall = 0.0
        self.cores = os.cpu_count() or 1
        self._began: tuple[float, float] | None = None

    def begin(self) -> None:
        """Note that a block begins."""
        busy = _busy()
        self._began = None if busy is None else (busy, time.monotonic())

    def end(self, ours: float) -> None:
        """Note that a block has ended, in which its worker used ``ours`` seconds of processor time."""
        busy = _busy()
        if self._began is not None and busy is not None:
            self.busy += busy - self._began[0]
            self.wall += time.monotonic() - self._began[1]
            self.ours += ours

    @property
    def share(self) -> float | None:
        """Share of all cores' time that other processes used; None where the system does not say."""
        return max(0.0, self.busy - self.ours) / (self.wall * self.cores) if self.wall else None


def _busy() -> float | None:
    """Return the seconds that all cores together have worked since the machine was started; None where not known."""
    try:
        fields = [int(field) for field in _STAT.read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    return sum(value for i, value in enumerate(fields) if i not in _IDLE) / os.sysconf("SC_CLK_TCK")
