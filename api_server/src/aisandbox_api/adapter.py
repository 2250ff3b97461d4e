"""The service's own environment: an adapter given to create_server, reachable for trainers in other processes.

Owns the life of the EnvironmentService that hosts it on loopback. Must not know runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class HostedAdapter:
    """Hosts what ``factory`` makes, one for each environment of a session, on a free port of the loopback."""

    def __init__(self, factory: Callable[[], Any]) -> None:
        self._factory = factory
        self._host: Any = None

    async def start(self) -> str:
        """Its address."""
        raise NotImplementedError

    async def close(self) -> None:
        """Ends it."""
