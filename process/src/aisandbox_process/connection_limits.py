"""How many connections a server may have, in all and of one address, by the files that its process may have open.

Must not know who listens.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass

_WITHOUT_A_LIMIT = 100_000
_SHARE_OF_AN_ADDRESS = 0.75
"""Of a port's connections: what is left is for others, while a proxy or one machine of many simulators gets most."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Connections of one port: at most ``number``, and ``of_address`` of one address."""

    number: int
    of_address: int


def connection_limits(share_of_files: float, number: int = 0, of_address: int = 0) -> ConnectionLimits:
    """The limits of a port that may take that share of the files, or ``number`` and ``of_address`` where they are set.

    0: not set. Lets this process open as many files as it may.
    """
    most = number or max(1, int(raise_open_files() * share_of_files))
    return ConnectionLimits(most, min(most, of_address or max(1, int(most * _SHARE_OF_AN_ADDRESS))))


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
