"""What a result was measured on. Nothing here names the machine or its user."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def environment() -> dict[str, str]:
    """Return date, interpreter, operating system, processor, cores and versions of what all parts share."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(usable_cores()),
        "numpy": version("numpy"),
        "twin-autoencoders": version("twin-autoencoders"),
    }


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
