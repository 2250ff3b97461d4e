"""Which event loop answers soonest.

Must not know what runs on it: `aisandbox up` does, the policy calls included.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what asyncio.Runner makes its loop with: uvloop's where there is one, else None (asyncio's own).

    With uvloop an answer on a stream takes three quarters of the time (bench/act.py).
    """
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
