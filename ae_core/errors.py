"""Errors that a user caused and can mend: one line, shown without a traceback, exit status 2."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something the user gave is wrong; the message says what, where, what was given and what would be right."""


class SpecError(UserError):
    """A spec that cannot be built."""


class MissingError(SpecError):
    """A component for which a part of the project, or of a plugin, has no answer; the message names the part."""


class DataError(UserError):
    """Images, labels or a data source that cannot be used."""


class WeightsError(UserError):
    """A weights file that is damaged, foreign, or does not fit its spec."""


class OutputError(UserError):
    """An output path that cannot be written, or must not be overwritten."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Say which names are valid and, when one is close to ``name``, ask whether it was meant.

    >>> nearest("foster-ea", ["foster-ae", "dense-digits"])
    'did you mean "foster-ae"? valid: foster-ae, dense-digits'
    """
    import difflib  # only a wrong name needs it

    names = list(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f'did you mean "{close[0]}"? ' if close else ""
    return f"{hint}valid: {', '.join(names)}"


def check_between(flag: str, given: int, least: int, most: int, what: str = "") -> None:
    """Refuse a flag's number that is out of bounds.

    Raises:
        DataError: says which are right.
    """
    if not least <= given <= most:
        raise DataError(f"{flag}: given {given}{what and ' '}{what}; expected {least} to {most:,}")


@contextmanager
def as_data_error() -> Iterator[None]:
    """Say in one line what a library function found wrong with the user's numbers."""
    try:
        yield
    except ValueError as error:
        raise DataError(str(error)) from None
