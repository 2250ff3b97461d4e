"""Who may use a pool of simulators as a trainer: that of a run of this pool, with its own token.

Calls say for which run they are (metadata ``aisandbox-run``), and are answered before anything of them is read. Must
not know what a token is, or what the calls do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from aisandbox_access import Audit
from aisandbox_crds import PoolEnvironment
from aisandbox_environment import POOL_METADATA, RUN_METADATA
from aisandbox_process.grpc_context import text_metadata

from aisandbox_api.backend import Backend
from aisandbox_api.errors import NotAuthenticated, NotPermitted, ReportRefused
from aisandbox_api.status_codes import message_of, status_of

SESSION_METHOD = "/aisandbox.v1.EnvironmentService/Session"
POOL_METHODS = (
    SESSION_METHOD,
    "/aisandbox.v1.EnvironmentService/Describe",
    "/aisandbox.v1.SimulatorPoolService/ListSimulators",
)
"""What a trainer calls for its pool."""
SCHEME = "Bearer "


def token_of_trainer(metadata: Mapping[str, str]) -> str | None:
    """The token that a trainer was given for its run; None: the call has none."""
    header = metadata.get("authorization", "")
    return header.removeprefix(SCHEME) if header.startswith(SCHEME) else None


class TrainerAuthInterceptor(grpc.aio.ServerInterceptor):
    """Admits trainers to their pools. Other calls are for ``others``, who may be None.

    ``others``: as well those for pools that name no run; None: these are refused.
    """

    def __init__(self, backend: Backend, audit: Audit, others: grpc.aio.ServerInterceptor | None = None) -> None:
        self._backend = backend
        self._audit = audit
        self._others = others

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """The method's handler, or one that refuses the call without reading it."""
        method: str = handler_call_details.method
        metadata = text_metadata(handler_call_details.invocation_metadata)
        trains = method in POOL_METHODS and (self._others is None or RUN_METADATA in metadata)
        if not trains and self._others is not None:
            return await self._others.intercept_service(continuation, handler_call_details)
        if trains:
            try:
                await self.admit(metadata)
            except Exception as error:
                return grpc.stream_stream_rpc_method_handler(self._refusal(method, metadata, error))
        return await continuation(handler_call_details)

    async def admit(self, metadata: Mapping[str, str]) -> None:
        """Returns if the call is of a trainer of the run that it names, for the run's pool.

        Raises RunUnknown, ReportRefused, BackendUnavailable.
        """
        run_id = metadata.get(RUN_METADATA, "")
        if not run_id:
            raise NotAuthenticated(
                f"{RUN_METADATA}: a trainer names its run, with the token that it reports with; one of an earlier "
                "version does not: suspend and resume the run"
            )
        run = await self._backend.run_of_trainer(run_id, token_of_trainer(metadata))
        pool, environment = metadata.get(POOL_METADATA, ""), run.spec.environment
        if not isinstance(environment, PoolEnvironment):
            raise NotPermitted(f"run {run.name!r} trains on no pool")
        if pool != environment.name:
            raise NotPermitted(f"run {run.name!r} trains on pool {environment.name!r}, not on {pool[:80]!r}")

    def refused(
        self, method: str, metadata: Mapping[str, str], peer: str, error: Exception
    ) -> tuple[grpc.StatusCode, str]:
        """The status of a call that was refused, which is recorded."""
        code, _ = status_of(error)
        message = message_of(error, code)
        if isinstance(error, ReportRefused):
            self._audit.record_refusal("", peer, method, metadata.get(RUN_METADATA, ""), code.name, message)
        if RUN_METADATA not in metadata and "authorization" not in metadata:
            # So calls a trainer that was started before its token was asked for. It takes UNAUTHENTICATED for the end
            # of its run; so it waits, and says why.
            code = grpc.StatusCode.UNAVAILABLE
        return code, message

    def _refusal(self, method: str, metadata: Mapping[str, str], error: Exception) -> Callable[..., Awaitable[None]]:
        async def refuse(_requests: Any, context: Any) -> None:
            await context.abort(*self.refused(method, metadata, context.peer(), error))

        return refuse
