"""Ctrl-C that a long run can answer at its next safe place."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether Ctrl-C was pressed."""

    requested = False


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Note the first Ctrl-C and go on; a second one interrupts at once, as ever.

    Outside the main thread, where Python gives no signals, nothing changes.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def note(number: int, frame: FrameType | None) -> None:
        interrupt.requested = True
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Have Ctrl-C wait for the end of the block; a second one does not wait."""
    with interruptible() as interrupt:
        yield
    if interrupt.requested:
        signal.raise_signal(signal.SIGINT)
