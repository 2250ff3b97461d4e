"""The service as a whole: the wiring of its parts, and the order in which they start and stop.

Must not know where it listens (.ports), nor what the calls mean.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from functools import partial
from typing import Any

import structlog
from aisandbox_environment import DIAGNOSTICS, AdapterFactory, Admit, SimulatorRelay
from aisandbox_model_store import RunStore
from aisandbox_process import split_host_port
from aisandbox_process.stop_signals import stop_signals
from prometheus_client import CollectorRegistry

from aisandbox_api.backend import Backend
from aisandbox_api.callers import Callers, check_exposures
from aisandbox_api.client_port import POLICY_TRAINER
from aisandbox_api.default_environment import HostedAdapter
from aisandbox_api.environment_checks import check_environment
from aisandbox_api.errors import StartupError
from aisandbox_api.health import HealthMonitor, RunHealth
from aisandbox_api.local import LocalBackend
from aisandbox_api.method_handlers import handlers
from aisandbox_api.metrics import Metrics
from aisandbox_api.output_files import OutputFiles
from aisandbox_api.owner_quotas import OwnerLimits
from aisandbox_api.peers import Peers
from aisandbox_api.policy_forwarding import PolicyForwarder, PolicyRefuser
from aisandbox_api.policy_permissions import PolicyPermissions
from aisandbox_api.ports import Ports, ServedCalls
from aisandbox_api.progress_service import ProgressServicer
from aisandbox_api.settings import Settings
from aisandbox_api.training_servicer import TrainingServicer
from aisandbox_api.visible_simulators import VisibleSimulators
from aisandbox_api.who_am_i import WhoAmI

log = structlog.get_logger()

LINGER_SECONDS = 1.0
"""How long connections stay open after the service has ended its streams, so that the clients read the status."""


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
        self._forwarder: PolicyForwarder | None = None
        self._training: TrainingServicer | None = None
        self._peers = Peers(settings, backend)
        self._callers = Callers(settings, backend, admit_simulator)
        self._ports = Ports(settings, self._callers, backend)
        self._health = RunHealth()
        self._monitor = HealthMonitor(self._health, ("", *self._ports.services), backend)
        self._started = False

    @property
    def port(self) -> int:
        """The port it listens on, once it is started."""
        return split_host_port(self.address)[1] if self.address else 0

    @property
    def address(self) -> str:
        """host:port for clients on this machine, once it is started."""
        return self._ports.address

    @property
    def trainer_address(self) -> str:
        """host:port for trainers on this machine; that of clients if they have no port of their own."""
        return self._ports.trainer_address

    @property
    def metrics_port(self) -> int | None:
        """The port of /metrics; None if it is not served."""
        return self._ports.metrics_port

    @property
    def http_port(self) -> int | None:
        """The port of HTTP and WebSockets; None if it is not served."""
        return self._ports.http_port

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
        if self.address and self._stop_streams():
            # Closing a connection with unread messages would reset it, and a client that is writing to a stream would
            # get a broken transport and no status.
            await asyncio.sleep(min(grace, LINGER_SECONDS))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ports.stop(grace))
            group.create_task(self._backend.close())
        await self._ports.close()
        if self._training is not None:
            await self._training.close()
        await self._peers.close()
        if self._relay is not None:
            await self._relay.replicas.close()
        if self._forwarder is not None:
            await self._forwarder.close()
        if self._adapter is not None:
            await self._adapter.close()
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
        adapter_address = None if self._adapter is None else await self._adapter.start()
        self._relay = self._peers.relay(self._callers.admit_to_pool)
        await self._ports.open(self._calls(self._relay, adapter_address), self._metrics.registry)
        await self._peers.start()
        # Runs first, so that an early call finds them; reports that come now wait in the listening socket.
        await self._backend.start(self.trainer_address, adapter_address, self._ports.socket)
        await self._ports.start()
        await self._monitor.start()

    def _calls(self, relay: SimulatorRelay, adapter_address: str | None) -> ServedCalls:
        settings, access_control, permissions = self._settings, self._callers.access_control, self._callers.permissions
        store = RunStore(settings.models_dir, settings.checkpoint_dir)
        outputs = OutputFiles(store, settings.overwrite_outputs, asks=access_control.asks)
        self._training = TrainingServicer(
            self._backend,
            store,
            secrets.SystemRandom(),
            adapter_address,
            check=partial(check_environment, pool_spec=relay.spec_of),
            permissions=permissions,
            limits=OwnerLimits(settings.quotas),
            default_deadline_seconds=settings.default_deadline_seconds,
            modules=settings.allowed_modules,
            outputs=outputs,
        )
        training = handlers(POLICY_TRAINER, self._training, access_control)
        who = handlers(POLICY_TRAINER, WhoAmI(access_control), access_control)
        self._metrics.follow_simulators(relay)
        return ServedCalls(
            policy_trainer={**training, **who, **self._policy_handlers()},
            progress=ProgressServicer(self._backend, self._metrics, access_control.audit, outputs),
            relay=relay,
            pools=VisibleSimulators(relay, permissions),
            health=self._health,
        )

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
        access_control = self._callers.access_control
        if access_control.asks:
            calls = PolicyPermissions(calls, self._callers.permissions, raw=raw)
            self._health.may_ask = self._callers.may_ask_for_model
        return handlers(POLICY_TRAINER, calls, access_control, raw=raw)
