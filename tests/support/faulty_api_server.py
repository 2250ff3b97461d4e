"""A proxy before the API server that injects faults into calls and watches, and can kill the caller.

Owns HTTP: the passing on of calls, the lines of watches, the breaking of connections. Which faults: a subclass of
:class:`Faults`. Must not know what the operator wants.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from kubernetes import client, config

_HOP_BY_HOP = {"host", "connection", "transfer-encoding", "content-length", "content-encoding", "accept-encoding"}


@dataclass(frozen=True, slots=True)
class Call:
    """A request: ``subject`` is "jobs", "trainingruns/status", ...; ``name`` the object's, empty for many."""

    method: str
    subject: str
    name: str
    is_watch: bool
    content_type: str

    @property
    def is_write(self) -> bool:
        """Whether it may change something."""
        return self.method != "GET"

    def __str__(self) -> str:
        return f"{'WATCH' if self.is_watch else self.method} {self.subject} {self.name}".strip()


@dataclass(frozen=True, slots=True)
class Refuse:
    """The proxy answers with this status in the API server's place."""

    status: int
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Break:
    """The connection breaks: before the call is passed on, or ``done`` and without its answer.

    ``hang``: nothing is heard for so long first.
    """

    done: bool
    hang: float = 0.0


class Faults:
    """None. What subclasses override is called on the proxy's own thread."""

    def of(self, call: Call) -> Refuse | Break | None:
        """What happens to a call; None: nothing."""
        return None

    def done(self, call: Call, status: int) -> bool:
        """The API server has answered a call; False: the answer is lost."""
        return True

    def edit(self, call: Call, line: bytes) -> list[bytes] | None:
        """What the watcher sees for an event; None: the watch ends here."""
        return [line]

    def ended(self, call: Call) -> list[bytes]:
        """What the watcher sees yet when the API server ends the watch."""
        return []


class FaultyApiServer:
    """Passes calls on as the user of kubectl. :attr:`faults` may be changed at any time."""

    def __init__(self, context: str, faults: Faults) -> None:
        self.faults = faults
        self.port = 0
        self._upstream: Any = client.Configuration()
        load: Any = config.load_kube_config
        load(context=context or None, client_configuration=self._upstream)
        self._session: aiohttp.ClientSession | None = None
        self._streams: dict[int, web.Request] = {}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listens on :attr:`port` of this machine."""
        context = ssl.create_default_context(cafile=self._upstream.ssl_ca_cert)
        if self._upstream.cert_file:
            context.load_cert_chain(self._upstream.cert_file, self._upstream.key_file)
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        application = web.Application(client_max_size=2**24)
        application.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=True) as self._session:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port = runner.addresses[0][1]
            try:
                yield
            finally:
                await runner.cleanup()

    def write_kubeconfig(self, path: Path) -> Path:
        """A kubeconfig that leads here."""
        cluster = {"name": "faulty", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}
        context = {"name": "faulty", "context": {"cluster": "faulty", "user": "faulty"}}
        user: dict[str, Any] = {"name": "faulty", "user": {}}
        content = {"apiVersion": "v1", "kind": "Config", "current-context": "faulty"}
        path.write_text(json.dumps({**content, "clusters": [cluster], "contexts": [context], "users": [user]}))
        return path

    def cut(self) -> None:
        """Breaks every watch."""
        for request in list(self._streams.values()):
            _abort(request)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        call = _call(request)
        fate = self.faults.of(call)
        if isinstance(fate, Refuse):
            return _refusal(fate)
        if isinstance(fate, Break) and not fate.done:
            return await _broken(request, fate.hang)
        try:
            async with self._forward(request) as answer:
                if call.is_watch and answer.status == 200:
                    return await self._stream(request, call, answer)
                body = await answer.read()
        except (aiohttp.ClientError, OSError):
            return await _broken(request, 0.0)
        if not self.faults.done(call, answer.status):
            return await _broken(request, 0.0)
        if isinstance(fate, Break):
            return await _broken(request, fate.hang)
        headers = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP_BY_HOP}
        return web.Response(status=answer.status, headers=headers, body=body)

    @asynccontextmanager
    async def _forward(self, request: web.Request) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP}
        if token := self._upstream.get_api_key_with_prefix("authorization"):
            headers["Authorization"] = token
        url = self._upstream.host + request.path_qs
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        body = await request.read()
        async with self._session.request(
            request.method, url, headers=headers, data=body or None, timeout=timeout
        ) as answer:
            yield answer

    async def _stream(self, request: web.Request, call: Call, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        self._streams[id(request)] = request
        try:
            await response.prepare(request)
            buffer = b""
            async for data in answer.content.iter_any():
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    edited = self.faults.edit(call, line)
                    if edited is None:
                        return response
                    for each in edited:
                        await response.write(each + b"\n")
            for each in self.faults.ended(call):
                await response.write(each + b"\n")
        except (aiohttp.ClientError, OSError):
            _abort(request)
        finally:
            self._streams.pop(id(request), None)
        return response


@contextmanager
def faulty_api_server(context: str, faults: Faults) -> Iterator[FaultyApiServer]:
    """The proxy on a thread and loop of its own."""
    started, stop, server = threading.Event(), threading.Event(), FaultyApiServer(context, faults)

    async def serve() -> None:
        async with server.serving():
            started.set()
            await asyncio.to_thread(stop.wait)
            server.cut()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="faulty-api-server", daemon=True)
    thread.start()
    try:
        if not started.wait(30):
            raise RuntimeError("the proxy before the API server did not start")
        yield server
    finally:
        stop.set()
        thread.join(30)


def _call(request: web.Request) -> Call:
    parts = request.path.strip("/").split("/")
    rest = parts[parts.index("namespaces") + 2 :] if "namespaces" in parts else parts[-1:]
    subject = "/".join([*rest[:1], *rest[2:]])
    is_watch = request.query.get("watch", "") in ("true", "1")
    return Call(request.method, subject, rest[1] if len(rest) > 1 else "", is_watch, request.content_type)


def _refusal(fate: Refuse) -> web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {}, "code": fate.status}
    reasons = {409: "Conflict", 429: "TooManyRequests", 410: "Expired", 500: "InternalError"}
    body = {**status, "reason": reasons.get(fate.status, "Unknown"), "message": "this was injected"}
    headers = {} if fate.retry_after is None else {"Retry-After": str(fate.retry_after)}
    return web.json_response(body, status=fate.status, headers=headers)


async def _broken(request: web.Request, hang: float) -> web.Response:
    """The connection is cut after a while, or once the client has gone."""
    until = asyncio.get_running_loop().time() + hang
    while asyncio.get_running_loop().time() < until and request.transport is not None:  # noqa: ASYNC110 - no event tells it
        await asyncio.sleep(0.1)
    _abort(request)
    return web.Response(status=500)


def _abort(request: web.Request) -> None:
    with contextlib.suppress(Exception):
        if request.transport is not None:
            request.transport.abort()
