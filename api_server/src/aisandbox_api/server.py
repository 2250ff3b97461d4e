"""The service as a whole: what listens, the order in which it starts, and how it stops.

Owns the gRPC server, health, reflection and metrics, and the wiring of the parts. Must not know what the calls mean.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from functools import partial
from typing import Any

import grpc
import structlog
from aisandbox.v1 import policy_trainer_pb2, simulator_pool_pb2
from aisandbox_access import AioAdmission
from aisandbox_environment import DIAGNOSTICS, AdapterFactory, Admit, SimulatorRelay
from aisandbox_model_store import RunStore
from aisandbox_process import join_host_port, split_host_port
from aisandbox_process.connection_watch import ConnectionWatch
from aisandbox_process.grpc_direct import AsyncStreams, async_streams
from aisandbox_process.grpc_options import connection_age, connection_limit, server_options, unanswered_pings
from aisandbox_process.grpc_probe import health_probe
from aisandbox_process.grpc_reflection import REFLECTION_V1, reflected_names
from aisandbox_process.metrics_server import MetricsServer
from aisandbox_process.stop_signals import stop_signals
from aisandbox_process.tls import ServerCertificate
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2
from prometheus_client import CollectorRegistry

from aisandbox_api.admission_checks import check_environment
from aisandbox_api.backend import Backend
from aisandbox_api.callers import Callers, check_exposures
from aisandbox_api.default_environment import HostedAdapter
from aisandbox_api.errors import AddressInUse, StartupError
from aisandbox_api.health import LIVENESS, HealthMonitor, RunHealth
from aisandbox_api.http_api import HttpApi
from aisandbox_api.listening import listen
from aisandbox_api.local import LocalBackend
from aisandbox_api.method_handlers import add_relay, add_service, handlers
from aisandbox_api.metrics import Metrics
from aisandbox_api.output_files import OutputFiles
from aisandbox_api.owner_quotas import OwnerLimits
from aisandbox_api.peers import Peers
from aisandbox_api.policy_forwarding import PolicyForwarder, PolicyRefuser
from aisandbox_api.policy_rights import PolicyRights
from aisandbox_api.progress_service import ProgressServicer
from aisandbox_api.settings import LOOPBACK_HOSTS, Settings
from aisandbox_api.trainer_admission import TrainerAdmission
from aisandbox_api.trainer_port import ENVIRONMENT, PROGRESS, TrainerPort
from aisandbox_api.trainer_socket import TrainerSocket
from aisandbox_api.training_servicer import TrainingServicer
from aisandbox_api.visible_simulators import VisibleSimulators
from aisandbox_api.who_am_i import WhoAmI

log = structlog.get_logger()

POLICY_TRAINER = policy_trainer_pb2.DESCRIPTOR.services_by_name["PolicyTrainerService"]
SIMULATOR_POOLS = simulator_pool_pb2.DESCRIPTOR.services_by_name["SimulatorPoolService"]
SERVICES = (POLICY_TRAINER, SIMULATOR_POOLS, ENVIRONMENT)
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]

LARGEST_MESSAGE = 64 * 1024 * 1024
"""Bytes: a batch of 64 images of 512 x 512 x 3 fits."""

SERVER_OPTIONS = server_options(ping_seconds=30, largest_message=LARGEST_MESSAGE)

HALTED_SECONDS = 3600.0
LOOPBACK_SERVER_OPTIONS = [
    # The kernel tells when a process of the same machine is gone. One that answers no pings there is halted, as an
    # attached simulator is at a breakpoint, and keeps its place.
    *server_options(ping_seconds=30, ping_timeout_seconds=HALTED_SECONDS, largest_message=LARGEST_MESSAGE),
    *unanswered_pings(HALTED_SECONDS),
]

LOCAL_TRAINER_ADDRESS = "127.0.0.1:0"
"""Where trainers of the local backend, which run on this machine, reach the service without another setting."""

SHARE_OF_CLIENTS, SHARE_OF_TRAINERS, SHARE_OF_HTTP = 0.5, 0.25, 0.125
"""Of the files that this process may have open, for connections; the rest is for files and its own calls. Of trainers
on this machine half are at the Unix socket."""

LINGER_SECONDS = 1.0
"""How long connections stay open after the service has ended its streams, so that the clients read the status."""

LONGEST_CALL_GRACE_SECONDS = 10.0
"""A stream that no client ends (a watch of health) must not delay the stop as long as a checkpoint may take."""


def create_server(
    settings: Settings | None = None,
    *,
    adapter_factory: AdapterFactory | None = None,
    policy_calls: Any | None = None,
    backend: Backend | None = None,
    registry: CollectorRegistry | None = None,
    admit_simulator: Admit | None = None,
) -> Server:
    """The service, not yet started.

    ``settings``: default, from the environment. ``adapter_factory`` makes an ExternalEnvAdapter; runs whose request
    names no environment are trained against it. ``policy_calls`` has the coroutine methods Act, ActBatch, ActStream,
    GetModel and DescribeModel of the generated servicer, and may have can_act(run_id) (see health.py) and
    stop_streams, which ends every ActStream and says whether there were any; default, they are forwarded to
    INFERENCE_ADDRESS. ``backend``: default, the one that the settings name. ``registry``: where its metrics are
    registered; default, one of its own. ``admit_simulator`` is asked before a simulator may attach, and raises
    StreamAborted (aisandbox_process.grpc_direct) to refuse it; default, every simulator may join every pool.
    Raises InvalidSetting, StartupError.
    """
    settings = settings or Settings.from_environ(os.environ)
    check_exposures(settings)
    if not settings.simulator_diagnostics:
        os.environ[DIAGNOSTICS] = "off"  # read where simulators are called: here, and in the trainers started here
    metrics = Metrics(registry)
    backend = backend or create_backend(settings, metrics)
    if settings.backend == "kubernetes" and adapter_factory is not None:
        raise StartupError(
            "adapter_factory: trainers on Kubernetes run in pods, which cannot reach an adapter inside this process; "
            "serve it as an EnvironmentService (aisandbox_environment.server) and name its address in the request"
        )
    return Server(settings, adapter_factory, policy_calls, backend, metrics, admit_simulator)


def create_backend(settings: Settings, metrics: Metrics) -> Backend:
    """The backend that the settings name. Raises StartupError."""
    if settings.backend == "local":
        return LocalBackend(settings, observe=metrics.observe_run)
    try:
        from aisandbox_api.kubernetes import KubernetesBackend  # its client is an optional dependency
    except ModuleNotFoundError as error:
        raise StartupError(
            f"BACKEND kubernetes needs the Kubernetes client ({error.name} is missing): install "
            "aisandbox-api[kubernetes]"
        ) from error
    return KubernetesBackend(settings, metrics=metrics)


class Server:
    """One service. Started once and stopped once; for one event loop."""

    def __init__(
        self,
        settings: Settings,
        adapter_factory: AdapterFactory | None,
        policy_calls: Any | None,
        backend: Backend,
        metrics: Metrics,
        admit_simulator: Admit | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._backend = backend
        self._adapter = HostedAdapter(adapter_factory) if adapter_factory is not None else None
        self._policy_calls = policy_calls
        self._relay: SimulatorRelay | None = None
        self._streams: AsyncStreams | None = None
        self._forwarder: PolicyForwarder | None = None
        self._peers = Peers(settings, backend)
        self._certificate = None if settings.tls is None else ServerCertificate(settings.tls)
        self._http: HttpApi | None = None
        self._training: TrainingServicer | None = None
        default = LOCAL_TRAINER_ADDRESS if settings.backend == "local" else None
        self._trainers_listen_at = settings.trainer_address or default
        self._trainers_at = ""
        self._services = SERVICES if self._trainers_listen_at is not None else (*SERVICES, PROGRESS)
        self._callers = Callers(settings, backend, admit_simulator)
        self._health = RunHealth()
        self._monitor = HealthMonitor(self._health, ("", *(each.full_name for each in self._services)), backend)
        self._grpc: grpc.aio.Server | None = None
        self._trainer_port: TrainerPort | None = None
        self._trainer_socket: TrainerSocket | None = None
        self._metrics_server: MetricsServer | None = None
        self._watch: ConnectionWatch | None = None
        self._address = ""
        self._started = False

    @property
    def port(self) -> int:
        """The port it listens on, once it is started."""
        return split_host_port(self._address)[1] if self._address else 0

    @property
    def address(self) -> str:
        """host:port for clients on this machine, once it is started."""
        return self._address

    @property
    def trainer_address(self) -> str:
        """host:port for trainers on this machine; that of clients if they have no port of their own."""
        return self._trainers_at or self._address

    @property
    def metrics_port(self) -> int | None:
        """The port of /metrics; None if it is not served."""
        return self._metrics_server.port if self._metrics_server is not None else None

    @property
    def http_port(self) -> int | None:
        """The port of HTTP and WebSockets; None if it is not served."""
        return self._http.port if self._http is not None else None

    async def start(self) -> None:
        """Opens the backend, listens, continues unfinished runs. Raises StartupError, with everything closed again."""
        began = time.monotonic()
        try:
            await self._callers.open()
            await self._backend.open()
            await self._start()
        except BaseException:
            await self.stop(grace=0)
            raise
        self._started = True
        log.info(
            "service listens",
            address=self.address,
            trainer_address=self.trainer_address,
            models_dir=str(self._settings.models_dir),
            seconds=round(time.monotonic() - began, 3),
        )

    async def stop(self, grace: float | None = None) -> None:
        """Drains: calls in flight get ``grace`` seconds (at most 10), trainers save a checkpoint and stop.

        Health is NOT_SERVING from the beginning. Runs continue when a service starts on the same MODELS_DIR.
        """
        grace = self._settings.stop_grace_seconds if grace is None else grace
        await self._monitor.stop()
        if self._grpc is not None and self._stop_streams():
            # Closing a connection with unread messages would reset it, and a client that is writing to a stream would
            # get a broken transport and no status.
            await asyncio.sleep(min(grace, LINGER_SECONDS))
        async with asyncio.TaskGroup() as group:
            for server in (self._grpc, self._trainer_port):
                if server is not None:
                    group.create_task(server.stop(min(grace, LONGEST_CALL_GRACE_SECONDS)))
            group.create_task(self._backend.close())
        if self._trainer_socket is not None:
            await self._trainer_socket.close()
        if self._streams is not None:
            await self._streams.close()
        if self._training is not None:
            await self._training.close()
        await self._peers.close()
        if self._http is not None:
            await self._http.close()
        if self._relay is not None:
            await self._relay.replicas.close()
        if self._forwarder is not None:
            await self._forwarder.close()
        if self._adapter is not None:
            await self._adapter.close()
        if self._metrics_server is not None:
            self._metrics_server.close()
        if self._watch is not None:
            self._watch.close()
        await self._callers.close()
        if self._started:
            log.info("service stopped", address=self.address)

    def _stop_streams(self) -> bool:
        """Ends the streams of clients that may be writing, and returns whether there were any."""
        calls: tuple[Any, ...] = (self._relay, self._forwarder or self._policy_calls)
        stopped = [each.stop_streams() for each in calls if hasattr(each, "stop_streams")]
        return any(stopped)

    async def serve(self) -> None:
        """Starts, and stops after SIGTERM or SIGINT; a second signal ends the process at once. Raises StartupError."""
        with stop_signals() as stop:
            await self.start()
            await stop.wait()
            log.info("service is stopping", grace_seconds=self._settings.stop_grace_seconds)
            await self.stop()

    async def _start(self) -> None:
        settings = self._settings
        adapter_address = None if self._adapter is None else await self._adapter.start()
        limits = settings.access.connection_limits(SHARE_OF_CLIENTS)
        if settings.access.max_connections > limits.number:
            log.warning("MAX_CONNECTIONS is more than the open files allow", most=limits.number)
        trainer_limits = settings.access.connection_limits(
            SHARE_OF_TRAINERS / 2 if settings.backend == "local" else SHARE_OF_TRAINERS
        )
        age = connection_age(settings.max_connection_age_seconds)
        options = LOOPBACK_SERVER_OPTIONS if settings.grpc_host in LOOPBACK_HOSTS else SERVER_OPTIONS
        gate = self._callers.gate
        interceptors: list[grpc.aio.ServerInterceptor] = [AioAdmission(gate)] if gate.asks else []
        if interceptors and self._trainers_listen_at is None:
            interceptors = [TrainerAdmission(self._backend, gate.audit, interceptors[0])]
        self._grpc = grpc.aio.server(
            options=[*options, *age, *connection_limit(limits.number)], interceptors=interceptors
        )
        store = RunStore(settings.models_dir, settings.checkpoint_dir)
        outputs = OutputFiles(store, settings.overwrite_outputs, asks=gate.asks)
        self._relay = self._peers.relay(self._callers.admit_to_pool)
        self._training = TrainingServicer(
            self._backend,
            store,
            secrets.SystemRandom(),
            adapter_address,
            check=partial(check_environment, pool_spec=self._relay.spec_of),
            rights=self._callers.rights,
            limits=OwnerLimits(settings.quotas),
            default_deadline_seconds=settings.default_deadline_seconds,
            modules=settings.allowed_modules,
            outputs=outputs,
        )
        training = handlers(POLICY_TRAINER, self._training, gate)
        who = handlers(POLICY_TRAINER, WhoAmI(gate), gate)
        add_service(self._grpc, POLICY_TRAINER, {**training, **who, **self._policy_handlers()})
        self._metrics.follow_simulators(self._relay)
        pools = VisibleSimulators(self._relay, self._callers.rights)
        progress = ProgressServicer(self._backend, self._metrics, gate.audit, outputs)
        self._streams = await async_streams()
        session_socket = None
        if self._trainers_listen_at is None:
            add_service(self._grpc, PROGRESS, handlers(PROGRESS, progress, gate))
        else:
            admission = TrainerAdmission(self._backend, gate.audit)
            self._trainer_port = TrainerPort(
                progress,
                self._relay,
                pools,
                self._streams,
                [*SERVER_OPTIONS, *age, *connection_limit(trainer_limits.number)],
                gate,
                admission,
                settings.tls,
            )
            self._trainers_at = self._trainer_port.bind(self._trainers_listen_at)
            if settings.backend == "local":
                self._trainer_socket = TrainerSocket(self._relay, admission, trainer_limits.number, LARGEST_MESSAGE)
                session_socket = self._trainer_socket.open()
        for service, calls in ((SIMULATOR_POOLS, pools), (ENVIRONMENT, self._relay)):
            add_relay(self._grpc, service, calls, gate, self._streams, interceptors)
        add_service(self._grpc, HEALTH, handlers(HEALTH, self._health, gate))
        names = reflected_names((*(service.full_name for service in self._services), HEALTH.full_name))
        reflecting = handlers(REFLECTION, reflection.aio.ReflectionServicer(names), gate)
        for name in (REFLECTION.full_name, REFLECTION_V1):
            self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, reflecting),))
        address = join_host_port(settings.grpc_host, settings.grpc_port)
        self._address = own_address = listen(self._grpc, address, "GRPC_PORT", self._certificate)
        if self._certificate is not None:  # for this process itself, which has no name that a certificate is for
            own_address = listen(self._grpc, "127.0.0.1:0", "GRPC_PORT")
        ports = {self.port: limits}
        if self._trainer_port is not None:
            ports[split_host_port(self._trainers_at)[1]] = trainer_limits
        self._watch = ConnectionWatch(ports)
        self._watch.start()
        self._serve_metrics(own_address)
        await self._peers.start()
        await self._serve_http(self._relay, own_address)
        # Runs first, so that an early call finds them; reports that come now wait in the listening socket.
        await self._backend.start(self.trainer_address, adapter_address, session_socket)
        await self._grpc.start()
        if self._trainer_port is not None:
            await self._trainer_port.start()
        self._streams.start()
        await self._monitor.start()

    async def _serve_http(self, relay: SimulatorRelay, own_address: str) -> None:
        settings = self._settings
        if settings.http_port is None:
            return
        self._http = HttpApi(
            relay,
            self._callers.gate,
            self._callers.rights,
            own_address,
            settings.http_origins,
            LARGEST_MESSAGE,
            settings.access.connection_limits(SHARE_OF_HTTP),
            self._certificate,
        )
        try:
            await self._http.start(settings.grpc_host, settings.http_port)
        except OSError as error:
            raise AddressInUse(join_host_port(settings.grpc_host, settings.http_port), "HTTP_PORT") from error

    def _serve_metrics(self, own_address: str) -> None:
        settings = self._settings
        if settings.metrics_port is None:
            return
        probes = {"/livez": health_probe(own_address, LIVENESS), "/readyz": health_probe(own_address)}
        try:
            self._metrics_server = MetricsServer(
                self._metrics.registry, settings.grpc_host, settings.metrics_port, probes
            )
        except OSError as error:
            raise AddressInUse(join_host_port(settings.grpc_host, settings.metrics_port), "METRICS_PORT") from error

    def _policy_handlers(self) -> dict[str, Any]:
        calls = self._policy_calls
        if calls is None and self._settings.inference_address is not None:
            calls = self._forwarder = self._peers.forwarder(self._settings.inference_address)
        calls = PolicyRefuser(self._backend) if calls is None else calls
        if self._forwarder is not None:
            self._health.can_act = self._forwarder.can_act
        elif (can_act := getattr(calls, "can_act", None)) is not None:
            self._health.can_act = lambda run_id, _context: can_act(run_id)
        raw = calls is self._forwarder
        gate = self._callers.gate
        if gate.asks:
            calls = PolicyRights(calls, self._callers.rights, raw=raw)
            self._health.may_ask = self._callers.may_ask_for_model
        return handlers(POLICY_TRAINER, calls, gate, raw=raw)
