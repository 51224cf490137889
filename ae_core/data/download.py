"""One file from the network: complete and verified, or not there at all."""

import hashlib
import os
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from ae_core.errors import DataError

_BLOCK = 1 << 18
_TIMEOUT = 20.0


def download(url: str, path: Path, sha256: str, remedy: str) -> None:
    """Fetch ``url`` into ``path``, which appears only once all its bytes are there and have the SHA-256 ``sha256``.

    ``remedy`` ends the error line: what to do where the network does not allow it.

    Raises ``DataError`` when the network, the disk or the checksum fails; nothing is left behind.
    """
    # In the folder of its destination, because a rename is atomic only within one file system.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = _fetch(url, part)
        if found != sha256:
            raise DataError(f"{url}: its SHA-256 is {found}, must be {sha256}; it was not kept: {remedy}")
        part.replace(path)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"{url}: cannot be downloaded to {path.parent} ({reason}): {remedy}") from error
    finally:
        with suppress(OSError):
            part.unlink()
        with suppress(OSError):  # stops at a folder that holds something
            for folder in missing:
                folder.rmdir()


def _fetch(url: str, part: Path) -> str:
    """Write ``url`` to ``part`` under a progress bar, and return its SHA-256."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    digest = hashlib.sha256()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, part.open("wb") as file:
        size = int(response.headers.get("Content-Length", 0)) or None
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(url.rsplit("/", 1)[-1], total=size)
            while block := response.read(_BLOCK):
                file.write(block)
                digest.update(block)
                progress.advance(task, len(block))
    return digest.hexdigest()
