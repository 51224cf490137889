"""Writing files whole or not at all."""

import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ae_core.errors import OutputError


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically: a reader sees the old file or the whole new one, also after a kill.

    Raises:
        OutputError: the path cannot be written; nothing is left behind.
    """
    with _explained(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN and infinities, which JSON does not know, are written as null."""
    write_bytes(path, (json.dumps(_finite(value), indent=2, allow_nan=False) + "\n").encode())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as ``.npy``, atomically."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def check_file(path: Path, suffixes: tuple[str, ...], force: bool) -> None:
    """Refuse an output file before any work is done for it.

    Raises:
        OutputError: another suffix than the given ones, no such folder, or a file that is there without ``force``.
    """
    if path.suffix not in suffixes:
        raise OutputError(f'{path}: given the suffix "{path.suffix}"; expected {" or ".join(suffixes)}')
    with _explained(path):
        if not path.parent.is_dir():
            raise OutputError(f"{path}: cannot be written: {path.parent} is not a folder")
        if path.is_dir():
            raise OutputError(f"{path}: cannot be written: it is a folder")
        if path.exists() and not force:
            raise OutputError(f"{path}: is there already; give --force to overwrite it, or another path")


def check_folder(path: Path, force: bool) -> None:
    """Refuse the folder of a run before any work is done for it.

    Raises:
        OutputError: it is not a folder, or holds something already and ``force`` is not given.
    """
    with _explained(path):
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path}: cannot be written: it is not a folder")
        if path.is_dir() and any(path.iterdir()) and not force:
            raise OutputError(f"{path}: holds something already; give --force to overwrite it, or another folder")


def make_folder(path: Path) -> None:
    """Create the folder of a run.

    Raises:
        OutputError: it cannot be created or written.
    """
    with _explained(path):
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()


def clear_folder(path: Path, files: Iterable[str]) -> None:
    """Take away the files of an earlier run, where they are."""
    with _explained(path):
        for name in files:
            (path / name).unlink(missing_ok=True)
