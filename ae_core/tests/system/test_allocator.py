"""Arrays that come and go at every step are filled by the system once only."""

import os
import platform
import subprocess
import sys

import pytest

_WORK = """
import resource, sys
from ae_core.system.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
def step():
    return [bytes([i]) * 24_000_000 for i in range(1, 5)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


def _run(what, **variables):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", _WORK, what], env=clean | variables, capture_output=True, text=True, check=True
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


@glibc
def test_pages_stay():
    page = os.sysconf("SC_PAGE_SIZE")
    as_it_is, (kept, faults) = _run("leave")[1], _run("keep")
    assert kept == "True"
    assert as_it_is > 10 * 4 * 24_000_000 / page / 2  # half of all pages, at every step
    assert faults < as_it_is / 100


@glibc
def test_the_user_has_precedence():
    threshold = {"MALLOC_MMAP_THRESHOLD_": "100000"}
    assert _run("keep", **threshold)[1] > 10 * _run("keep")[1]
    assert _run("keep", GLIBC_TUNABLES="glibc.malloc.trim_threshold=100000")[0] == "False"


def test_another_library_is_left_alone(monkeypatch):
    from ae_core.system.allocator import keep_freed_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
