"""Ctrl-C while something must not be left half done.

Must not know what that is.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_held(*, raise_after: bool = True) -> Iterator[None]:
    """Ctrl-C has no effect within; KeyboardInterrupt is raised at the end, if ``raise_after`` and nothing else was.

    Only the main thread gets Ctrl-C; in others this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed and raise_after:
        raise KeyboardInterrupt
