"""The records of a race as lines of JSON, written as they arise, so that an interrupted race can be read too."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ae_core.errors import DataError

LINES = "race.jsonl"

Record = dict[str, Any]


class Journal:
    """Records, kept in memory and, where there is a path, in a file."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.records: list[Record] = []

    def add(self, kind: str, **fields: Any) -> Record:
        """Add a record; numbers that are not finite become null."""
        record = {"kind": kind, **_plain(fields)}
        self.records.append(record)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        return record


def read_journal(path: Path) -> list[Record]:
    """Read the records of a race from its folder, or from the file itself.

    Raises:
        DataError: the file cannot be read, or one of its lines is not a record.
    """
    path = path / LINES if path.is_dir() else path
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path}: no race to read; expected a folder that `race --out` left") from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
            raise DataError(f"{path}: line {number} is not a record of a race")
        records.append(record)
    return records


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
