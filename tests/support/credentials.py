"""A token file with the people of the tests, and the calls of every method of a service with any credential."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from aisandbox.v1 import environment_pb2, policy_trainer_pb2, simulator_pool_pb2, training_progress_pb2
from aisandbox_access import METHODS, Permission, Scope, token_line
from attached_simulators import registration
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

SECONDS = 60
PEOPLE = {
    "alice": "trainer,simulator",
    "bob": "trainer,simulator",
    "vera": "viewer",
    "sim": "simulator",
    "root": "admin",
}
"""The token of each is TOKEN-NAME; ``old`` has one that has expired, bob may join no pool but "other"."""

SERVICES: tuple[ServiceDescriptor, ...] = (
    policy_trainer_pb2.DESCRIPTOR.services_by_name["PolicyTrainerService"],
    simulator_pool_pb2.DESCRIPTOR.services_by_name["SimulatorPoolService"],
    environment_pb2.DESCRIPTOR.services_by_name["EnvironmentService"],
    training_progress_pb2.DESCRIPTOR.services_by_name["TrainingProgressService"],
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
)


def token_file(folder: Path) -> Path:
    """The file of PEOPLE."""
    lines = [token_line(name, roles, f"TOKEN-{name}") for name, roles in PEOPLE.items()]
    lines = [f"{line} pools=other" if line.startswith("bob ") else line for line in lines]
    lines.append(token_line("old", "admin", "TOKEN-old") + " expires=2020-01-01T00:00:00Z")
    path = folder / "tokens"
    path.write_text("# people\n\n" + "\n".join(lines) + "\n")
    return path


def metadata_of(name: str | None) -> tuple[tuple[str, str], ...]:
    """The metadata of a call of NAME; None: without a credential."""
    return () if name is None else (("authorization", f"Bearer TOKEN-{name}"),)


@dataclass(frozen=True)
class Denial:
    """A credential of some kind with which a method must be refused."""

    kind: str
    who: str | None
    code: grpc.StatusCode


def denials(method: str) -> list[Denial]:
    """The credentials with which the method is refused, for a run of alice and the pool "arena"."""
    rule = METHODS[method]
    if rule.permission is None and not (rule.trainers or rule.identified):  # health
        return []
    unknown = grpc.StatusCode.UNAUTHENTICATED
    found = [Denial("no", None, unknown), Denial("bad", "nobody", unknown), Denial("expired", "old", unknown)]
    if rule.permission is None:
        return found
    lacking = "vera" if rule.permission is not Permission.VIEW else "sim"
    found.append(Denial("insufficient", lacking, grpc.StatusCode.PERMISSION_DENIED))
    if rule.scope is not Scope.SERVICE:
        found.append(Denial("foreign", "bob", grpc.StatusCode.PERMISSION_DENIED))
    return found


def methods_of(services: tuple[ServiceDescriptor, ...] = SERVICES) -> Mapping[str, Any]:
    """The descriptor of every method of ``services`` by its full name."""
    return {f"/{service.full_name}/{method.name}": method for service in services for method in service.methods}


def request_of(method: str, run: str) -> bytes:
    """A request of the method about the run, or for a place in the pool "arena"."""
    descriptor = methods_of()[method]
    if method.endswith("/Attach"):
        message: Any = registration(pool="arena")
    elif method.endswith("/ActStream"):
        message = policy_trainer_pb2.ActStreamRequest(request=policy_trainer_pb2.ActRequest(run_id=run))
    else:
        message = GetMessageClass(descriptor.input_type)()
        if "run_id" in descriptor.input_type.fields_by_name:
            message.run_id = run
    data: bytes = message.SerializeToString()
    return data


async def call(
    channel: grpc.aio.Channel,
    method: str,
    run: str,
    who: str | None = None,
    *,
    sends: bool = True,
    metadata: tuple[tuple[str, str], ...] = (),
) -> tuple[grpc.StatusCode, str]:
    """The status of a call of any kind of method: how many replies a kind has is not seen on the wire.

    ``sends``: whether a stream of requests has one. A client that is refused while it writes may miss the status.
    """
    streams = methods_of()[method].client_streaming
    multicallable: Any = channel.stream_stream(method) if streams else channel.unary_stream(method)
    request = () if streams else (request_of(method, run),)
    call: Any = multicallable(*request, metadata=(*metadata_of(who), *metadata), timeout=SECONDS)
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        if streams and sends:
            await call.write(request_of(method, run))
            await call.done_writing()
    with contextlib.suppress(grpc.aio.AioRpcError):
        while await call.read() is not grpc.aio.EOF:
            pass
    return await call.code(), await call.details() or ""
