"""The port of clients: the service's gRPC API, health and reflection, and TLS where it is asked for.

Owns this gRPC server, and which services it has. Must not know what the calls do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from aisandbox.v1 import policy_trainer_pb2
from aisandbox_access import AccessControl
from aisandbox_environment import SimulatorRelay
from aisandbox_process.grpc_direct import AsyncStreams
from aisandbox_process.grpc_options import Options
from aisandbox_process.grpc_reflection import REFLECTION_V1, reflected_names
from aisandbox_process.tls import ServerCertificate
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from aisandbox_api.health import RunHealth
from aisandbox_api.listening import listen
from aisandbox_api.method_handlers import add_relay, add_service, handlers
from aisandbox_api.progress_service import ProgressServicer
from aisandbox_api.trainer_port import ENVIRONMENT, PROGRESS, SIMULATOR_POOLS
from aisandbox_api.visible_simulators import VisibleSimulators

POLICY_TRAINER = policy_trainer_pb2.DESCRIPTOR.services_by_name["PolicyTrainerService"]
SERVICES = (POLICY_TRAINER, SIMULATOR_POOLS, ENVIRONMENT)
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]


class ClientPort:
    """Listens from :meth:`bind` on, answers from :meth:`start` on. For one event loop.

    ``policy_trainer``: the handlers of PolicyTrainerService by its methods. ``progress``: None where trainers have a
    port of their own. ``interceptors``: what admits calls; empty if everybody may call. ``certificate``: None: no TLS.
    """

    def __init__(
        self,
        policy_trainer: Mapping[str, Any],
        progress: ProgressServicer | None,
        relay: SimulatorRelay,
        pools: VisibleSimulators,
        health: RunHealth,
        streams: AsyncStreams,
        options: Options,
        access_control: AccessControl,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        certificate: ServerCertificate | None = None,
    ) -> None:
        self._certificate = certificate
        self._grpc = grpc.aio.server(options=options, interceptors=interceptors)
        add_service(self._grpc, POLICY_TRAINER, policy_trainer)
        if progress is not None:
            add_service(self._grpc, PROGRESS, handlers(PROGRESS, progress, access_control))
        for service, calls in ((SIMULATOR_POOLS, pools), (ENVIRONMENT, relay)):
            add_relay(self._grpc, service, calls, access_control, streams, interceptors)
        add_service(self._grpc, HEALTH, handlers(HEALTH, health, access_control))
        served = SERVICES if progress is None else (*SERVICES, PROGRESS)
        names = reflected_names((*(service.full_name for service in served), HEALTH.full_name))
        reflecting = handlers(REFLECTION, reflection.aio.ReflectionServicer(names), access_control)
        for name in (REFLECTION.full_name, REFLECTION_V1):
            self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, reflecting),))

    def bind(self, address: str) -> tuple[str, str]:
        """Listens on host:port; returns where clients on this machine dial, and where this process itself does.

        The latter is without TLS: this process has no name that a certificate is for. Raises AddressInUse.
        """
        found = listen(self._grpc, address, "GRPC_PORT", self._certificate)
        return found, found if self._certificate is None else listen(self._grpc, "127.0.0.1:0", "GRPC_PORT")

    async def start(self) -> None:
        """Answers calls."""
        await self._grpc.start()

    async def stop(self, grace: float) -> None:
        """Refuses new calls, and ends those that have not ended after ``grace`` seconds."""
        await self._grpc.stop(grace)
