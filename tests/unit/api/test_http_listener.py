"""The HTTP port closes what is silent or too much, and keeps places for others."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession, web
from aisandbox_api.http_listener import HttpListener
from aisandbox_process import ConnectionLimits
from structlog.testing import capture_logs

LIMITS = ConnectionLimits(100, 100)
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(limits: ConnectionLimits, silent_seconds: float = 600) -> AsyncIterator[HttpListener]:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        listener.has_request(request.transport)
        return web.Response(text="here")

    server = web.Server(answer, keepalive_timeout=600)
    listener = HttpListener(server, limits, silent_seconds=silent_seconds)
    await listener.start("127.0.0.1", 0)
    try:
        yield listener
    finally:
        await listener.stop_accepting()
        await server.shutdown(0.01)
        await listener.close()


async def connect(listener: HttpListener, host: str = "127.0.0.1") -> Ends:
    return await asyncio.open_connection("127.0.0.1", listener.port, local_addr=(host, 0))


async def is_answered(ends: Ends) -> bool:
    reader, writer = ends
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        return b"here" in await asyncio.wait_for(reader.readuntil(b"here"), 60)
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


async def test_connection_without_a_request_is_closed() -> None:
    async with serving(LIMITS, silent_seconds=0.05) as listener:
        silent = await connect(listener)
        slow = await connect(listener)
        slow[1].write(b"GET / HTTP/1.1\r\nHo")
        for reader, _ in (silent, slow):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await asyncio.wait_for(reader.readexactly(1), 60)


async def test_connection_with_a_request_is_kept() -> None:
    async with serving(LIMITS) as listener:
        ends = await connect(listener)
        for _ in range(2):
            assert await is_answered(ends)
            assert listener.silent == 0


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is an address of this machine only there")
async def test_idle_connections_of_one_address_leave_places_for_others() -> None:
    async with serving(ConnectionLimits(1000, of_address=50)) as listener:
        with capture_logs() as logs:
            idle = [await connect(listener, "127.0.0.2") for _ in range(200)]
            async with asyncio.timeout(60):
                while not logs:  # noqa: ASYNC110
                    await asyncio.sleep(0)
        assert (logs[0]["rule"], logs[0]["address"]) == ("MAX_CONNECTIONS_PER_PEER", "127.0.0.2")
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{listener.port}/") as answer:
            assert await answer.text() == "here"
        assert not await is_answered(idle[50])
        assert await is_answered(idle[49])
        for _, writer in idle:
            writer.close()


async def test_connections_that_have_ended_are_not_counted() -> None:
    async with serving(ConnectionLimits(2, 2)) as listener:
        ended = [await connect(listener) for _ in range(2)]
        assert [await is_answered(ends) for ends in ended] == [True, True]
        assert not await is_answered(await connect(listener))
        for _, writer in ended:
            writer.close()
        async with asyncio.timeout(60):
            while not await is_answered(await connect(listener)):  # noqa: ASYNC110
                await asyncio.sleep(0)
