"""Sessions of trainers on this machine with attached simulators, over a Unix socket instead of gRPC.

Owns who may have one: as at the trainers' port. Must not know how messages travel.
"""

from __future__ import annotations

from pathlib import Path

import structlog
from aisandbox_environment import SimulatorRelay
from aisandbox_process.grpc_direct import StreamAborted
from aisandbox_process.local_streams import IS_AVAILABLE, LocalStreamServer, ServedLocalStream

from aisandbox_api.trainer_auth import SESSION_METHOD, TrainerAuthInterceptor

log = structlog.get_logger()


class TrainerSocket:
    """``most``: how many there may be at the same time. For one event loop."""

    def __init__(
        self, relay: SimulatorRelay, admission: TrainerAuthInterceptor, most: int, largest_message: int
    ) -> None:
        self._relay = relay
        self._admission = admission
        self._server = LocalStreamServer(self._serve, largest_message, most)

    def open(self) -> Path | None:
        """Listens; the path of the socket. None: there is none on this machine, and trainers use gRPC."""
        if not IS_AVAILABLE:
            return None
        try:
            return self._server.open()
        except OSError as error:
            log.warning("no Unix socket for trainers, they use gRPC, which is slower", error=str(error))
            return None

    async def close(self) -> None:
        """Ends the sessions that are left."""
        await self._server.close()

    async def _serve(self, stream: ServedLocalStream) -> None:
        try:
            await self._admission.admit(stream.metadata)
        except Exception as error:
            raise StreamAborted(
                *self._admission.refused(SESSION_METHOD, stream.metadata, stream.peer, error)
            ) from error
        await self._relay.serve_session(stream)
