"""The C library's memory: what is freed at every step and asked for again at the next stays with the process."""

import ctypes
import os
import platform

_OPTIONS = {
    "MALLOC_MMAP_THRESHOLD_": (-3, 2**25),  # the largest that glibc takes
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1),
}
"""Variables of glibc, the numbers of ``mallopt`` that do the same, and values in bytes."""


def keep_freed_memory() -> bool:
    """Have glibc keep arrays that are freed, instead of giving them back to the system; say whether it does.

    Else it depends on the luck of a process whether the activations of every step are new pages, which the system has
    to fill with zeros first: that is up to half of an inference in PyTorch. Arrays of more than 32 MiB, a layer of
    some hundred images at once, glibc gives back all the same. The memory that a process holds at its peak is about
    the same. What the user says in glibc's own variables, or in ``GLIBC_TUNABLES``, stays.

    Source: the manual page mallopt(3).
    """
    if platform.libc_ver()[0] != "glibc" or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    library = ctypes.CDLL(None)
    done = [library.mallopt(*option) for name, option in _OPTIONS.items() if name not in os.environ]
    return all(done)
