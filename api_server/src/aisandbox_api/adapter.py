"""The service's own environment: an adapter given to create_server, reachable for trainers in other processes.

Owns the life of the EnvironmentService that hosts it on loopback. Its port changes with every start, so a run records
that it wants the adapter, not where that is: :func:`aisandbox_api.backend.environment_to_train`. Must not know runs.
"""

from __future__ import annotations

import asyncio

from aisandbox_environment.adapter_host import AdapterFactory, AdapterSimulation
from aisandbox_environment.server import EnvironmentServer, create_environment_server

from aisandbox_api.errors import StartupError


class HostedAdapter:
    """Hosts what ``factory`` makes, one for each environment of a session, on a free port of the loopback.

    The adapters run on threads of this process: what they compute is taken from the calls the service answers.
    """

    def __init__(self, factory: AdapterFactory) -> None:
        self._factory = factory
        self._server: EnvironmentServer | None = None

    async def start(self) -> str:
        """Its address. Raises StartupError if the factory or its adapter's spaces are no good."""
        self._server = await asyncio.to_thread(self._start)
        return self._server.address

    async def close(self) -> None:
        """Ends it and its sessions."""
        if self._server is not None:
            await asyncio.to_thread(self._server.stop, 0)

    def _start(self) -> EnvironmentServer:
        try:
            server = create_environment_server(AdapterSimulation(self._factory))
        except Exception as error:
            raise StartupError(f"adapter_factory: cannot host what it makes: {error}") from error
        server.start()
        return server
