"""Parts of a report that may fail by themselves: each is named with its reason, and the others are there."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ae_core.errors import UserError

T = TypeVar("T")


def attempt(report: dict[str, Any], what: str, work: Callable[[], T]) -> T | None:
    """Return what ``work`` returns; where it raises, note it in the report's ``failed`` and return None."""
    try:
        return work()
    except Exception as error:
        report["failed"].append({"what": what, "why": reason(error)})
        return None


def reason(error: BaseException) -> str:
    """Return in one line what was raised, and where unless it was meant for the user."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    message = " ".join(str(error).split())
    if isinstance(error, UserError):
        return message
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}{message and ': '}{message} ({Path(frame.filename).name}, line {frame.lineno})"
