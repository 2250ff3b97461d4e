"""The service over HTTP: simulators that attach by a WebSocket, Act in JSON, and pages of other origins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aisandbox.v1 import environment_pb2, simulator_pool_pb2
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.simulator_pool_pb2 import AttachRequest, AttachResponse
from aisandbox_api import Server, Settings, create_server, http_api
from aisandbox_api.errors import AddressInUse
from aisandbox_api.local import LocalBackend
from aisandbox_environment import Registration
from aisandbox_environment.session_handler import Capacity, SessionHandler
from aisandbox_process.grpc_direct import StreamAborted
from attached_simulators import SECONDS, SIMULATION, PoolSession, registration, simulators_of
from pending_launcher import NeverReady

Code = grpc.StatusCode


class Policies:
    """Answers Act with the sum of the observation; refuses the run "none"."""

    async def Act(self, request: pb.ActRequest, context: Any) -> pb.ActResponse:
        if request.run_id == "none":
            await context.abort(Code.NOT_FOUND, "there is no run 'none'")
        action, state = [sum(request.observation)], request.state[::-1]
        return pb.ActResponse(action=action, model=request.model, model_timesteps=4096, state=state)

    ActBatch = DescribeModel = GetModel = ActStream = Act


@asynccontextmanager
async def serving(tmp_path: Path, **fields: Any) -> AsyncIterator[tuple[Server, str, aiohttp.ClientSession]]:
    admit = fields.pop("admit", None)
    settings = Settings(grpc_port=0, http_port=0, models_dir=tmp_path, **fields)
    backend = LocalBackend(settings, NeverReady())
    server = create_server(settings, backend=backend, policy_calls=Policies(), admit_simulator=admit)
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield server, f"http://127.0.0.1:{server.http_port}", session
    finally:
        await server.stop(grace=0)


async def receive(socket: aiohttp.ClientWebSocketResponse) -> AttachResponse:
    message = await socket.receive(SECONDS)
    assert message.type is aiohttp.WSMsgType.BINARY, (message, socket.close_code)
    return AttachResponse.FromString(message.data)


async def attach(socket: aiohttp.ClientWebSocketResponse, message: AttachRequest) -> None:
    await socket.send_bytes(message.SerializeToString())
    assert (await receive(socket)).WhichOneof("message") == "registered"


async def serve(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Answers the requests of a session until it has ended."""
    handler = SessionHandler(SIMULATION, Capacity(0))
    while (message := await receive(socket)).WhichOneof("message") == "request":
        reply = environment_pb2.SimulatorReply.FromString(handler.handle(message.request.SerializeToString()))
        await socket.send_bytes(AttachRequest(reply=reply).SerializeToString())
    await socket.send_bytes(AttachRequest(session_ended=simulator_pool_pb2.SessionEnded()).SerializeToString())


async def test_simulator_attaches_by_a_web_socket_and_serves_a_session(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as (server, url, session),
        session.ws_connect(f"{url}/v1/simulators/arena") as socket,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        await attach(socket, registration(pool="", environments=2))
        simulating = asyncio.create_task(serve(socket))
        trainer = PoolSession(channel)
        assert (await trainer.open(2)).open.environments == 2
        assert len((await trainer.reset()).reset.observations[0].data) == 8
        assert (await trainer.finish())[0] is Code.OK
        await simulating
        (found,) = await simulators_of(channel)
        assert (found.pool, found.instance, found.in_session) == ("arena", "one", False)
        await socket.close()
        async with asyncio.timeout(SECONDS):
            while await simulators_of(channel):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


REFUSALS: list[tuple[str | bytes, Code, str]] = [
    (registration(pool="other").SerializeToString(), Code.INVALID_ARGUMENT, "must be 'arena' as in the address"),
    (registration(protocol_version=9).SerializeToString(), Code.FAILED_PRECONDITION, "speaks version 9"),
    (b"rubbish", Code.INVALID_ARGUMENT, "must be the first message"),
    ("text", Code.INVALID_ARGUMENT, "must be a binary frame"),
]


async def test_refusal_closes_the_socket_with_a_code_and_a_sentence(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, url, session):
        for message, code, words in REFUSALS:
            socket = await session.ws_connect(f"{url}/v1/simulators/arena")
            await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
            closed = await socket.receive(SECONDS)
            assert (closed.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 4000 + code.value[0])
            assert words in str(closed.extra)


async def test_stop_closes_the_sockets_with_unavailable(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, url, session), session.ws_connect(f"{url}/v1/simulators/arena") as socket:
        await attach(socket, registration())
        stopping = asyncio.create_task(server.stop(grace=0))
        closed = await socket.receive(SECONDS)
        assert (socket.close_code, closed.extra) == (4014, "the service is stopping: attach again")
        await stopping


async def test_act_is_answered_in_json(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, url, session):
        answer = await session.post(f"{url}/v1/runs/some/act", json={"observation": [1, 2.5], "model": "best"})
        assert answer.status == 200
        assert await answer.json() == {"action": [3.5], "model": "best", "modelTimesteps": "4096"}
        answer = await session.post(f"{url}/v1/runs/some/act", json={"observation": [1], "state": "AQI="})
        assert (await answer.json())["state"] == "AgE="


ERRORS = [
    ("/v1/runs/none/act", b"{}", 404, "there is no run 'none'"),
    ("/v1/runs/some/act", b"{", 400, "ActRequest in protobuf's JSON form"),
    ("/v1/runs/some/act", b"[]", 400, "must be an object"),
    ("/v1/runs/some/act", b'{"observations":[1]}', 400, "observations"),
    ("/v1/runs/some/act", b'{"observation":["a"]}', 400, "observation"),
    ("/v1/runs/some/act", b"[" * 100_000, 400, "ActRequest in protobuf's JSON form"),
    ("/v1/runs/some/act", b" " * 5 * 1024 * 1024, 413, "Request Entity Too Large"),
    ("/other", b"{}", 404, "Not Found"),
]


async def test_errors_are_json_with_a_sentence(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, url, session):
        for path, body, status, words in ERRORS:
            answer = await session.post(url + path, data=body)
            assert (answer.status, words in (await answer.json())["message"]) == (status, True), (path, body[:40])


async def test_body_that_does_not_arrive_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_api, "BODY_SECONDS", 0.05)
    async with serving(tmp_path) as (server, _, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
        head = b"POST /v1/runs/some/act HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(head + b"Content-Length: 10\r\n\r\n{")
        assert b" 408 " in await asyncio.wait_for(reader.readline(), SECONDS)
        writer.close()


async def test_body_in_an_unknown_charset_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, url, session):
        headers = {"Content-Type": "application/json; charset=klingon"}
        async with session.post(f"{url}/v1/runs/some/act", data=b"{}", headers=headers) as answer:
            assert (answer.status, "klingon" in (await answer.json())["message"]) == (400, True)


async def test_status_of_an_unknown_run_is_not_found(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, url, session), session.get(f"{url}/v1/runs/some") as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, Code.NOT_FOUND.value[0])


@pytest.mark.parametrize(
    ("origins", "allowed", "refused"),
    [
        (
            (),
            ("http://localhost:8000", "http://[::1]:1"),
            ("https://example.com", "null", "http://localhost.example.com"),
        ),
        (("https://example.com", "null"), ("https://example.com", "null"), ("http://localhost:8000",)),
        (("*",), ("https://example.com", "null"), ()),
    ],
)
async def test_pages_are_allowed_by_their_origin(
    tmp_path: Path, origins: tuple[str, ...], allowed: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    async with serving(tmp_path, http_origins=origins) as (_, url, session):
        for origin in allowed:
            headers = {"Origin": origin}
            answer = await session.options(f"{url}/v1/runs/some/act", headers=headers)
            assert (answer.status, answer.headers.get("Access-Control-Allow-Origin")) == (204, origin)
            await (await session.ws_connect(f"{url}/v1/simulators/arena", headers=headers)).close()
        for origin in refused:
            headers = {"Origin": origin}
            answer = await session.options(f"{url}/v1/runs/some/act", headers=headers)
            assert (answer.status, "Access-Control-Allow-Origin" in answer.headers) == (403, False)
            assert "HTTP_ORIGINS" in (await answer.json())["message"]
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                await session.ws_connect(f"{url}/v1/simulators/arena", headers=headers)


@pytest.mark.parametrize(
    ("origins", "host", "status"),
    [
        ((), "10.0.0.5:8080", 204),
        ((), "[fd00::5]:8080", 204),
        ((), "localhost:8080", 204),
        ((), "rl.example.com", 403),
        ((), "127.0.0.1.example.com", 403),
        (("http://rl.example.com",), "rl.example.com", 204),
    ],
)
async def test_page_of_the_services_own_host_is_allowed_where_nobody_can_choose_the_name(
    tmp_path: Path, origins: tuple[str, ...], host: str, status: int
) -> None:
    async with serving(tmp_path, http_origins=origins) as (_, url, session):
        headers = {"Origin": f"http://{host}", "Host": host}
        async with session.options(f"{url}/v1/runs/some/act", headers=headers) as answer:
            assert answer.status == status


@pytest.mark.parametrize(
    ("origins", "host", "status"),
    [
        ((), "rl.example.com", 403),
        ((), "localhost:1", 404),
        (("http://rl.example.com",), "rl.example.com", 404),
        (("http://rl.example.com",), "other.example.com", 403),
        (("*",), "rl.example.com", 404),
    ],
)
async def test_request_without_an_origin_needs_a_name_of_this_machine_at_loopback(
    tmp_path: Path, origins: tuple[str, ...], host: str, status: int
) -> None:
    async with (
        serving(tmp_path, http_origins=origins) as (_, url, session),
        session.get(f"{url}/v1/runs/some", headers={"Host": host}) as answer,
    ):
        assert (answer.status, ("Host: " in (await answer.json())["message"])) == (status, status == 403)


async def test_port_in_use_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    async with serving(tmp_path / "a") as (server, _, _):
        settings = Settings(grpc_port=0, http_port=server.http_port, models_dir=tmp_path / "b")
        second = create_server(settings, backend=LocalBackend(settings, NeverReady()))
        with pytest.raises(AddressInUse, match="HTTP_PORT"):
            await second.start()


async def test_limits_hold_for_web_sockets_too(tmp_path: Path) -> None:
    async with serving(tmp_path, max_simulators=1) as (_, url, session):
        first = await session.ws_connect(f"{url}/v1/simulators/arena")
        await attach(first, registration())
        second = await session.ws_connect(f"{url}/v1/simulators/arena")
        closed = await second.receive(SECONDS)
        assert (second.close_code, "MAX_SIMULATORS" in str(closed.extra)) == (4008, True)


async def test_admission_may_refuse_a_simulator_by_the_headers_of_its_request(tmp_path: Path) -> None:
    async def admit(_new: Registration, metadata: Mapping[str, str]) -> None:
        if metadata.get("authorization") != "Bearer secret":
            raise StreamAborted(Code.PERMISSION_DENIED, "this caller may not join the pool")

    async with serving(tmp_path, admit=admit) as (_, url, session):
        refused = await session.ws_connect(f"{url}/v1/simulators/arena")
        await refused.send_bytes(registration().SerializeToString())
        closed = await refused.receive(SECONDS)
        assert (refused.close_code, closed.extra) == (4007, "this caller may not join the pool")
        headers = {"Authorization": "Bearer secret"}
        await attach(await session.ws_connect(f"{url}/v1/simulators/arena", headers=headers), registration())
