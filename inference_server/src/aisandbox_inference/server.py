"""The inference-server: the policy calls, health, reflection and metrics behind one port.

Owns start, drain and stop. Must not know what a call does.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import Any

import grpc
import structlog
from aisandbox.v1 import policy_trainer_pb2 as pb
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, start_http_server

from aisandbox_inference.calls import PolicyCalls, create_policy_calls
from aisandbox_inference.errors import AddressInUse
from aisandbox_inference.health import SERVICE, ModelHealth
from aisandbox_inference.settings import Settings

log = structlog.get_logger(__name__)


class Server:
    """A server of published policies; one event loop, used once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._registry = CollectorRegistry()
        self._calls = create_policy_calls(settings, self._registry)
        self._health = ModelHealth(self._calls.models)
        self._grpc: grpc.aio.Server | None = None
        self._metrics_server: contextlib.ExitStack | None = None
        self.port = 0

    @property
    def address(self) -> str:
        """Where it listens, "host:port"."""
        return _join(self._settings.grpc_host, self.port)

    async def start(self) -> None:
        """Listen. Raises AddressInUse."""
        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # or a second server would silently take half of the connections
                ("grpc.max_receive_message_length", self._settings.max_message_bytes),
                ("grpc.keepalive_time_ms", 30_000),  # frees what a client that vanished held
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ]
        )
        _add_policy_calls(server, self._calls)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        wanted = _join(self._settings.grpc_host, self._settings.grpc_port)
        try:
            self.port = server.add_insecure_port(wanted)
        except RuntimeError as error:
            raise AddressInUse(wanted, "GRPC_PORT") from error
        self._serve_metrics()
        await server.start()
        self._grpc = server
        await self._health.ready()
        log.info("serving", address=self.address, models_dir=str(self._settings.models_dir))

    async def stop(self, grace: float | None = None) -> None:
        """Refuse new calls, let those under way end within ``grace`` seconds (None: as set), and close."""
        await self._health.enter_graceful_shutdown()
        self._calls.stop_streams()
        if self._grpc is not None:
            await self._grpc.stop(self._settings.stop_grace_seconds if grace is None else grace)
            self._grpc = None
        if self._metrics_server is not None:
            self._metrics_server.close()
        self._calls.close()
        log.info("stopped")

    async def serve(self) -> None:
        """Start, serve until SIGTERM or SIGINT, and stop."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Not add_signal_handler, which Windows lacks.
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
        await self.start()
        await stop.wait()
        log.info("draining", grace_seconds=self._settings.stop_grace_seconds)
        await self.stop()

    def _serve_metrics(self) -> None:
        port = self._settings.metrics_port
        if port is None:
            return
        try:
            http, thread = start_http_server(port, self._settings.grpc_host, self._registry)
        except OSError as error:
            raise AddressInUse(_join(self._settings.grpc_host, port), "METRICS_PORT") from error
        self._metrics_server = contextlib.ExitStack()
        self._metrics_server.callback(thread.join)
        self._metrics_server.callback(http.server_close)
        self._metrics_server.callback(http.shutdown)


def _add_policy_calls(server: grpc.aio.Server, calls: PolicyCalls) -> None:
    """Serve the five calls; the others of the service answer UNIMPLEMENTED."""
    methods = pb.DESCRIPTOR.services_by_name["PolicyTrainerService"].methods_by_name
    makers: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "Act": (grpc.unary_unary_rpc_method_handler, calls.Act),
        "ActBatch": (grpc.unary_unary_rpc_method_handler, calls.ActBatch),
        "ActStream": (grpc.stream_stream_rpc_method_handler, calls.ActStream),
        "GetModel": (grpc.unary_stream_rpc_method_handler, calls.GetModel),
        "DescribeModel": (grpc.unary_unary_rpc_method_handler, calls.DescribeModel),
    }
    handlers = {
        name: make(
            behaviour,
            request_deserializer=GetMessageClass(methods[name].input_type).FromString,
            response_serializer=GetMessageClass(methods[name].output_type).SerializeToString,
        )
        for name, (make, behaviour) in makers.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def create_server(settings: Settings) -> Server:
    """Return a server that is not started."""
    return Server(settings)
