"""What a simulator registers, and the rules for it: names, version, size, spec.

Must not know which simulators are attached.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

import grpc
from aisandbox.v1 import simulator_pool_pb2
from aisandbox_process.grpc_direct import StreamAborted
from aisandbox_wire import OversizedMessage, WireError, parse_bounded
from google.protobuf.message import DecodeError, Message

from aisandbox_environment.relay.statuses import aborted
from aisandbox_environment.spec import PROTOCOL_VERSION, Spec, difference_of, read_spec

M = TypeVar("M", bound=Message)

_POOL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LONGEST_INSTANCE = 128
MOST_ENVIRONMENTS = 4_096
LARGEST_REGISTRATION = 1024 * 1024
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What a simulator has registered, checked."""

    pool: str
    instance: str
    environments: int
    spec: Spec
    name: str
    version: str


def invalid(field_name: str, rule: str) -> StreamAborted:
    """INVALID_ARGUMENT that names the field."""
    return aborted(grpc.StatusCode.INVALID_ARGUMENT, f"{field_name}: {rule}")


def parsed(kind: type[M], data: bytes, field_name: str) -> M:
    """The message in ``data``. Raises StreamAborted(INVALID_ARGUMENT) if it is none, or too large to be looked at."""
    try:
        return parse_bounded(kind, data)
    except DecodeError:
        raise invalid(field_name, f"is not a {kind.DESCRIPTOR.name}") from None
    except OversizedMessage as error:
        raise invalid(field_name, error.rule) from None


def check_pool_name(name: str, field_name: str) -> str:
    """The name, if it can be a pool's. Raises StreamAborted(INVALID_ARGUMENT)."""
    if _POOL.fullmatch(name) is None:
        rule = 'must be 1 to 63 lower-case letters, digits and "-", beginning and ending with a letter or digit'
        raise invalid(field_name, f"{rule}, got {name[:80]!r}")
    return name


def read_registration(data: bytes, pool: str = "") -> Registration:
    """The registration in the bytes of a RegisterSimulator; ``pool``: the only one it may name, or leave out.

    Raises StreamAborted.
    """
    if len(data) > LARGEST_REGISTRATION:
        raise invalid("register", f"has {len(data):,} bytes, at most {LARGEST_REGISTRATION:,} are allowed")
    register = parsed(simulator_pool_pb2.RegisterSimulator, data, "register")
    if register.protocol_version != PROTOCOL_VERSION:
        raise aborted(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"register.protocol_version: the simulator speaks version {register.protocol_version}, this service "
            f"{PROTOCOL_VERSION}",
        )
    if pool and register.pool not in ("", pool):
        raise invalid("register.pool", f"must be {pool[:80]!r} as in the address, got {register.pool[:80]!r}")
    pool = check_pool_name(pool or register.pool, "register.pool")
    instance = register.instance
    if not 1 <= len(instance) <= _LONGEST_INSTANCE or not instance.isprintable():
        rule = f"must be 1 to {_LONGEST_INSTANCE} printable characters, got {len(instance)}: {instance[:40]!r}"
        raise invalid("register.instance", rule)
    if not 1 <= register.environments <= MOST_ENVIRONMENTS:
        raise invalid("register.environments", f"must be 1 to {MOST_ENVIRONMENTS:,}, got {register.environments:,}")
    try:
        spec = read_spec(register.spec, "register.spec")
    except WireError as error:
        raise aborted(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
    return Registration(pool, instance, register.environments, spec, register.name[:200], register.version[:200])


def check_same_spec(new: Registration, spec: Spec) -> None:
    """Raises StreamAborted(FAILED_PRECONDITION), naming the difference, if the pool's simulators have another spec."""
    if difference := difference_of(spec, new.spec):
        raise aborted(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"register.spec: pool {new.pool!r} has simulators with another spec; {difference}",
        )


def check_same_as_joining(new: Registration, spec: Spec) -> None:
    """Raises StreamAborted(UNAVAILABLE) if a simulator with another spec registers at this moment: which has it, the
    pool does not say yet.
    """
    if difference := difference_of(spec, new.spec):
        raise aborted(
            grpc.StatusCode.UNAVAILABLE,
            f"register.spec: a simulator with another spec joins pool {new.pool!r} at this moment; {difference}; "
            "attach again",
        )


def instance_taken(new: Registration) -> StreamAborted:
    """ALREADY_EXISTS for an instance that is attached."""
    return aborted(
        grpc.StatusCode.ALREADY_EXISTS,
        f"register.instance: pool {new.pool!r} has an instance {new.instance!r} already; a simulator whose "
        "connection was lost ends within a minute",
    )
