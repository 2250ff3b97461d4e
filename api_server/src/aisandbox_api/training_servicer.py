"""PolicyTrainerService's calls about training.

Owns the order of a call: translate, check, ask the backend, translate back. The calls about policies are in
:mod:`aisandbox_api.policy_forwarding`; gRPC statuses in :mod:`aisandbox_api.status_codes`. Must not know which backend
it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import grpc
import structlog
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_access import AccessControl, Permission, current_caller
from aisandbox_crds import (
    EXPERIMENT_ANNOTATION,
    REQUEST_ANNOTATION,
    REQUEST_DIGEST_ANNOTATION,
    Algorithm,
    FieldError,
    TrainingRun,
    TrainingRunSpec,
)
from aisandbox_environment import Spec
from aisandbox_model_store import RunStore

from aisandbox_api.backend import Backend
from aisandbox_api.default_environment import environment_to_train
from aisandbox_api.environment_checks import check_environment
from aisandbox_api.environment_modules import ANY, check_environment_module
from aisandbox_api.errors import InvalidRequest, RequestIdTaken, RunUnknown
from aisandbox_api.other_runs_checks import check_output
from aisandbox_api.output_files import OutputFiles
from aisandbox_api.owner_quotas import OwnerLimits
from aisandbox_api.requests import given_run_id, list_query, new_run, page_token
from aisandbox_api.responses import status_response
from aisandbox_api.run_owner import owner_of
from aisandbox_api.run_permissions import RunPermissions
from aisandbox_api.source_checks import check_source, with_digests, writers_of
from aisandbox_api.status_codes import abort_on_error

log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]

LARGEST_PAGE_BYTES = 3 * 1024 * 1024
"""Bytes of the runs of one page: a gRPC client of default settings refuses an answer of more than 4 MiB."""

_FRAMING_BYTES = 8
"""The tag and the length of a run in the answer."""


class _Start:
    """A start that is being checked or accepted, and how many calls wait for it: a retry joins the call before it.

    A task of its own, so that a client that disconnects does not leave a start half done. It is cancelled with the last
    of its calls while it is only being checked: a client whose deadline has passed then has no run that it does not
    know of. Once the backend has been asked (``checked``), it continues; a retry with the request_id finds the run.
    """

    def __init__(self) -> None:
        self.task: asyncio.Task[TrainingRun]
        self.checked = False
        self._calls = 0

    async def wait(self) -> TrainingRun:
        """The accepted run."""
        self._calls += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self._calls -= 1
            if not self._calls and not self.checked:
                self.task.cancel()


class TrainingServicer:
    """The methods have the names and signatures of the generated servicer.

    ``adapter_address``: of the service's own adapter; None: the default environment of a run is the fake one.
    ``permissions``: who may do what with a run; None: everybody everything. ``limits``: what an owner may have, where
    callers are authenticated. ``default_deadline_seconds``: of the runs that are started; 0: none. ``modules``:
    patterns of the modules that Gymnasium ids may name. ``outputs``: who may write which files.
    """

    def __init__(
        self,
        backend: Backend,
        store: RunStore,
        random: Random,
        adapter_address: str | None = None,
        check: Callable[[TrainingRunSpec], Awaitable[Spec | None]] = check_environment,
        permissions: RunPermissions | None = None,
        limits: OwnerLimits | None = None,
        default_deadline_seconds: int = 0,
        modules: Sequence[str] = ANY,
        outputs: OutputFiles | None = None,
    ) -> None:
        self._backend = backend
        self._store = store
        self._random = random
        self._limits = limits
        self._deadline = default_deadline_seconds or None
        self._modules = modules
        self._outputs = outputs or OutputFiles(store)
        self._permissions = permissions or RunPermissions(AccessControl(), backend)
        self._adapter_address = adapter_address
        self._check = check
        self._accepting = asyncio.Lock()
        self._starting: dict[str, _Start] = {}

    async def close(self) -> None:
        """Cancels the starts that are still being checked; to be called when the backend accepts no more runs."""
        tasks = [start.task for start in self._starting.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def StartTraining(self, request: pb.TrainingRequest, context: Context) -> pb.TrainingResponse:  # noqa: N802
        """See the proto."""
        return await self._start(request, None, context)

    async def StartTrainingPPO(self, request: pb.TrainingRequest, context: Context) -> pb.TrainingResponse:  # noqa: N802
        """See the proto."""
        return await self._start(request, Algorithm.PPO, context)

    async def StartTrainingA2C(self, request: pb.TrainingRequest, context: Context) -> pb.TrainingResponse:  # noqa: N802
        """See the proto."""
        return await self._start(request, Algorithm.A2C, context)

    async def StartTrainingDQN(self, request: pb.TrainingRequest, context: Context) -> pb.TrainingResponse:  # noqa: N802
        """See the proto."""
        return await self._start(request, Algorithm.DQN, context)

    async def GetTrainingStatus(self, request: pb.StatusRequest, context: Context) -> pb.StatusResponse:  # noqa: N802
        """See the proto."""
        async with abort_on_error(context):
            run = await self._permissions.run(Permission.VIEW, given_run_id(request.run_id), context.peer())
            return status_response(run)

    async def WatchTraining(  # noqa: N802
        self, request: pb.WatchTrainingRequest, context: Context
    ) -> AsyncIterator[pb.StatusResponse]:
        """See the proto."""
        async with abort_on_error(context):
            run_id = await self._reachable(Permission.VIEW, request.run_id, context)
            async for run in self._backend.watch(run_id):
                yield status_response(run)

    async def ListTrainingRuns(  # noqa: N802
        self, request: pb.ListTrainingRunsRequest, context: Context
    ) -> pb.ListTrainingRunsResponse:
        """See the proto."""
        async with abort_on_error(context):
            query = list_query(request)
            runs = [
                run
                for run in await self._permissions.visible(await self._backend.list())
                if (not query.experiment_id or run.annotations.get(EXPERIMENT_ANNOTATION) == query.experiment_id)
                and (not query.phases or run.status.phase in query.phases)
                and (query.after is None or (run.creation_time, run.name) < query.after)
            ]
            runs.sort(key=lambda run: (run.creation_time, run.name), reverse=True)
            page = _page(runs[: query.page_size])
            token = page_token(runs[len(page) - 1]) if len(runs) > len(page) else ""
            return pb.ListTrainingRunsResponse(runs=page, next_page_token=token)

    async def CancelTraining(self, request: pb.CancelTrainingRequest, context: Context) -> pb.StatusResponse:  # noqa: N802
        """See the proto."""
        async with abort_on_error(context):
            run_id = await self._reachable(Permission.TRAIN, request.run_id, context)
            return status_response(await self._backend.cancel(run_id))

    async def SuspendTraining(self, request: pb.SuspendTrainingRequest, context: Context) -> pb.StatusResponse:  # noqa: N802
        """See the proto."""
        async with abort_on_error(context):
            run_id = await self._reachable(Permission.TRAIN, request.run_id, context)
            return status_response(await self._backend.suspend(run_id))

    async def ResumeTraining(self, request: pb.ResumeTrainingRequest, context: Context) -> pb.StatusResponse:  # noqa: N802
        """See the proto."""
        async with abort_on_error(context):
            run_id = await self._reachable(Permission.TRAIN, request.run_id, context)
            return status_response(await self._backend.resume(run_id))

    async def _start(
        self, request: pb.TrainingRequest, algorithm: Algorithm | None, context: Context
    ) -> pb.TrainingResponse:
        async with abort_on_error(context):
            default = "fake" if self._adapter_address is None else "adapter"
            owner = current_caller().name
            run = new_run(request, algorithm, default, self._random, owner)
            if self._deadline is not None and run.spec.active_deadline_seconds is None:
                run = replace(run, spec=replace(run.spec, active_deadline_seconds=self._deadline))
            key = f"{owner}\n{request.request_id or run.name}"
            start = self._starting.get(key)
            if start is None or start.task.cancelling():
                start = self._starting[key] = _Start()
                start.task = asyncio.create_task(self._accept(run, start, context.peer()))
                start.task.add_done_callback(lambda done: self._accepted(key, done))
            accepted = await start.wait()
            digest = REQUEST_DIGEST_ANNOTATION
            if accepted.annotations.get(digest) != run.annotations[digest] or owner_of(accepted) != owner:
                raise RequestIdTaken(request.request_id, accepted.name)
            return pb.TrainingResponse(run_id=accepted.name)

    async def _accept(self, run: TrainingRun, start: _Start, peer: str) -> TrainingRun:
        request_id = run.annotations.get(REQUEST_ANNOTATION)
        owner = owner_of(run)
        if request_id is not None and (known := await self._backend.find_request(request_id, owner)) is not None:
            return known
        await self._check_source(run, peer)
        if not self._permissions.asks or self._limits is None:
            return await self._create(run, start)
        with self._limits.start(owner, await self._backend.list()):
            return await self._create(run, start)

    async def _create(self, run: TrainingRun, start: _Start) -> TrainingRun:
        check_environment_module(run.spec, self._modules)
        environment = environment_to_train(run, self._adapter_address)
        declared = await self._check(replace(run.spec, environment=environment))
        run = replace(run, spec=await with_digests(run.spec, self._store, declared))
        if run.spec.model_output_path:
            async with self._accepting:  # of two runs for one file, the second must see the first
                others = await self._backend.list()
                kept = await self._outputs_of_others(others)
                await asyncio.to_thread(check_output, run, others, self._store, kept)
                await self._outputs.check_start(run, self._permissions.may_replace_file)
                start.checked = True
                accepted = await self._backend.create(run)
        else:
            start.checked = True
            accepted = await self._backend.create(run)
        log.info("run accepted", run=run.name, algorithm=run.spec.algorithm, total_timesteps=run.spec.total_timesteps)
        return accepted

    async def _reachable(self, permission: Permission, run_id: str, context: Context) -> str:
        """The run_id of a request whose run the caller may use so. Raises InvalidRequest, RunUnknown, AccessError."""
        name = given_run_id(run_id)
        if self._permissions.asks:
            await self._permissions.run(permission, name, context.peer())
        return name

    async def _outputs_of_others(self, runs: Sequence[TrainingRun]) -> frozenset[str]:
        """The names of the runs that are done whose output the caller may not write over."""
        if not self._permissions.asks:
            return frozenset()
        done = (run for run in runs if run.status.phase.is_done and run.spec.model_output_path)
        return frozenset([run.name for run in done if not await self._permissions.may_replace(run)])

    async def _check_source(self, run: TrainingRun, peer: str) -> None:
        """Whether the caller may take what the run starts and learns from, and it fits.

        Raises InvalidRequest, AccessError.
        """
        start, demonstrations = run.spec.start_from, run.spec.demonstrations
        files = [] if demonstrations is None else [demonstrations.file]
        if start is not None and start.run:
            try:
                source = await self._permissions.run(Permission.MODEL, start.run, peer)
            except RunUnknown as error:
                raise InvalidRequest([FieldError("start_from.run", str(error))]) from error
            check_source(run.spec, source)
        elif start is not None:
            files.append(start.zip)
        if files and self._permissions.asks:
            runs = await self._backend.list()
            for writer in dict.fromkeys(name for file in files for name in writers_of(file, runs)):
                await self._permissions.run(Permission.MODEL, writer, peer)

    def _accepted(self, key: str, task: asyncio.Task[TrainingRun]) -> None:
        if (start := self._starting.get(key)) is not None and start.task is task:
            del self._starting[key]
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio would log it when no client waits any more


def _page(runs: Sequence[TrainingRun]) -> list[pb.StatusResponse]:
    """The first of ``runs``: at least one, and no more than fit in an answer."""
    page: list[pb.StatusResponse] = []
    size = 0
    for run in runs:
        response = status_response(run)
        size += response.ByteSize() + _FRAMING_BYTES
        if page and size > LARGEST_PAGE_BYTES:
            break
        page.append(response)
    return page
