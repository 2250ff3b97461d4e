"""How many files a process may have open, which bounds its connections.

Must not know what is opened.
"""

from __future__ import annotations

import contextlib
import sys

_SHARE_OF_CONNECTIONS = 0.75
_WITHOUT_A_LIMIT = 100_000


def raise_open_files() -> int:
    """Lets this process open as many files as it may; returns how many.

    A service manager often allows 1,024 and, if asked, many more.
    """
    if sys.platform == "win32":
        return _WITHOUT_A_LIMIT
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # macOS calls its limit infinite and takes less
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return _WITHOUT_A_LIMIT if soft == resource.RLIM_INFINITY else min(soft, _WITHOUT_A_LIMIT)


def most_connections(open_files: int) -> int:
    """How many connections a server of so many files may have: the rest is for files, models and its own calls."""
    return max(1, int(open_files * _SHARE_OF_CONNECTIONS))
