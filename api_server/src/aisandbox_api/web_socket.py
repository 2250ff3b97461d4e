"""A simulator that attaches over a WebSocket: one message a binary frame.

Owns how a status becomes a close code, and pings. Must not know which messages there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from aiohttp import WSCloseCode, WSMsgType, web
from aisandbox_access import LimitReached, PeerStreams, current_caller
from aisandbox_environment import SimulatorRelay
from aisandbox_process.grpc_direct import StreamAborted, Take

PING_SECONDS = 30.0
FIRST_CLOSE_CODE = 4000
"""A close code of 4000 and more is the application's; the rest is the google.rpc.Code."""

PROTOCOL = "aisandbox.v1"
"""The protocol that is agreed on with a page that offers it; needed beside a token."""
TOKEN_PROTOCOL = "bearer.aisandbox."  # noqa: S105 -- what is before the token
"""Before a token in the list of protocols that a page offers."""

_LONGEST_REASON = 123
"""Bytes of the reason of a close frame (RFC 6455)."""


class WebSocketLink:
    """A Link of the relay (aisandbox_environment) over a WebSocket."""

    exchange = None

    def __init__(self, socket: web.WebSocketResponse, peer: str, metadata: Mapping[str, str]) -> None:
        self._socket = socket
        self.peer = peer
        self.metadata = metadata

    def ask(self) -> None:
        """See Link."""

    async def read(self, _take: Take | None = None) -> bytes | None:
        """See Link."""
        message = await self._socket.receive()
        if message.type is WSMsgType.BINARY:
            data: bytes = message.data
            return data
        if message.type is WSMsgType.TEXT:
            raise StreamAborted(grpc.StatusCode.INVALID_ARGUMENT, "message: must be a binary frame, got a text frame")
        return None

    async def write(self, message: bytes) -> None:
        """See Link."""
        await self._socket.send_bytes(message)


async def serve_simulator(
    request: web.Request, relay: SimulatorRelay, pool: str, largest_message: int, streams: PeerStreams
) -> web.WebSocketResponse:
    """Serves one simulator of ``pool`` until its socket is closed. ``streams``: it counts as one of its address."""
    socket = web.WebSocketResponse(
        heartbeat=PING_SECONDS, max_msg_size=largest_message, compress=False, protocols=[PROTOCOL]
    )
    await socket.prepare(request)
    metadata = {key.lower(): value for key, value in request.headers.items()}
    try:
        with streams.stream(current_caller().peer):
            await relay.attach(WebSocketLink(socket, request.remote or "", metadata), pool)
    except LimitReached as error:
        await _close(socket, grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
    except StreamAborted as status:
        await _close(socket, status.code, status.details)
    else:
        await socket.close(code=WSCloseCode.OK)
    return socket


async def _close(socket: web.WebSocketResponse, code: grpc.StatusCode, details: str) -> None:
    number: Any = code.value[0]
    reason = details.encode()[:_LONGEST_REASON].decode("utf-8", "ignore").encode()
    await socket.close(code=FIRST_CLOSE_CODE + number, message=reason)
