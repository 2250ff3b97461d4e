"""What processes forked in tests do, found by name: "forked_functions:FUNCTION"; and a preload that is cheap.

The last argument of each function is the descriptor that reaches its end when the program that forked it is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping

from aisandbox_process.fork_server import unblock_stop_signals

LOADED_IN = os.getpid()


def check(parent: int) -> int:
    """0 if the fork server has loaded this module."""
    return 0 if os.getppid() == LOADED_IN else 1


def fail_check(parent: int) -> int:
    print("no torch here")
    return 1


def end_with(code: int, parent: int) -> int:
    print(f"ends with {code}")
    print("on stderr", file=sys.stderr)
    return code


def run_and_end_with_code_of(environ: Mapping[str, str], parent: int) -> int:
    """As a trainer is run: ends with the number of the attempt."""
    return int(environ["RUN_ATTEMPT"])


def run_until_stopped(environ: Mapping[str, str], parent: int) -> int:
    """As a trainer is run: 143 after SIGTERM, 75 when the service is gone."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    unblock_stop_signals()
    print("runs", flush=True)
    os.read(parent, 1)
    return 75


def raise_error(parent: int) -> int:
    raise KeyError("a fault")


def kill_itself(parent: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def wait_for_parent(parent: int) -> int:
    """Ends with 5 when the program that forked it is gone."""
    print("waits", flush=True)
    os.read(parent, 1)
    print("parent is gone", flush=True)
    return 5


def handle_pending_sigterm(parent: int) -> int:
    """Ends with 9 if the SIGTERM that came before there was a handler is handled once it is unblocked."""
    print("waits", flush=True)
    while signal.SIGTERM not in signal.sigpending():
        time.sleep(0.01)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
    unblock_stop_signals()
    return 0


def tell_group(parent: int) -> int:
    """0 if it leads a process group of its own."""
    return int(os.getpgrp() != os.getpid())


def count_characters(text: str, parent: int) -> int:
    return len(text) // 1_000_000
