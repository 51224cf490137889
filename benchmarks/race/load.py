"""Whether the machine was quiet: how much of its cores others used while a block was timed."""

import os
import time
from pathlib import Path

QUIET = 0.05
"""Share of the cores that others may use: what a system does for itself."""

_STAT = Path("/proc/stat")
_IDLE = (3, 4)
"""Fields of /proc/stat that are not work: idle and waiting for input; guest time is counted in user time already."""


class Neighbours:
    """Adds up, over timed blocks, what the whole machine worked and what of it was ours."""

    def __init__(self) -> None:
        self.busy = self.ours = self.wall = 0.0
        self.cores = os.cpu_count() or 1
        self._began: tuple[float, float] | None = None

    def begin(self) -> None:
        """A block begins."""
        busy = _busy()
        self._began = None if busy is None else (busy, time.monotonic())

    def end(self, ours: float) -> None:
        """A block has ended, for which its worker used so many seconds of processor time."""
        busy = _busy()
        if self._began is not None and busy is not None:
            self.busy += busy - self._began[0]
            self.wall += time.monotonic() - self._began[1]
            self.ours += ours

    @property
    def share(self) -> float | None:
        """Share of all cores' time that others used; None where the system does not say."""
        return max(0.0, self.busy - self.ours) / (self.wall * self.cores) if self.wall else None


def _busy() -> float | None:
    """Return seconds of work of all cores since the machine was started."""
    try:
        fields = [int(field) for field in _STAT.read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    return sum(value for i, value in enumerate(fields) if i not in _IDLE) / os.sysconf("SC_CLK_TCK")
