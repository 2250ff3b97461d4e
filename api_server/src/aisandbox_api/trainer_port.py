"""The port of the trainers: their progress, and their sessions with attached simulators.

Trainers run code of others (environments, adapters) and are not clients: nothing that a client may do is served here.
Owns this gRPC server. Must not know what the calls do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import grpc
from aisandbox.v1 import environment_pb2, simulator_pool_pb2, training_progress_pb2
from aisandbox_access import AccessControl
from aisandbox_environment import SimulatorRelay
from aisandbox_process import is_loopback
from aisandbox_process.grpc_direct import AsyncStreams
from aisandbox_process.grpc_options import Options
from aisandbox_process.tls import ServerCertificate, ServerFiles

from aisandbox_api.listening import listen
from aisandbox_api.method_handlers import add_relay, add_service, handlers
from aisandbox_api.progress_service import ProgressServicer
from aisandbox_api.trainer_auth import TrainerAuthInterceptor
from aisandbox_api.visible_simulators import VisibleSimulators

PROGRESS = training_progress_pb2.DESCRIPTOR.services_by_name["TrainingProgressService"]
ENVIRONMENT = environment_pb2.DESCRIPTOR.services_by_name["EnvironmentService"]
SIMULATOR_POOLS = simulator_pool_pb2.DESCRIPTOR.services_by_name["SimulatorPoolService"]


class TrainerPort:
    """Listens from :meth:`bind` on, answers from :meth:`start` on. For one event loop.

    With the files of ``tls`` it uses TLS, but for trainers on this machine. They need no certificate of their own, also
    where clients do.
    """

    def __init__(
        self,
        progress: ProgressServicer,
        relay: SimulatorRelay,
        pools: VisibleSimulators,
        streams: AsyncStreams,
        options: Options,
        access_control: AccessControl,
        admission: TrainerAuthInterceptor,
        tls: ServerFiles | None = None,
    ) -> None:
        self._tls = tls
        interceptors: list[Any] = [admission]
        self._grpc = grpc.aio.server(options=options, interceptors=interceptors)
        add_service(self._grpc, PROGRESS, handlers(PROGRESS, progress, access_control))
        add_relay(self._grpc, ENVIRONMENT, relay, access_control, streams, interceptors)
        # A run counts the simulators of its pool; it attaches none.
        listing = {"ListSimulators": handlers(SIMULATOR_POOLS, pools, access_control, raw=True)["ListSimulators"]}
        self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SIMULATOR_POOLS.full_name, listing),))

    def bind(self, address: str) -> str:
        """Listens on host:port; returns where trainers on this machine dial. Raises AddressInUse."""
        certificate = None
        if self._tls is not None and not is_loopback(address.rpartition(":")[0]):
            certificate = ServerCertificate(replace(self._tls, client_ca=None))
        return listen(self._grpc, address, "TRAINER_ADDRESS", certificate)

    async def start(self) -> None:
        """Answers calls."""
        await self._grpc.start()

    async def stop(self, grace: float) -> None:
        """Refuses new calls, and ends those that have not ended after ``grace`` seconds."""
        await self._grpc.stop(grace)
