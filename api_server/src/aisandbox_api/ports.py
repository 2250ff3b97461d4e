"""The ports of the service: clients, trainers, HTTP and metrics, in the order in which they open and close.

Owns which settings each needs, and the watch over the connections of all. Must not know what the calls do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import structlog
from aisandbox_access import AioAuthInterceptor
from aisandbox_environment import SimulatorRelay
from aisandbox_process import ConnectionLimits, join_host_port, split_host_port
from aisandbox_process.connection_watch import ConnectionWatch
from aisandbox_process.grpc_direct import AsyncStreams, async_streams
from aisandbox_process.grpc_probe import health_probe
from aisandbox_process.metrics_server import MetricsServer
from aisandbox_process.tls import ServerCertificate
from prometheus_client import CollectorRegistry

from aisandbox_api.backend import Backend
from aisandbox_api.callers import Callers
from aisandbox_api.client_port import SERVICES, ClientPort
from aisandbox_api.errors import AddressInUse
from aisandbox_api.health import LIVENESS, RunHealth
from aisandbox_api.http_api import HttpApi
from aisandbox_api.port_options import (
    LARGEST_MESSAGE,
    client_options,
    limits_of_clients,
    limits_of_http,
    limits_of_trainers,
    trainer_options,
)
from aisandbox_api.progress_service import ProgressServicer
from aisandbox_api.settings import Settings
from aisandbox_api.trainer_auth import TrainerAuthInterceptor
from aisandbox_api.trainer_port import PROGRESS, TrainerPort
from aisandbox_api.trainer_socket import TrainerSocket
from aisandbox_api.visible_simulators import VisibleSimulators

log = structlog.get_logger()

LOCAL_TRAINER_ADDRESS = "127.0.0.1:0"
"""Where trainers of the local backend, which run on this machine, reach the service without another setting."""

LONGEST_CALL_GRACE_SECONDS = 10.0
"""A stream that no client ends (a watch of health) must not delay the stop as long as a checkpoint may take."""


@dataclass(frozen=True, slots=True)
class ServedCalls:
    """What answers the calls; ``policy_trainer``: the handlers of PolicyTrainerService by its methods."""

    policy_trainer: Mapping[str, Any]
    progress: ProgressServicer
    relay: SimulatorRelay
    pools: VisibleSimulators
    health: RunHealth


class Ports:
    """The ports of one service: they listen from :meth:`open` on, and answer from :meth:`start` on.

    For one event loop. ``address`` and ``trainer_address`` are where programs on this machine dial, ``own_address``
    where this process does; ``socket`` is that of trainers on this machine, if there is one.
    """

    def __init__(self, settings: Settings, callers: Callers, backend: Backend) -> None:
        self._settings = settings
        self._callers = callers
        self._backend = backend
        self._certificate = None if settings.tls is None else ServerCertificate(settings.tls)
        self._trainers_listen_at = settings.trainer_address
        if self._trainers_listen_at is None and settings.backend == "local":
            self._trainers_listen_at = LOCAL_TRAINER_ADDRESS
        self._client_port: ClientPort | None = None
        self._trainer_port: TrainerPort | None = None
        self._trainer_socket: TrainerSocket | None = None
        self._streams: AsyncStreams | None = None
        self._http: HttpApi | None = None
        self._metrics: MetricsServer | None = None
        self._watch: ConnectionWatch | None = None
        self._limits: dict[int, ConnectionLimits] = {}
        self.address = self.trainer_address = self.own_address = ""
        self.socket: Path | None = None

    @property
    def services(self) -> tuple[str, ...]:
        """The full names of the services that clients find."""
        served = SERVICES if self._trainers_listen_at is not None else (*SERVICES, PROGRESS)
        return tuple(each.full_name for each in served)

    @property
    def metrics_port(self) -> int | None:
        """The port of /metrics; None if it is not served."""
        return self._metrics.port if self._metrics is not None else None

    @property
    def http_port(self) -> int | None:
        """The port of HTTP and WebSockets; None if it is not served."""
        return self._http.port if self._http is not None else None

    async def open(self, calls: ServedCalls, registry: CollectorRegistry) -> None:
        """Listens everywhere; HTTP and the metrics in ``registry`` are answered at once. Raises AddressInUse."""
        self._streams = await async_streams()
        if self._trainers_listen_at is not None:
            self._bind_trainer_port(calls, self._streams, self._trainers_listen_at)
        self._bind_client_port(calls, self._streams)
        self._watch = ConnectionWatch(self._limits)
        self._watch.start()
        self._serve_metrics(registry)
        await self._serve_http(calls.relay)

    async def start(self) -> None:
        """Answers calls over gRPC."""
        for port in self._grpc_ports():
            await port.start()
        if self._streams is not None:
            self._streams.start()

    async def stop(self, grace: float) -> None:
        """Refuses new calls over gRPC, and ends those that have not ended after ``grace`` seconds (at most 10)."""
        async with asyncio.TaskGroup() as group:
            for port in self._grpc_ports():
                group.create_task(port.stop(min(grace, LONGEST_CALL_GRACE_SECONDS)))

    async def close(self) -> None:
        """Closes the other ports, and what those of gRPC need until their last call has ended."""
        if self._trainer_socket is not None:
            await self._trainer_socket.close()
        if self._streams is not None:
            await self._streams.close()
        if self._http is not None:
            await self._http.close()
        if self._metrics is not None:
            self._metrics.close()
        if self._watch is not None:
            self._watch.close()

    def _grpc_ports(self) -> list[ClientPort | TrainerPort]:
        return [port for port in (self._client_port, self._trainer_port) if port is not None]

    def _bind_trainer_port(self, calls: ServedCalls, streams: AsyncStreams, address: str) -> None:
        settings, access_control = self._settings, self._callers.access_control
        limits = limits_of_trainers(settings)
        admission = TrainerAuthInterceptor(self._backend, access_control.audit)
        options = trainer_options(settings, limits)
        self._trainer_port = TrainerPort(
            calls.progress, calls.relay, calls.pools, streams, options, access_control, admission, settings.tls
        )
        self.trainer_address = self._trainer_port.bind(address)
        self._limits[split_host_port(self.trainer_address)[1]] = limits
        if settings.backend == "local":
            self._trainer_socket = TrainerSocket(calls.relay, admission, limits.number, LARGEST_MESSAGE)
            self.socket = self._trainer_socket.open()

    def _bind_client_port(self, calls: ServedCalls, streams: AsyncStreams) -> None:
        settings, access_control = self._settings, self._callers.access_control
        limits = limits_of_clients(settings)
        if settings.access.max_connections > limits.number:
            log.warning("MAX_CONNECTIONS is more than the open files allow", most=limits.number)
        interceptors: list[grpc.aio.ServerInterceptor] = (
            [AioAuthInterceptor(access_control)] if access_control.asks else []
        )
        if interceptors and self._trainer_port is None:
            interceptors = [TrainerAuthInterceptor(self._backend, access_control.audit, interceptors[0])]
        self._client_port = ClientPort(
            calls.policy_trainer,
            calls.progress if self._trainer_port is None else None,
            calls.relay,
            calls.pools,
            calls.health,
            streams,
            client_options(settings, limits),
            access_control,
            interceptors,
            self._certificate,
        )
        address = join_host_port(settings.grpc_host, settings.grpc_port)
        self.address, self.own_address = self._client_port.bind(address)
        self._limits[split_host_port(self.address)[1]] = limits
        self.trainer_address = self.trainer_address or self.address

    def _serve_metrics(self, registry: CollectorRegistry) -> None:
        host, port = self._settings.grpc_host, self._settings.metrics_port
        if port is None:
            return
        probes = {"/livez": health_probe(self.own_address, LIVENESS), "/readyz": health_probe(self.own_address)}
        try:
            self._metrics = MetricsServer(registry, host, port, probes)
        except OSError as error:
            raise AddressInUse(join_host_port(host, port), "METRICS_PORT") from error

    async def _serve_http(self, relay: SimulatorRelay) -> None:
        settings, host, port = self._settings, self._settings.grpc_host, self._settings.http_port
        if port is None:
            return
        self._http = HttpApi(
            relay,
            self._callers.access_control,
            self._callers.permissions,
            self.own_address,
            settings.http_origins,
            LARGEST_MESSAGE,
            limits_of_http(settings),
            self._certificate,
        )
        try:
            await self._http.start(host, port)
        except OSError as error:
            raise AddressInUse(join_host_port(host, port), "HTTP_PORT") from error
