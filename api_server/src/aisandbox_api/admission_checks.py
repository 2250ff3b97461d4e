"""Checks of a start beyond its own fields: the simulators it names, and the file it will write.

A simulator that cannot be reached is no error: the run waits for it. Must not know backends or gRPC statuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog
from aisandbox.v1.environment_pb2 import DescribeResponse
from aisandbox_crds.effective_values import effective_environments
from aisandbox_crds.errors import FieldError
from aisandbox_crds.hyperparameters import parse_hyperparameters
from aisandbox_crds.spec import Algorithm, GrpcEnvironment, TrainingRunSpec
from aisandbox_crds.trainingrun import TrainingRun
from aisandbox_environment.addresses import distribute_environments, expand_addresses
from aisandbox_environment.calls import describe
from aisandbox_environment.errors import PermanentSimulatorError, TransientSimulatorError
from aisandbox_model_store import OutsideRoot, RunStore

from aisandbox_api.errors import FailedPrecondition, InvalidRequest

log = structlog.get_logger()

DESCRIBE_SECONDS = 2.0
MOST_ADDRESSES = 16
"""How many of a run's simulators are checked; all of them are assumed to be alike."""

_ADDRESS = "environment.grpc.address"


async def check_simulators(spec: TrainingRunSpec) -> None:
    """Checks every simulator that answers within 2 s. Raises InvalidRequest, FailedPrecondition."""
    environment = spec.environment
    if not isinstance(environment, GrpcEnvironment):
        return
    try:
        async with asyncio.timeout(DESCRIBE_SECONDS):
            addresses = await asyncio.to_thread(_resolve, environment.address)
    except TimeoutError:
        return
    if not addresses:
        return
    hyperparameters = parse_hyperparameters(spec.algorithm, spec.hyperparameters)
    count = max(effective_environments(spec, hyperparameters, len(addresses)), len(addresses))
    shares = list(zip(addresses, distribute_environments(count, len(addresses)), strict=True))[:MOST_ADDRESSES]
    replies = await _describe_all([address for address, _ in shares])
    for (address, share), reply in zip(shares, replies, strict=True):
        if reply is not None:
            _check(spec, address, share, reply)


def check_output(run: TrainingRun, others: Iterable[TrainingRun], store: RunStore) -> None:
    """No other unfinished run may be about to write the same file. Raises OutsideRoot, FailedPrecondition. Blocking.

    The run itself may be among ``others``: another replica may have accepted a retry of the same start.
    """
    if not run.spec.model_output_path:
        return
    place = store.resolve_output(run.spec.model_output_path)
    for other in others:
        if other.name != run.name and not other.status.phase.is_done and _resolved(other, store) == place:
            raise FailedPrecondition(
                "OutputPathInUse",
                run.spec.model_output_path,
                f"model_output_path: {run.spec.model_output_path!r} is the output of run {other.name!r}, which has "
                "not ended: choose another path, or cancel that run",
            )


def _resolved(run: TrainingRun, store: RunStore) -> Path | None:
    try:
        return store.resolve_output(run.spec.model_output_path) if run.spec.model_output_path else None
    except OutsideRoot:  # a link or a folder was put there after it was accepted
        return None


async def _describe_all(addresses: Sequence[str]) -> list[DescribeResponse | None]:
    """The description of each, None if it does not answer."""
    loop = asyncio.get_running_loop()
    # Threads of their own: writing a record must not queue behind simulators that do not answer.
    threads = ThreadPoolExecutor(len(addresses), thread_name_prefix="describe")
    try:
        return await asyncio.gather(*(loop.run_in_executor(threads, _describe, address) for address in addresses))
    finally:
        threads.shutdown(wait=False)


def _describe(address: str) -> DescribeResponse | None:
    try:
        return describe(address, DESCRIBE_SECONDS)
    except TransientSimulatorError as error:
        log.info("simulator does not answer yet", address=address, error=str(error))
        return None
    except PermanentSimulatorError as error:
        raise FailedPrecondition(type(error).__name__, address, f"{_ADDRESS}: {error}") from error


def _resolve(address: str) -> list[str]:
    try:
        return expand_addresses(address)
    except TransientSimulatorError as error:
        log.info("address of the simulators does not resolve yet", address=address, error=str(error))
        return []
    except PermanentSimulatorError as error:
        raise InvalidRequest([FieldError(_ADDRESS, error.message)]) from error


def _check(spec: TrainingRunSpec, address: str, share: int, reply: DescribeResponse) -> None:
    kind = reply.spec.action_space.WhichOneof("kind")
    if spec.algorithm is Algorithm.DQN and kind != "discrete":
        rule = f"the simulator at {address} has {kind} actions and DQN takes only discrete ones: use PPO or A2C"
        raise InvalidRequest([FieldError(_ADDRESS, rule)])
    if kind == "dict":
        rule = f"the simulator at {address} declares a Dict as its action space: only observation spaces may be a Dict"
        raise InvalidRequest([FieldError(_ADDRESS, rule)])
    if reply.capacity and share > reply.capacity:
        rule = (
            f"the simulator at {address} has a capacity of {reply.capacity} environments, {share} are requested of it: "
            "request fewer, or add addresses"
        )
        raise InvalidRequest([FieldError("environment.grpc.environments", rule)])
