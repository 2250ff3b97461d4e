"""How a server command tells that it listens, and how a parent process tells it to end.

Owns both sides' agreement: with ``--json`` the first line of stdout is one JSON object with ``address``; with
``--stop-with-parent`` the end of stdin ends the server as SIGTERM does. Must not know what is served.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object with the address when it listens.")]
StopWithParent = Annotated[
    bool, typer.Option("--stop-with-parent", hidden=True, help="End when stdin ends, as after SIGTERM.")
]


def announce(name: str, address: str, lines: Sequence[str], *, as_json: bool) -> None:
    """Prints where ``name`` listens, and for people the ``lines`` that say how to go on."""
    if as_json:
        print(json.dumps({"address": address, "pid": os.getpid()}), flush=True)
        return
    print(f"The {name} listens on {address}. Ctrl-C stops it.", *lines, sep="\n", flush=True)


def when_stdin_ends(stop: Callable[[], None]) -> None:
    """Calls ``stop`` on a thread of its own once stdin has ended, which it does when the parent process ends."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        stop()

    threading.Thread(target=wait, name="stop-with-parent", daemon=True).start()


def terminate() -> None:
    """Sends this process a SIGTERM whose handler runs at once, also while the main thread waits in a system call."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    else:
        signal.raise_signal(signal.SIGTERM)
