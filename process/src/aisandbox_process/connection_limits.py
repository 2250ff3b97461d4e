"""How many connections a server may have, in all and of one address, by the files that its process may have open.

Must not know who listens.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass

_WITHOUT_A_LIMIT = 1_000_000
_WITHOUT_A_SETTING = 100_000
"""Files that shares are taken of, at most, where no number is set."""
_MACOS_OPEN_MAX = 10_240
"""macOS says that its limit is infinite, and takes no more than this."""
_SHARE_OF_AN_ADDRESS = 0.75
"""Of a port's connections: what is left is for others, while a proxy or one machine of many simulators gets most."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Connections of one port: at most ``number``, and ``of_address`` of one address."""

    number: int
    of_address: int


def connection_limits(share_of_files: float, number: int = 0, of_address: int = 0) -> ConnectionLimits:
    """The limits of a port that may take that share of the files, or ``number`` and ``of_address`` where they are set.

    0: not set. A port never has more than its share, so that all ports of a process together leave it some files. Lets
    this process open as many files as it may.
    """
    files = raise_open_files()
    share = max(1, int(files * share_of_files))
    most = min(number or max(1, int(min(files, _WITHOUT_A_SETTING) * share_of_files)), share)
    return ConnectionLimits(most, min(most, of_address or max(1, int(most * _SHARE_OF_AN_ADDRESS))))


def raise_open_files() -> int:
    """Lets this process open as many files as it may; returns how many.

    A service manager often allows 1,024 and, if asked, many more.
    """
    if sys.platform == "win32":
        return _WITHOUT_A_LIMIT
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in () if soft == hard else (hard, max(soft, _MACOS_OPEN_MAX)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
            break
    return _WITHOUT_A_LIMIT if soft == resource.RLIM_INFINITY else min(soft, _WITHOUT_A_LIMIT)
