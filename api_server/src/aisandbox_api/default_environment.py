"""The environment of a run whose request names none: the fake one, or the adapter given to create_server.

Owns the EnvironmentService that hosts the adapter on the loopback for trainers in other processes, and how a run
records which default it got. The port changes with every start of the service, so the address is not recorded.
"""

from __future__ import annotations

import asyncio

from aisandbox_crds import Environment, GrpcEnvironment, Reason, TrainingRun
from aisandbox_environment import AdapterFactory, AdapterSimulation, EnvironmentServer, create_environment_server

from aisandbox_api.errors import FailedPrecondition, StartupError

DEFAULT_ENVIRONMENT_ANNOTATION = "aisandbox.dev/default-environment"
"""Set on a run whose request named no environment: which default it got, "fake" or "adapter".

The address of a hosted adapter changes with every start of the service, which is why the spec says ``fake``.
It is filled in when a trainer is started; a run that needs an adapter fails if there is none.
"""


def environment_to_train(run: TrainingRun, adapter_address: str | None) -> Environment:
    """The environment of the trainer. Raises FailedPrecondition if it is an adapter that this service does not have."""
    if run.annotations.get(DEFAULT_ENVIRONMENT_ANNOTATION) != "adapter":
        return run.spec.environment
    if adapter_address is None:
        message = (
            "the run was started against the service's own adapter (create_server(adapter_factory=...)), and this "
            "service has none: start it with the adapter and start the run again"
        )
        raise FailedPrecondition(Reason.ADAPTER_MISSING, "adapter_factory", message)
    return GrpcEnvironment(adapter_address)


class HostedAdapter:
    """Hosts what ``factory`` makes, one for each environment of a session, on a free port of the loopback.

    The adapters run on threads of this process and share its processor time with the calls that the service answers.
    """

    def __init__(self, factory: AdapterFactory) -> None:
        self._factory = factory
        self._server: EnvironmentServer | None = None

    async def start(self) -> str:
        """Its address. Raises StartupError if the factory fails or its adapter's spaces are invalid."""
        self._server = await asyncio.to_thread(self._start)
        return self._server.address

    async def close(self) -> None:
        """Ends it and its sessions."""
        if self._server is not None:
            await asyncio.to_thread(self._server.stop, 0)

    def _start(self) -> EnvironmentServer:
        try:
            server = create_environment_server(AdapterSimulation(self._factory))
        except Exception as error:
            raise StartupError(f"adapter_factory: cannot host the adapter that it returns: {error}") from error
        server.start()
        return server
