"""The service over HTTP, for what has no gRPC: a web page, an engine with an old runtime.

``GET /v1/simulators/POOL`` is SimulatorPoolService.Attach over a WebSocket, one message a binary frame;
``POST /v1/runs/RUN/act`` is Act and ``GET /v1/runs/RUN`` GetTrainingStatus, in protobuf's JSON form. Owns the HTTP
server and who may call it from a page of another origin. Must not know what the calls do.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import grpc
from aiohttp import web
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc
from aisandbox_access import (
    ACT_METHOD,
    ATTACH_METHOD,
    METHODS,
    STATUS_METHOD,
    AccessControl,
    AccessError,
    Caller,
    set_caller,
    status_of,
)
from aisandbox_environment import SimulatorRelay
from aisandbox_model_store import ModelStoreError
from aisandbox_process import ConnectionLimits
from aisandbox_process.grpc_options import channel_options
from aisandbox_process.tls import ServerCertificate
from google.protobuf.json_format import MessageToJson, ParseDict, ParseError
from google.protobuf.message import Message

from aisandbox_api.errors import ApiError
from aisandbox_api.http_listener import SILENT_SECONDS, HttpListener
from aisandbox_api.run_permissions import RunPermissions
from aisandbox_api.settings import LOOPBACK_HOSTS
from aisandbox_api.web_socket import TOKEN_PROTOCOL, serve_simulator

LARGEST_BODY = 4 * 1024 * 1024
"""Bytes of an Act in JSON."""
BODY_SECONDS = 30.0
STOP_SECONDS = 2.0

_HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""As grpc-gateway maps them; 500 for the others."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpApi:
    """The HTTP server. ``grpc_address``: of this service, without TLS.

    ``origins``: of pages; see HTTP_ORIGINS in settings.py. ``limits``: of the port's connections. ``certificate``: None
    for no TLS.
    """

    def __init__(
        self,
        relay: SimulatorRelay,
        access_control: AccessControl,
        permissions: RunPermissions,
        grpc_address: str,
        origins: Sequence[str],
        largest_message: int,
        limits: ConnectionLimits,
        certificate: ServerCertificate | None = None,
    ) -> None:
        self._certificate = certificate
        self._limits = limits
        self._listener: HttpListener | None = None
        self._relay = relay
        self._access_control = access_control
        self._permissions = permissions
        self._origins = tuple(origins)
        self._largest_message = largest_message
        self._channel = grpc.aio.insecure_channel(grpc_address, options=channel_options(ping_seconds=60))
        self._stub: Any = policy_trainer_pb2_grpc.PolicyTrainerServiceStub(self._channel)
        app = web.Application(client_max_size=LARGEST_BODY, middlewares=[self._check_origin])
        app.router.add_get("/v1/simulators/{pool}", self._admitting(ATTACH_METHOD, self._attach))
        app.router.add_get("/v1/runs/{run}", self._admitting(STATUS_METHOD, self._status))
        app.router.add_post("/v1/runs/{run}/act", self._admitting(ACT_METHOD, self._act))
        app.router.add_route("OPTIONS", "/v1/{path:.*}", self._preflight)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=STOP_SECONDS, keepalive_timeout=SILENT_SECONDS
        )
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listens. Raises OSError."""
        await self._runner.setup()
        context = None if self._certificate is None else self._certificate.http_context()
        new_protocol: Any = self._runner.server
        self._listener = HttpListener(new_protocol, self._limits, context)
        await self._listener.start(host, port)
        self.port = self._listener.port

    async def close(self) -> None:
        """Stops; the relay has ended the simulators before."""
        if self._listener is not None:
            await self._listener.stop_accepting()
        await self._runner.cleanup()
        if self._listener is not None:
            await self._listener.close()
        await self._channel.close()

    def _admitting(self, method: str, handler: Handler) -> Handler:
        """``handler``, which is ``method`` over HTTP, for those who may call it; the body is not read before."""

        async def handle(request: web.Request) -> web.StreamResponse:
            peer = _peer(request)
            try:
                caller = await self._access_control.admit(method, credentials(request))
            except AccessError as error:
                self._access_control.record_refusal(error, Caller(method), peer)
                return _error(status_of(error), str(error))
            set_caller(replace(caller, peer=peer))
            try:
                await self._check_run(method, caller, request.match_info.get("run", ""), peer)
            except AccessError as error:  # recorded with the peer, which a call of this process has not
                return _error(status_of(error), str(error))
            return await handler(request)

        return handle

    async def _check_run(self, method: str, caller: Caller, run: str, peer: str) -> None:
        """Raises AccessError if the caller may not use the run so. The call that follows says whether there is one."""
        permission = METHODS[method].permission
        if self._permissions.asks and run and permission is not None:
            with contextlib.suppress(ApiError, ModelStoreError):
                await self._permissions.run(permission, run, peer, caller)

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        pool, streams = request.match_info["pool"], self._access_control.streams
        return await serve_simulator(request, self._relay, pool, self._largest_message, streams)

    async def _status(self, request: web.Request) -> web.StreamResponse:
        message = pb.StatusRequest(run_id=request.match_info["run"])
        return await self._answer(self._stub.GetTrainingStatus, message, request)

    async def _act(self, request: web.Request) -> web.StreamResponse:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await request.json()
            if not isinstance(body, dict):
                raise ParseError("must be an object")
            message = ParseDict(body, pb.ActRequest())
        except (ValueError, LookupError, RecursionError, ParseError) as error:  # LookupError: a charset's name
            rule = "the body is an ActRequest in protobuf's JSON form, without runId"
            return _error(grpc.StatusCode.INVALID_ARGUMENT, f"{rule}: {error}"[:1000])
        except TimeoutError:
            rule = f"the body must arrive within {BODY_SECONDS:.0f} seconds"
            return _error(grpc.StatusCode.DEADLINE_EXCEEDED, rule, web.HTTPRequestTimeout.status_code)
        message.run_id = request.match_info["run"]
        return await self._answer(self._stub.Act, message, request)

    async def _answer(self, call: Any, message: Message, request: web.Request) -> web.StreamResponse:
        metadata = tuple(credentials(request).items()) or None
        try:
            answer = await call(message, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return _error(error.code(), error.details() or "")
        return web.Response(text=MessageToJson(answer), content_type="application/json")

    async def _preflight(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    @web.middleware
    async def _check_origin(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._listener is not None:
            self._listener.has_request(request.transport)
        origin = request.headers.get("Origin")
        if origin is None and _is_at_loopback(request) and not self._is_trusted_host(request.host):
            return _error(
                grpc.StatusCode.PERMISSION_DENIED,
                f"Host: {request.host[:200]!r} is not a name of this machine; use localhost or an address, or name the "
                "page in HTTP_ORIGINS",
            )
        if origin is not None and not self._is_allowed(origin, request.host):
            return _error(
                grpc.StatusCode.PERMISSION_DENIED,
                f"HTTP_ORIGINS: pages of {origin[:200]} may not use this service; an administrator can add them there",
            )
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = _error(_code_of(error.status), error.reason, error.status)
        if origin is not None and not response.prepared:
            response.headers.update(
                {
                    "Access-Control-Allow-Origin": origin,
                    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
                    "Access-Control-Allow-Headers": "Authorization, Content-Type",
                    "Access-Control-Max-Age": "600",
                    "Vary": "Origin",
                }
            )
        return response

    def _is_allowed(self, origin: str, host: str) -> bool:
        if "*" in self._origins or origin in self._origins:
            return True
        try:
            parts = urlsplit(origin)
            name = parts.hostname
        except ValueError:
            return False
        # Without a list: pages of this machine, and those that this host serves itself.
        own = parts.netloc == host and self._is_trusted_host(host)
        return not self._origins and (name in LOOPBACK_HOSTS or own)

    def _is_trusted_host(self, host: str) -> bool:
        """Whether a page cannot have chosen ``host``.

        Whoever owns a name may let it lead to this machine after their page was loaded from theirs (DNS rebinding); the
        page is then of the same origin as this service. Nobody can register an address or a loopback name as a domain.
        """
        if "*" in self._origins or host in {urlsplit(each).netloc for each in self._origins}:
            return True
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in LOOPBACK_HOSTS or _address(name) is not None


def credentials(request: web.Request) -> dict[str, str]:
    """What says who calls, as a call's metadata.

    A page cannot set headers of a WebSocket; its token is one of the protocols that it offers, as Kubernetes has it.
    """
    if header := request.headers.get("Authorization"):
        return {"authorization": header}
    for protocol in request.headers.get("Sec-WebSocket-Protocol", "").split(","):
        name = protocol.strip()
        if name.startswith(TOKEN_PROTOCOL):
            return {"authorization": f"Bearer {name.removeprefix(TOKEN_PROTOCOL)}"}
    return {}


def _peer(request: web.Request) -> str:
    """Where a request comes from, as gRPC writes it."""
    found = request.transport.get_extra_info("peername") if request.transport is not None else None
    if not found:
        return str(request.remote or "")
    return f"ipv6:[{found[0]}]:{found[1]}" if ":" in str(found[0]) else f"ipv4:{found[0]}:{found[1]}"


def _is_at_loopback(request: web.Request) -> bool:
    """Whether the request came to a loopback address, where no name but the machine's own is expected."""
    transport = request.transport
    own = transport.get_extra_info("sockname") if transport is not None else None
    address = _address(str(own[0])) if own else None
    return address is not None and address.is_loopback


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _code_of(status: int) -> grpc.StatusCode:
    return {404: grpc.StatusCode.NOT_FOUND, 405: grpc.StatusCode.UNIMPLEMENTED}.get(
        status, grpc.StatusCode.INVALID_ARGUMENT
    )


def _error(code: grpc.StatusCode, message: str, status: int | None = None) -> web.Response:
    number: Any = code.value[0]
    return web.json_response({"code": number, "message": message}, status=status or _HTTP_STATUS.get(code, 500))
