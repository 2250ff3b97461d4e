"""The inference-server: the policy calls, health and reflection at one port, metrics at METRICS_PORT.

Owns start, drain and stop. Must not know what a call does.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import structlog
from aisandbox_access import (
    PeerStreams,
    ThreadAccessControl,
    ThreadAuthInterceptor,
    check_exposure,
    create_access_control,
)
from aisandbox_model_store import RunStore
from aisandbox_process import join_host_port
from aisandbox_process.connection_watch import ConnectionWatch
from aisandbox_process.grpc_direct import MethodServer, serve_methods
from aisandbox_process.grpc_options import connection_age, connection_limit, server_options
from aisandbox_process.grpc_probe import health_probe
from aisandbox_process.grpc_reflection import enable_reflection
from aisandbox_process.grpc_tls import add_port
from aisandbox_process.metrics_server import MetricsServer
from aisandbox_process.small_requests import SmallRequests
from aisandbox_process.tls import ServerCertificate
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from aisandbox_inference.errors import AddressInUse
from aisandbox_inference.health import ModelHealth
from aisandbox_inference.policy_service import create_policy_service
from aisandbox_inference.rpc_methods import SERVICE, policy_methods
from aisandbox_inference.run_permissions import RunPermissions
from aisandbox_inference.settings import Settings

log = structlog.get_logger(__name__)


_MAX_THREADS = 1000
"""Threads are started when they are needed: one for each stream of reflection, and one for each health check that waits
for a model. (Without direct gRPC, one for each call about policies.)"""
LOCAL = "127.0.0.1"
SHARE_OF_FILES = 0.75
"""Of the files that this process may have open, for connections; the rest is for models."""
LINGER_SECONDS = 1.0
"""How long connections stay open after the server has ended its streams, so that the clients read the status."""


class Server:
    """A server of published policies; used once. Raises InvalidSetting for files of TLS that cannot be used."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._certificate = None if settings.tls is None else ServerCertificate(settings.tls)
        self._registry = CollectorRegistry()
        self._policies = create_policy_service(settings, self._registry)
        self._access_control: ThreadAccessControl | None = None
        self._health = ModelHealth(self._policies)
        self._threads = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="grpc")
        self._grpc: grpc.Server | None = None
        self._calls: MethodServer | None = None
        self._metrics_server: MetricsServer | None = None
        self._watch: ConnectionWatch | None = None
        self.port = 0

    @property
    def address(self) -> str:
        """The address it listens on, "host:port"."""
        return join_host_port(self._settings.grpc_host, self.port)

    def start(self) -> None:
        """Listen. Raises AddressInUse, InvalidSetting, InvalidTokenFile."""
        access = self._settings.access
        check_exposure(
            self._settings.grpc_host,
            authenticates=access.auth != "off",
            tls=self._settings.tls,
            insecure=access.insecure,
            variable="GRPC_HOST",
        )
        permissions = self._open_access_control()
        options = server_options(
            ping_seconds=30, ping_timeout_seconds=10, largest_message=self._settings.max_message_bytes
        )
        limits = access.connection_limits(SHARE_OF_FILES)
        if access.max_connections > limits.number:
            log.warning("MAX_CONNECTIONS is more than the open files allow", most=limits.number)
        server = grpc.server(
            self._threads,
            interceptors=[
                *([] if self._access_control is None else [ThreadAuthInterceptor(self._access_control, SERVICE)]),
                SmallRequests(),
            ],
            options=[
                *options,
                *connection_age(self._settings.max_connection_age_seconds),
                *connection_limit(limits.number),
            ],
        )
        calls = serve_methods(
            server, policy_methods(self._policies, permissions, PeerStreams(access.max_streams_per_peer))
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        enable_reflection(server, (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name))
        wanted = join_host_port(self._settings.grpc_host, self._settings.grpc_port)
        try:
            self.port = add_port(server, wanted, self._certificate)
        except RuntimeError as error:
            raise AddressInUse(wanted, "GRPC_PORT") from error
        # For this process itself: a probe of the kubelet has no TLS.
        local = self.address if self._certificate is None else join_host_port(LOCAL, add_port(server, f"{LOCAL}:0"))
        self._serve_metrics(local)
        self._watch = ConnectionWatch({self.port: limits})
        self._watch.start()
        server.start()
        calls.start()
        self._grpc, self._calls = server, calls
        self._health.ready()
        log.info("serving", address=self.address, models_dir=str(self._settings.models_dir))

    def stop(self, grace: float | None = None) -> None:
        """Refuse new calls, give running ones ``grace`` seconds to end (None: the setting), and close."""
        self._health.enter_graceful_shutdown()
        if self._grpc is not None and self._calls is not None:
            grace = self._settings.stop_grace_seconds if grace is None else grace
            if self._calls.stop_streams():
                # Closing a connection with unread messages would reset it, and a client that is writing to a stream
                # would get a broken transport and no status.
                threading.Event().wait(min(grace, LINGER_SECONDS))
            self._grpc.stop(grace).wait()
            self._grpc = self._calls = None
        if self._metrics_server is not None:
            self._metrics_server.close()
        if self._watch is not None:
            self._watch.close()
        if self._access_control is not None:
            self._access_control.close()
            self._access_control = None
        self._policies.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        log.info("stopped")

    def serve(self) -> None:
        """Start, serve until SIGTERM or SIGINT, and stop. In the main thread."""
        # A SimpleQueue, whose put may interrupt its own get.
        signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: signals.put(number))
        self.start()
        while True:
            with contextlib.suppress(queue.Empty):
                signals.get(timeout=1)  # with a timeout, because on Windows a signal does not interrupt it
                break
        log.info("draining", grace_seconds=self._settings.stop_grace_seconds)
        self.stop()

    def _open_access_control(self) -> RunPermissions | None:
        """Who may call what; None: everybody, without authentication."""
        settings = self._settings
        if settings.access.auth == "off":
            return None
        self._access_control = ThreadAccessControl(
            lambda: create_access_control(settings.access, settings.pod_namespace)
        )
        permissions = self._health.permissions = RunPermissions(
            self._access_control, RunStore(settings.models_dir), SERVICE
        )
        return permissions

    def _serve_metrics(self, local_address: str) -> None:
        port = self._settings.metrics_port
        if port is None:
            return
        try:
            self._metrics_server = MetricsServer(
                self._registry,
                self._settings.grpc_host,
                port,
                {"/livez": health_probe(local_address), "/readyz": health_probe(local_address)},
            )
        except OSError as error:
            raise AddressInUse(join_host_port(self._settings.grpc_host, port), "METRICS_PORT") from error


def create_server(settings: Settings) -> Server:
    """Return a server that is not started. Raises InvalidSetting."""
    return Server(settings)
