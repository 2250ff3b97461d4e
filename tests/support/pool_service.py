"""The service's relay alone, in a thread, for simulators that attach and trainers that use pools.

Must not know runs: it has no start calls and takes no reports.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import grpc
from aisandbox.v1 import environment_pb2, simulator_pool_pb2
from aisandbox_api.method_handlers import add_service, handlers
from aisandbox_environment import RelayLimits, SimulatorRelay, list_simulators
from aisandbox_process.grpc_options import server_options
from aisandbox_process.local_streams import LocalStreamServer
from waiting import wait_until

_SERVICES = (
    simulator_pool_pb2.DESCRIPTOR.services_by_name["SimulatorPoolService"],
    environment_pb2.DESCRIPTOR.services_by_name["EnvironmentService"],
)


LARGEST_MESSAGE = 64 * 1024 * 1024


class PoolService:
    """``port`` 0: a free one, which stays that of the next start. ``limits``: the relay's.

    ``socket``: with ``by_socket``, the Unix socket for trainers of this machine; another one after each start.
    """

    def __init__(self, limits: RelayLimits | None = None, *, by_socket: bool = False) -> None:
        self._by_socket = by_socket
        self.port = 0
        self.socket: Path | None = None
        self._limits = limits
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ending: asyncio.Event | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of a trainer that uses the socket, if there is one."""
        return {} if self.socket is None else {"SESSION_SOCKET": str(self.socket)}

    @property
    def way(self) -> str:
        return "by gRPC" if self.socket is None else "over the Unix socket"

    def start(self) -> None:
        listens = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(listens)), daemon=True)
        self._thread.start()
        assert listens.wait(60)

    def stop(self) -> None:
        """As a service that is killed: streams end without a status of its own."""
        assert self._loop is not None
        assert self._ending is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(60)

    def wait_for(self, environments: int, pool: str = "arena", *, free: bool = False) -> None:
        """Until the pool has so many environments, in sessions or not; ``free``: that are in none."""

        def there() -> int:
            found = list_simulators(self.address, pool)
            return sum(each.environments for each in found if not (free and each.in_session))

        wait_until(lambda: there() == environments)

    async def _serve(self, listens: threading.Event) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        server = grpc.aio.server(options=server_options(ping_seconds=30))
        relay: Any = SimulatorRelay(version="1.2.3", limits=self._limits)
        for service in _SERVICES:
            add_service(server, service, handlers(service, relay, raw=True))
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        sessions = LocalStreamServer(relay.serve_session, LARGEST_MESSAGE)
        self.socket = sessions.open() if self._by_socket else None
        listens.set()
        await self._ending.wait()
        await asyncio.gather(server.stop(0), sessions.close())
