"""What a start is checked for beyond its own fields: the simulator it names, and the file it will write.

Owns those checks. A simulator that cannot be reached is no error: the run waits for it. Must not know backends or how
errors become statuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import grpc
import structlog
from aisandbox.v1 import environment_pb2
from aisandbox.v1.environment_pb2_grpc import EnvironmentServiceStub
from aisandbox_crds.environments import effective_environments
from aisandbox_crds.errors import FieldError
from aisandbox_crds.hyperparameters import parse_hyperparameters
from aisandbox_crds.spec import Algorithm, GrpcEnvironment, TrainingRunSpec
from aisandbox_crds.trainingrun import TrainingRun
from aisandbox_model_store.run_store import RunStore
from aisandbox_wire.errors import WireError
from aisandbox_wire.spaces import leaves

from aisandbox_api.errors import InvalidRequest, Unmet

log = structlog.get_logger()

DESCRIBE_SECONDS = 2.0
PROTOCOL_VERSION = 1
MOST_ADDRESSES = 64
"""How many of a run's simulators are asked; a fleet is of one kind."""

_ADDRESS = "environment.grpc.address"
_CHANNEL_OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]


async def check_simulators(spec: TrainingRunSpec) -> None:
    """Asks every simulator that answers within 2 s whether it fits. Raises InvalidRequest, Unmet."""
    environment = spec.environment
    if not isinstance(environment, GrpcEnvironment):
        return
    from aisandbox_environment import spread

    addresses = await _expanded(environment.address)
    if not addresses:
        return
    count = effective_environments(spec, parse_hyperparameters(spec.algorithm, spec.hyperparameters), len(addresses))
    shares = list(zip(addresses, spread(count, len(addresses)), strict=True))[:MOST_ADDRESSES]
    replies = await asyncio.gather(*(_describe(address) for address, _ in shares))
    for (address, share), reply in zip(shares, replies, strict=True):
        if reply is not None:
            _check(spec, address, share, reply)


def check_output(run: TrainingRun, others: Iterable[TrainingRun], store: RunStore) -> None:
    """No unfinished run may be about to write the same file. Raises OutsideRoot, Unmet. Blocking."""
    if not run.spec.model_output_path:
        return
    place = store.resolve_output(run.spec.model_output_path)
    for other in others:
        path = other.spec.model_output_path
        if path and not other.status.phase.is_done and store.resolve_output(path) == place:
            raise Unmet(
                "OutputPathInUse",
                run.spec.model_output_path,
                f"model_output_path: {run.spec.model_output_path!r} will be written by run {other.name!r}, which has "
                "not ended: choose another path, or cancel that run",
            )


async def _expanded(address: str) -> list[str]:
    from aisandbox_environment import expand_addresses

    try:
        async with asyncio.timeout(DESCRIBE_SECONDS):
            return list(await asyncio.to_thread(expand_addresses, address))
    except Exception as error:  # a name that does not resolve yet is a simulator that is not there yet
        log.info("address of the simulators does not resolve yet", address=address, error=str(error))
        return []


async def _describe(address: str) -> environment_pb2.DescribeResponse | None:
    try:
        async with grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS) as channel:
            stub = EnvironmentServiceStub(channel)
            return await stub.Describe(environment_pb2.DescribeRequest(), timeout=DESCRIBE_SECONDS)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            rule = f"{address} answers, but does not serve aisandbox.v1.EnvironmentService"
            raise InvalidRequest([FieldError(_ADDRESS, rule)]) from error
        log.info("simulator does not answer yet", address=address, code=error.code().name, error=error.details())
        return None


def _check(spec: TrainingRunSpec, address: str, share: int, reply: environment_pb2.DescribeResponse) -> None:
    if reply.protocol_version != PROTOCOL_VERSION:
        raise Unmet(
            "ProtocolMismatch",
            address,
            f"{_ADDRESS}: the simulator at {address} speaks version {reply.protocol_version} of EnvironmentService, "
            f"this service speaks version {PROTOCOL_VERSION}: update the older one",
        )
    try:
        leaves(reply.spec.observation_space)
        leaves(reply.spec.action_space)
    except WireError as error:
        message = f"{_ADDRESS}: the simulator at {address} declares a space that is not valid: {error}"
        raise Unmet("InvalidSpace", address, message) from error
    kind = reply.spec.action_space.WhichOneof("kind")
    if spec.algorithm is Algorithm.DQN and kind != "discrete":
        rule = f"the simulator at {address} has {kind} actions and DQN takes only discrete ones: use PPO or A2C"
        raise InvalidRequest([FieldError(_ADDRESS, rule)])
    if kind == "dict":
        rule = f"the simulator at {address} declares a Dict as its action space, which only observations may be"
        raise InvalidRequest([FieldError(_ADDRESS, rule)])
    if reply.capacity and share > reply.capacity:
        rule = (
            f"{share} environments would be at {address}, which carries {reply.capacity}: ask for fewer, or name more "
            "addresses"
        )
        raise InvalidRequest([FieldError("environment.grpc.environments", rule)])
