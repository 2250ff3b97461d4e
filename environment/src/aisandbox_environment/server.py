"""Serves a simulation as an EnvironmentService.

Owns the server: port, health, reflection, capacity, stop. Must not know what is simulated.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import structlog
from aisandbox.v1 import environment_pb2 as pb
from aisandbox_process import join_host_port
from aisandbox_process.grpc_direct import direct_is_used, serve_streams
from aisandbox_process.grpc_reflection import enable_reflection
from aisandbox_process.small_requests import SmallRequests
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from aisandbox_environment.channels import SERVER_OPTIONS, SESSION_METHOD
from aisandbox_environment.session_handler import Capacity, SessionHandler
from aisandbox_environment.simulation import Simulation
from aisandbox_environment.spec import PROTOCOL_VERSION, check_reply_timeout

log = structlog.get_logger(__name__)

SERVICE = pb.DESCRIPTOR.services_by_name["EnvironmentService"].full_name
_THREADS = 16
_MOST_PUBLIC_SESSIONS = 256
_FREED_WITHIN = 5.0


class EnvironmentServer:
    """A simulation served on a port. ``port`` is set by the constructor; calls are answered after :meth:`start`."""

    def __init__(
        self, simulation: Simulation, host: str, port: int, capacity: int, *, direct: bool, reply_timeout: float = 0.0
    ) -> None:
        self._simulation = simulation
        self._capacity = Capacity(capacity)
        self._reply_timeout = check_reply_timeout(reply_timeout, "reply_timeout")
        threads = _THREADS if direct else _THREADS + _MOST_PUBLIC_SESSIONS
        self._server = grpc.server(
            ThreadPoolExecutor(threads, "simulator"), interceptors=[SmallRequests()], options=SERVER_OPTIONS
        )
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Describe": grpc.unary_unary_rpc_method_handler(
                self._describe, pb.DescribeRequest.FromString, pb.DescribeResponse.SerializeToString
            )
        }
        self._sessions = serve_streams(self._server, SESSION_METHOD, self._new_handler, direct=direct)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        enable_reflection(self._server, (SERVICE, health.SERVICE_NAME))
        self.host = host
        try:
            self.port = self._server.add_insecure_port(join_host_port(host, port))
        except RuntimeError:
            raise OSError(f"cannot listen on {join_host_port(host, port)}: is the port in use?") from None
        self._stopped = threading.Event()

    @property
    def address(self) -> str:
        """The address it listens on, ``host:port``."""
        return join_host_port(self.host, self.port)

    @property
    def in_use(self) -> int:
        """The number of environments of its open sessions."""
        return self._capacity.in_use

    def start(self) -> None:
        """Answer calls from now on, in threads of its own."""
        self._server.start()
        self._sessions.start()
        for name in ("", SERVICE):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        log.info("simulator listens", simulation=self._simulation.name, address=self.address)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has stopped, at most ``timeout`` seconds; returns whether it has. Signal handlers run."""
        return self._stopped.wait(timeout)

    def stop(self, grace: float = 1.0) -> None:
        """Refuse new calls, end the open sessions after ``grace`` seconds, wait up to 10 s for their environments."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace).wait()
        self._sessions.join(_FREED_WITHIN)
        if not self._capacity.wait_until_free(_FREED_WITHIN):
            log.warning("environments still in use", address=self.address, environments=self._capacity.in_use)
        self._stopped.set()
        log.info("simulator stopped", address=self.address)

    def __enter__(self) -> EnvironmentServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(0)

    def _describe(self, _request: pb.DescribeRequest, _context: grpc.ServicerContext) -> pb.DescribeResponse:
        return pb.DescribeResponse(
            protocol_version=PROTOCOL_VERSION,
            name=self._simulation.name,
            version=self._simulation.version,
            spec=self._simulation.spec.to_proto(),
            capacity=self._capacity.limit,
            in_use=self._capacity.in_use,
        )

    def _new_handler(self) -> SessionHandler:
        return SessionHandler(self._simulation, self._capacity, self._reply_timeout)


def create_environment_server(
    simulation: Simulation,
    host: str = "127.0.0.1",
    port: int = 0,
    capacity: int = 0,
    *,
    direct: bool | None = None,
    reply_timeout: float = 0.0,
) -> EnvironmentServer:
    """A server for ``simulation``, not yet started.

    ``port``: 0 picks a free one. ``capacity``: the most environments of all sessions together; 0: no limit.
    ``reply_timeout``: how many seconds trainers are asked to wait for each reply, at most a day, for a program that may
    be halted at a breakpoint; 0: as long as they wait by themselves.

    ``direct``: whether the thread of a session polls for its own messages; None: as
    :func:`aisandbox_process.grpc_direct.direct_is_used` says. Raises OSError if the port cannot be had, InvalidValue
    for a wrong ``reply_timeout``.
    """
    direct = direct_is_used() if direct is None else direct
    return EnvironmentServer(simulation, host, port, capacity, direct=direct, reply_timeout=reply_timeout)
