"""Streams over a Unix socket: what both ends see of messages, statuses and lost peers, and of slow ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from aisandbox_process.grpc_direct import StreamAborted, StreamEnded
from aisandbox_process.local_streams import IS_AVAILABLE, LocalStream, LocalStreamServer, ServedLocalStream
from aisandbox_process.local_streams import server as server_module
from aisandbox_process.local_streams.frames import (
    MESSAGE,
    START,
    STATUS,
    FrameReader,
    OversizedFrame,
    frame,
    start_frame,
    status_of,
)

pytestmark = pytest.mark.skipif(not IS_AVAILABLE, reason="no Unix sockets here")

SECONDS = 60.0
LARGEST = 8 * 1024 * 1024
Code = grpc.StatusCode


@asynccontextmanager
async def serving(behavior: Callable[[ServedLocalStream], Awaitable[None]], most: int = 100) -> AsyncIterator[Path]:
    server = LocalStreamServer(behavior, LARGEST, most)
    path = server.open()
    try:
        async with asyncio.timeout(SECONDS):
            yield path
    finally:
        await server.close()
    assert not path.parent.exists()


@asynccontextmanager
async def connected(path: Path, metadata: Any = ()) -> AsyncIterator[LocalStream]:
    stream = await asyncio.to_thread(LocalStream, path, metadata)
    try:
        yield stream
    finally:
        stream.close()


async def receive(stream: LocalStream) -> bytes:
    return await asyncio.to_thread(stream.receive)


async def ended(stream: LocalStream) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(StreamEnded) as end:
        await receive(stream)
    return end.value.code, end.value.details


async def echo(stream: ServedLocalStream) -> None:
    while (message := await stream.read()) is not None:
        await stream.write(message)


def test_frames_are_whole_however_they_are_cut() -> None:
    sent = [(START, b"[]"), (MESSAGE, b""), (MESSAGE, bytes(300)), (STATUS, b"\x05no")]
    data = b"".join(frame(kind, content) for kind, content in sent)
    for size in (1, 4, 5, 6, 305, len(data)):
        reader, found = FrameReader(300), []
        for begin in range(0, len(data), size):
            found += reader.feed(data[begin : begin + size])
        assert found == sent, size
    for data in (frame(MESSAGE, bytes(301)), frame(MESSAGE, bytes(301))[:5]):
        with pytest.raises(OversizedFrame, match=r"larger than max \(301 vs\. 300\)"):
            FrameReader(300).feed(data)
    assert status_of(b"\x05no") == (5, "no")


async def test_messages_and_metadata_arrive_and_a_half_close_ends_with_ok() -> None:
    seen: list[Any] = []

    async def behavior(stream: ServedLocalStream) -> None:
        seen.append(stream.metadata)
        await echo(stream)

    async with serving(behavior) as path, connected(path, [("a", "1"), ("a", "2"), ("b", "ü")]) as stream:
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        for message in (b"", b"x", os.urandom(5 * 1024 * 1024)):
            await asyncio.to_thread(stream.send, message)
            assert await receive(stream) == message
        assert seen == [{"a": "1", "b": "ü"}]
        await asyncio.to_thread(stream.finish)
        assert await ended(stream) == (Code.OK, "")
        assert not stream.is_connected()


@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (StreamAborted(Code.NOT_FOUND, "no such pool: ü"), Code.NOT_FOUND, "no such pool: ü"),
        (KeyError("secret"), Code.UNKNOWN, "unexpected KeyError"),
    ],
)
async def test_exception_of_the_server_is_the_status(error: Exception, code: grpc.StatusCode, details: str) -> None:
    async def behavior(_stream: ServedLocalStream) -> None:
        raise error

    async with serving(behavior) as path, connected(path) as stream:
        stream.send(b"request")
        assert await ended(stream) == (code, details)
        stream.send(b"after the end")
        await asyncio.to_thread(stream.finish)


@pytest.mark.parametrize("leaves", ["cancel", "close"])
async def test_client_that_leaves_cancels_the_stream(leaves: str) -> None:
    lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    begun = asyncio.Event()

    async def behavior(stream: ServedLocalStream) -> None:
        reading = asyncio.create_task(stream.read())
        begun.set()
        try:
            await asyncio.Future()
        finally:
            with contextlib.suppress(ConnectionError):
                await reading
            with pytest.raises(ConnectionError):
                await stream.write(b"nobody")
            stream.exchange(b"nobody")
            lost.set_result(None)

    async with serving(behavior) as path, connected(path) as stream:
        await begun.wait()
        waiting = asyncio.create_task(ended(stream)) if leaves == "cancel" else None
        getattr(stream, leaves)()
        await lost
        if waiting is not None:
            assert await waiting == (Code.CANCELLED, "cancelled by the client")


async def test_server_that_goes_ends_its_streams() -> None:
    server = LocalStreamServer(echo, LARGEST)
    path = server.open()
    async with connected(path) as stream:
        stream.send(b"x")
        assert await receive(stream) == b"x"
        await server.close()
        assert await ended(stream) == (Code.CANCELLED, "cancelled")
        with pytest.raises(OSError, match="No such file"):
            LocalStream(path)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(MESSAGE, b"first"), Code.INVALID_ARGUMENT),
        (frame(START, b"{"), Code.INVALID_ARGUMENT),
        (frame(START, b"[[1, 2]]"), Code.INVALID_ARGUMENT),
        (frame(START, b"7"), Code.INVALID_ARGUMENT),
        (start_frame(()) + start_frame(()), Code.INVALID_ARGUMENT),
        (start_frame(()) + frame(STATUS, b"\0"), Code.INVALID_ARGUMENT),
        (start_frame(()) + b"GET / HTTP/1.1\r\n\r\n", Code.RESOURCE_EXHAUSTED),
        (start_frame([("a", "x" * 65_536)]), Code.RESOURCE_EXHAUSTED),
        (frame(MESSAGE, bytes(65_537)), Code.RESOURCE_EXHAUSTED),
    ],
)
async def test_client_that_breaks_the_rules_is_told_so(data: bytes, code: grpc.StatusCode) -> None:
    async with serving(echo) as path:
        assert await asyncio.to_thread(_status_after, path, data) is code


def _status_after(path: Path, data: bytes) -> grpc.StatusCode:
    """The status of a stream whose client sends that. The server may end it while something is on its way to it."""
    received = bytearray()
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
        client.settimeout(SECONDS)
        client.connect(str(path))
        with contextlib.suppress(ConnectionError):
            client.sendall(data)
        with contextlib.suppress(ConnectionError):
            while part := client.recv(2**16):
                received += part
    ((kind, content),) = FrameReader(LARGEST).feed(bytes(received))
    assert kind == STATUS
    number = status_of(content)[0]
    return next(each for each in Code if each.value[0] == number)


async def test_message_is_taken_and_answered_without_the_reader() -> None:
    taken: list[bytes] = []

    async def behavior(stream: ServedLocalStream) -> None:
        def take(message: bytes) -> bool:
            taken.append(message)
            answers.append(threads.submit(stream.exchange, message * 2))
            return message != b"last"

        answers: list[Future[None]] = []
        with ThreadPoolExecutor() as threads:
            assert await stream.read(take) == b"last"
            await asyncio.gather(*map(asyncio.wrap_future, answers))
        raise StreamAborted(Code.ABORTED, "enough")

    async with serving(behavior) as path, connected(path) as stream:
        for message in (b"a", bytes(3 * 1024 * 1024), b"last"):
            await asyncio.to_thread(stream.send, message)
            assert await receive(stream) == message * 2
        assert await ended(stream) == (Code.ABORTED, "enough")
    assert taken == [b"a", bytes(3 * 1024 * 1024), b"last"]


async def test_end_that_comes_while_nobody_reads_is_read_later() -> None:
    begin = asyncio.Event()

    async def behavior(stream: ServedLocalStream) -> None:
        await begin.wait()
        await echo(stream)
        assert await stream.read() is None, "again"

    async with serving(behavior) as path, connected(path) as stream:
        stream.send(b"x")
        finishing = asyncio.ensure_future(asyncio.to_thread(stream.finish))
        begin.set()
        await finishing
        assert await receive(stream) == b"x"
    async with serving(silent_until_asked) as path, connected(path) as stream:
        assert await receive(stream) == b"ready"
        await asyncio.to_thread(stream.finish)
        assert await ended(stream) == (Code.OK, "")


async def silent_until_asked(stream: ServedLocalStream) -> None:
    await stream.write(b"ready")
    for _ in iter(lambda: stream._inbox.has_ended(), True):  # nobody reads meanwhile
        await asyncio.sleep(0)
    assert await stream.read() is None


async def test_exception_of_a_reader_is_the_status() -> None:
    async def behavior(stream: ServedLocalStream) -> None:
        def take(_message: bytes) -> bool:
            raise KeyError("take")

        await stream.read(take)

    async with serving(behavior) as path, connected(path) as stream:
        stream.send(b"x")
        assert await ended(stream) == (Code.UNKNOWN, "unexpected KeyError")


async def test_client_that_reads_nothing_holds_up_the_writer_and_gets_all_in_order() -> None:
    written = 0

    async def behavior(stream: ServedLocalStream) -> None:
        nonlocal written
        for number in range(200):
            await stream.write(bytes([number]) * 64 * 1024)
            written += 1
        stream.exchange(b"last")

    async with serving(behavior) as path, connected(path) as stream:
        seen = -1
        while not 0 < written == seen:  # until it stands still
            seen = written
            await asyncio.sleep(0.1)
        assert written < 20, "the socket's buffer holds a few"
        for number in range(200):
            assert await receive(stream) == bytes([number]) * 64 * 1024
        assert await receive(stream) == b"last"
        assert await ended(stream) == (Code.OK, "")


async def test_messages_that_nobody_asks_for_stay_with_the_client() -> None:
    begin = asyncio.Event()

    async def behavior(stream: ServedLocalStream) -> None:
        await begin.wait()
        await echo(stream)

    async with serving(behavior) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(start_frame(()))
        writer.transport.set_write_buffer_limits(high=0)
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for _ in range(100):
                writer.write(frame(MESSAGE, bytes(64 * 1024)))
                await writer.drain()
                sent += 1

        flooding = asyncio.create_task(flood())
        seen = -1
        while not 0 < sent == seen:
            seen = sent
            await asyncio.sleep(0.1)
        assert sent < 20
        begin.set()
        frames, reads = FrameReader(LARGEST), 0
        while reads < 100:
            reads += len(frames.feed(await reader.read(2**16)))
        await flooding
        writer.close()


async def test_connection_that_says_nothing_and_leaves_is_forgotten() -> None:
    async with serving(echo) as path:
        for _ in range(3):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(path))
            connection.close()
        async with connected(path) as stream:
            stream.send(b"x")
            assert await receive(stream) == b"x"


async def test_client_that_reads_no_replies_is_answered_no_more_until_it_does() -> None:
    answered = 0

    async def behavior(stream: ServedLocalStream) -> None:
        def take(message: bytes) -> bool:
            nonlocal answered
            answered += 1
            stream.exchange(message + bytes(1024 * 1024))
            return True

        assert await stream.read(take) is None

    async with serving(behavior) as path, connected(path) as stream:
        for number in range(40):
            stream.send(bytes([number]))
        seen = -1
        while not 0 < answered == seen:  # until it stands still
            seen = answered
            await asyncio.sleep(0.1)
        assert answered < 10, "a few MiB are held, and the kernel has less than one"
        for number in range(40):
            assert (await receive(stream))[0] == number
        await asyncio.to_thread(stream.finish)
        assert await ended(stream) == (Code.OK, "")


async def test_connections_that_are_too_many_are_refused() -> None:
    async with serving(echo, most=2) as path:
        silent = [await asyncio.open_unix_connection(path) for _ in range(2)]
        assert await asyncio.to_thread(_status_after, path, b"") is Code.RESOURCE_EXHAUSTED
        for _, each in silent:
            each.close()
        while True:  # until the server has seen that they have gone
            async with connected(path) as stream:
                stream.send(b"x")
                with contextlib.suppress(StreamEnded):
                    assert await receive(stream) == b"x"
                    break


async def test_end_that_the_client_leaves_unread_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_UNREAD_SECONDS", 0.05)

    served: asyncio.Future[ServedLocalStream] = asyncio.get_running_loop().create_future()

    async def behavior(stream: ServedLocalStream) -> None:
        stream.exchange(bytes(3 * 1024 * 1024))
        served.set_result(stream)

    async with serving(behavior) as path, connected(path):
        await (await served).wait_closed()


def test_socket_of_a_killed_process_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    abandoned, other = tmp_path / "aisandbox-1" / "socket", tmp_path / "aisandbox-2" / "socket"
    for path in (abandoned, other):
        path.parent.mkdir()
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as killed:
        killed.bind(str(abandoned))
    other.write_text("no socket")

    async def open_twice() -> None:
        servers = [LocalStreamServer(echo, LARGEST) for _ in range(2)]
        paths = [server.open() for server in servers]
        assert not abandoned.parent.exists()
        assert other.exists()
        async with connected(paths[0]) as stream:
            stream.send(b"x")
            assert await receive(stream) == b"x"
        for server in servers:
            await server.close()

    asyncio.run(open_twice())
