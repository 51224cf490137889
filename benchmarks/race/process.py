"""The parent's end of a worker: ask, wait, and be told what happened when no answer comes."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ae_core.system.environment import usable_cores

COLD_CACHE = {
    "jax": ("JAX_COMPILATION_CACHE_DIR",),
    "torch": ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"),
}
"""Variables that say where each framework keeps what it has compiled."""


class WorkerError(Exception):
    """A worker did not do what it was asked; the message is one line."""


class Refusal(WorkerError):
    """A worker refused what it was asked, since something that the user gave cannot be."""


@runtime_checkable
class Handle(Protocol):
    """A worker that can be asked."""

    def ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Return the answer to a request.

        Raises:
            WorkerError: there is none, or it is an error.
        """
        ...

    def close(self) -> None:
        """End the worker."""
        ...


def variables(framework: str, cache: Path) -> dict[str, str]:
    """Return the environment of a worker: the same cores for all, and a cache of compiled programs of its own."""
    cores = str(usable_cores())
    caches = {name: str(cache) for name in COLD_CACHE[framework]}
    return {
        "OMP_NUM_THREADS": cores,
        "MKL_NUM_THREADS": cores,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **caches,
    }


class Process:
    """A worker in a process of its own; while it is not asked anything it is stopped, and cannot use a core."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        self.buffer = b""
        self.child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.race.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            env=os.environ | environment,
            start_new_session=True,  # so that helpers that it starts can be stopped with it
        )

    def ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Return the answer to a request.

        Raises:
            WorkerError: the worker died, gave an error, or needed longer than ``timeout`` seconds.
            Refusal: what it was asked cannot be.
        """
        assert self.child.stdin is not None
        self._signal(signal.SIGCONT)
        try:
            self.child.stdin.write(json.dumps(request).encode() + b"\n")
            self.child.stdin.flush()
        except OSError:
            raise WorkerError(self._end()) from None
        answer = json.loads(self._line(timeout))
        self._signal(signal.SIGSTOP)
        if "error" in answer:
            raise (Refusal if answer.get("refused") else WorkerError)(answer["error"])
        return dict(answer)

    def close(self) -> None:
        """End the worker and what it started."""
        self._signal(signal.SIGKILL)
        self.child.communicate()
        self.said.close()

    def _line(self, timeout: float) -> bytes:
        assert self.child.stdout is not None
        until = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self.child.stdout, selectors.EVENT_READ)
            while b"\n" not in self.buffer:
                left = until - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise WorkerError(f"no answer within {timeout:.0f} s{self._last_words()}")
                part = os.read(self.child.stdout.fileno(), 65_536)
                if not part:
                    raise WorkerError(self._end())
                self.buffer += part
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line

    def _end(self) -> str:
        status = self.child.wait()
        how = f"killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
        return f"{how}{self._last_words()}"

    def _last_words(self) -> str:
        self.said.seek(0)
        lines = [line.strip() for line in self.said.read().decode(errors="replace").splitlines() if line.strip()]
        return f": {lines[-1][:300]}" if lines else ""

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child.pid, number)
