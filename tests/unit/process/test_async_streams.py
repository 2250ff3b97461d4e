"""Streams of grpc.aio servers, by grpc.aio itself and by a queue of their own: both do the same."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from aisandbox_process.grpc_direct import AsyncStreams, ServedStream, async_streams, choice, self_test
from aisandbox_process.grpc_direct.async_streams import DirectAsyncStreams, PublicAsyncStreams

METHOD = "/aisandbox.Test/Stream"
SECONDS = 60.0
Code = grpc.StatusCode
Open = Callable[..., Any]


@asynccontextmanager
async def serving(behavior: Any, *, direct: bool, interceptors: Any = ()) -> AsyncIterator[Open]:
    """Serves the method; gives what calls it."""
    streams = await async_streams(direct=direct)
    server = grpc.aio.server(interceptors=interceptors)
    handlers: dict[str, Any] = {"Stream": grpc.stream_stream_rpc_method_handler(behavior)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("aisandbox.Test", handlers),))
    streams.take_over(server, METHOD, behavior, interceptors)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    streams.start()
    async with asyncio.timeout(SECONDS), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield lambda **options: channel.stream_stream(METHOD)(**options)
    await server.stop(0)
    await streams.close()


async def echo(_requests: Any, context: Any) -> None:
    while isinstance(message := await context.read(), bytes):
        await context.write(message)


@pytest.mark.parametrize("direct", [True, False])
async def test_stream_echoes_and_ends_well(direct: bool) -> None:
    async with serving(echo, direct=direct) as open_stream:
        call = open_stream()
        for message in (b"a", b"", bytes(100_000)):
            await call.write(message)
            assert await call.read() == message
        await call.done_writing()
        assert await call.code() is Code.OK


@pytest.mark.parametrize("direct", [True, False])
async def test_abort_gives_its_status_also_before_the_first_message(direct: bool) -> None:
    async def refuse(_requests: Any, context: Any) -> None:
        assert ("name", "value") in {(key, value) for key, value in context.invocation_metadata()}
        assert context.peer().startswith("ipv4:127.0.0.1:")
        await context.abort(Code.RESOURCE_EXHAUSTED, "too many")

    async with serving(refuse, direct=direct) as open_stream:
        call = open_stream(metadata=(("name", "value"),))
        assert (await call.code(), await call.details()) == (Code.RESOURCE_EXHAUSTED, "too many")


@pytest.mark.parametrize("direct", [True, False])
async def test_error_of_a_method_ends_its_stream_only(direct: bool) -> None:
    async def fail(_requests: Any, context: Any) -> None:
        if await context.read() == b"fail":
            raise ValueError("secret")
        await context.write(b"well")

    async with serving(fail, direct=direct) as open_stream:
        failing, well = open_stream(), open_stream()
        await failing.write(b"fail")
        assert await failing.code() is Code.UNKNOWN
        await well.write(b"go")
        assert await well.read() == b"well"


@pytest.mark.parametrize("direct", [True, False])
async def test_cancellation_by_the_client_cancels_the_method(direct: bool) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(_requests: Any, context: Any) -> None:
        await context.read()
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with serving(wait, direct=direct) as open_stream:
        call = open_stream()
        await call.write(b"go")
        await began.wait()
        call.cancel()
        await cancelled.wait()


class Gate(grpc.aio.ServerInterceptor):
    """Lets in who has the password, and remembers the methods."""

    def __init__(self) -> None:
        self.methods: list[str] = []

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        self.methods.append(details.method)
        if ("password", "right") in {(key, value) for key, value in details.invocation_metadata}:
            return await continuation(details)

        async def refuse(_requests: Any, context: Any) -> None:
            await context.abort(Code.UNAUTHENTICATED, "no password")

        return grpc.stream_stream_rpc_method_handler(refuse)


@pytest.mark.parametrize("direct", [True, False])
async def test_interceptors_are_asked(direct: bool) -> None:
    gates = Gate(), Gate()
    async with serving(echo, direct=direct, interceptors=gates) as open_stream:
        admitted, refused = open_stream(metadata=(("password", "right"),)), open_stream()
        await admitted.write(b"hello")
        assert await admitted.read() == b"hello"
        assert await refused.code() is Code.UNAUTHENTICATED
    assert [gate.methods for gate in gates] == [[METHOD, METHOD], [METHOD]]


async def test_messages_that_are_taken_do_not_reach_the_event_loop() -> None:
    threads: set[threading.Thread] = set()
    rest: list[bytes] = []

    async def method(_requests: Any, stream: ServedStream) -> None:
        def take(message: bytes) -> bool:
            threads.add(threading.current_thread())
            if message.startswith(b"take"):
                stream.exchange(message)
                return True
            return False

        while (message := await stream.read(take)) is not None:
            rest.append(message)
            await stream.write(message)

    async with serving(method, direct=True) as open_stream:
        call = open_stream()
        for message in (b"take 1", b"take 2", b"3", b"take 4"):
            await call.write(message)
            assert await call.read() == message
        await call.done_writing()
        assert await call.code() is Code.OK
    assert rest == [b"3"]
    assert threading.current_thread() not in threads


async def test_message_that_comes_while_nobody_reads_is_kept() -> None:
    taken: list[bytes] = []

    async def method(_requests: Any, stream: ServedStream) -> None:
        def take(message: bytes) -> bool:
            taken.append(message)
            return message == b"taken"

        for _ in range(2):
            stream.ask()
            while stream._is_receiving:  # noqa: ASYNC110 -- of another thread
                await asyncio.sleep(0)
            stream.ask()  # for no other one: this one is not read yet
            await stream.write(await stream.read(take) or b"")
        assert await stream.read(take) is None

    async with serving(method, direct=True) as open_stream:
        call = open_stream()
        await call.write(b"kept")
        assert await call.read() == b"kept"
        for message in (b"taken", b"next"):
            await call.write(message)
        assert await call.read() == b"next"
        await call.done_writing()
        assert await call.code() is Code.OK
    assert taken == [b"kept", b"taken", b"next"]


async def test_what_is_written_during_an_exchange_follows_it() -> None:
    exchanging = asyncio.Event()

    async def method(_requests: Any, stream: ServedStream) -> None:
        loop = asyncio.get_running_loop()

        def take(message: bytes) -> bool:
            if message == b"first":
                stream.exchange(b"answer")
                loop.call_soon_threadsafe(exchanging.set)
            return message == b"first"

        reading = asyncio.create_task(stream.read(take))
        await exchanging.wait()
        await stream.write(b"later")
        await stream.write(await reading or b"")

    async with serving(method, direct=True) as open_stream:
        call = open_stream()
        await call.write(b"first")
        assert await call.read() == b"answer"
        await call.write(b"second")
        assert [await call.read(), await call.read()] == [b"later", b"second"]
        assert await call.code() is Code.OK


async def test_end_of_messages_is_told_from_a_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    told: asyncio.Queue[bool] = asyncio.Queue()

    async def method(_requests: Any, stream: ServedStream) -> None:
        async def tell() -> None:
            while (message := await stream.read()) is not None:
                await stream.write(message)
            await told.put(await stream.is_cancelled())

        await asyncio.shield(asyncio.create_task(tell()))

    async with serving(method, direct=True) as open_stream:
        closed, cancelled = open_stream(), open_stream()
        await closed.write(b"message")
        await closed.done_writing()
        assert await told.get() is False
        await cancelled.write(b"message")
        assert await cancelled.read() == b"message"  # a method that is cancelled before it begins tells nothing
        monkeypatch.setattr(
            "aisandbox_process.grpc_direct.served_stream._APART_SECONDS", SECONDS
        )  # however late its event
        cancelled.cancel()
        assert await told.get() is True


async def test_cancellation_is_waited_for_that_comes_after_the_end_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    told: asyncio.Queue[bool] = asyncio.Queue()
    asked, on_close = threading.Event(), ServedStream._on_close

    def close_late(self: ServedStream, event: Any) -> None:
        asked.wait(SECONDS)
        on_close(self, event)

    monkeypatch.setattr(ServedStream, "_on_close", close_late)
    monkeypatch.setattr("aisandbox_process.grpc_direct.served_stream._APART_SECONDS", SECONDS)

    async def method(_requests: Any, stream: ServedStream) -> None:
        async def tell() -> None:
            while (message := await stream.read()) is not None:
                await stream.write(message)
            telling = asyncio.create_task(stream.is_cancelled())
            while stream._closing is None:  # noqa: ASYNC110 -- until it waits
                await asyncio.sleep(0)
            asked.set()
            await told.put(await telling)

        await asyncio.shield(asyncio.create_task(tell()))

    async with serving(method, direct=True) as open_stream:
        call = open_stream()
        await call.write(b"message")
        assert await call.read() == b"message"
        call.cancel()
        assert await told.get() is True


async def test_streams_of_a_server_that_stops_end() -> None:
    streams: AsyncStreams = DirectAsyncStreams()
    server = grpc.aio.server()
    streams.take_over(server, METHOD, echo, ())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    streams.start()
    before = [thread for thread in threading.enumerate() if thread.name == "streams"]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.stream_stream(METHOD)()
        await call.write(b"hello")
        assert await call.read() == b"hello"
        await server.stop(0)
        assert await call.code() is not Code.OK
    await streams.close()
    assert before
    assert not [thread for thread in before if thread.is_alive()]


async def test_call_that_is_accepted_while_the_server_stops_is_served() -> None:
    class Stopping:
        def request_registered_call(self, *_: Any) -> None:
            raise ValueError("cannot request a call of a server that is stopping")

    streams, server = DirectAsyncStreams(), grpc.aio.server()
    streams.take_over(server, METHOD, echo, ())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    streams.start()
    (method,) = streams._methods
    method._core = Stopping()
    async with asyncio.timeout(SECONDS), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.stream_stream(METHOD)()
        await call.write(b"hello")
        assert await call.read() == b"hello"
        await call.done_writing()
        assert await call.code() is Code.OK
    await server.stop(0)
    await streams.close()
    assert not [thread for thread in streams._threads if thread.is_alive()]


async def test_direct_streams_pass_their_self_test_with_the_locked_grpc() -> None:
    assert await self_test.find_async_problem() == ""


async def test_streams_are_those_of_grpc_where_the_self_test_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> str:
        return "no such name"

    monkeypatch.setattr(self_test, "find_async_problem", fail)
    monkeypatch.setattr(choice, "_async_work", None)
    monkeypatch.setenv("GRPC_DIRECT", "on")
    assert isinstance(await async_streams(), PublicAsyncStreams)
    monkeypatch.setattr(choice, "_async_work", True)
    assert isinstance(await async_streams(), DirectAsyncStreams)
    monkeypatch.setenv("GRPC_DIRECT", "off")
    assert isinstance(await async_streams(), PublicAsyncStreams)
