"""SIGTERM and SIGINT as the request to stop an asyncio program.

Must not know what stopping involves.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that the first SIGTERM or SIGINT sets; the next one has its usual effect.

    Entered before a server starts: a signal during the start takes effect once the start is complete. Main thread only.
    """
    loop, received = asyncio.get_running_loop(), asyncio.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number in numbers:
            with contextlib.suppress(TypeError):  # a handler that was not installed from Python
                signal.signal(number, before[number])

    def handle(*_: object) -> None:
        restore()
        loop.call_soon_threadsafe(received.set)

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield received
    finally:
        restore()
