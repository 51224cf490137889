"""What all commands of the project share: errors in one line, exit statuses, flags, and output that may go nowhere."""

import inspect
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Annotated, Any, Generic, NoReturn, TypeVar

import tyro

from ae_core.errors import UserError
from ae_core.spec.plugins import EXPECTED, load_plugins

_FLAG = "--plugin"

_Command = TypeVar("_Command")


@dataclass(frozen=True)
class _Arguments(Generic[_Command]):
    """A command with what every command takes."""

    command: Annotated[_Command, tyro.conf.arg(name="")]
    plugin: tyro.conf.UseAppendAction[tuple[str, ...]] = ()  # taken out by now; here it is seen in every --help
    """Package with components or presets of its own, by its name or its folder's path; anywhere among the arguments."""


def run_program(name: str, work: Callable[[], int]) -> int:
    """Run ``work`` and return its exit status.

    What the user caused is said in one line, with status 2: a `UserError`, a file that may not be read or written,
    memory that is not there. Ctrl-C is 130. Output that nobody reads any more ends quietly with status 1.
    """
    try:
        try:
            return work()
        finally:
            sys.stdout.flush()  # else Python does so at exit, where nobody catches what goes wrong
    except UserError as error:
        return _say(name, str(error), 2)
    except KeyboardInterrupt:
        return _say(name, "interrupted", 130)
    except BrokenPipeError:
        _silence()
        return 1
    except MemoryError as error:
        return _say(name, f"not enough memory: {error or 'the model or the data is too large'}", 2)
    except OSError as error:
        if error.filename is None:
            _silence()
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return _say(name, f"{where}{error.strerror or error}", 2)


def leave(status: int) -> NoReturn:
    """End the process with this exit status.

    After Ctrl-C at once: a compiler's threads may still be at work, and taking the interpreter down around them
    crashes it.
    """
    if status == 130:
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def parse(
    command: Any, name: str, argv: list[str] | None = None, description: str | Callable[[], str] | None = None
) -> Any:
    """Load the plugins that arguments name, and read a command from its dataclass.

    Raises:
        UserError: the arguments do not fit, or a plugin cannot be loaded; in one line.
        SystemExit: help was asked for and shown.
    """
    argv = take_plugins(sys.argv[1:] if argv is None else argv)
    # only now are the plugins' kinds known
    description = inspect.cleandoc((description() if callable(description) else description) or command.__doc__)
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.CascadeSubcommandArgs)
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(_Arguments[command], prog=name, description=description, args=argv, config=config).command
    except SystemExit as error:
        if error.code == 0:
            raise
        raise UserError(f"{_first_message(said.getvalue())}; see {name} --help") from None


def take_plugins(argv: Sequence[str]) -> list[str]:
    """Load the plugins that arguments name, and all others that are to be loaded; return the rest of the arguments.

    Each stands behind a ``--plugin`` of its own, as the next argument or after "=". No twin's half is loaded yet.

    Raises:
        UserError: a plugin cannot be loaded, or the flag stands without a name.
    """
    names: list[str] = []
    others: list[str] = []
    given = iter(argv)
    for argument in given:
        flag, sign, name = argument.partition("=")
        if flag != _FLAG:
            others.append(argument)
            continue
        name = name if sign else next(given, "")
        if not name or name.startswith("-"):
            shown = f'"{name}"' if name else "nothing"
            raise UserError(f"{_FLAG}: given {shown}; {EXPECTED}")
        names.append(name)
    load_plugins(names, None)
    return others


def _first_message(box: str) -> str:
    """Take the first message out of the frame that tyro draws around its errors."""
    lines = [line.strip("│ ").strip() for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    rule = next((i for i, line in enumerate(lines) if line.startswith("──")), len(lines))
    return " ".join(line for line in lines[:rule] if line).rstrip(". ") or "the arguments do not fit"


def _silence() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(name: str, message: str, status: int) -> int:
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr)
    return status
