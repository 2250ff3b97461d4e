"""What is attached to the pools of the service: lists, descriptions and specs, of this replica and the others.

Must not know streams, or how a simulator registers.
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from aisandbox.v1 import environment_pb2, simulator_pool_pb2
from aisandbox_process.grpc_direct import StreamAborted

from aisandbox_environment.channels import POOL_METADATA
from aisandbox_environment.relay.attached_simulators import AttachedSimulators, joining_message, simulator_message
from aisandbox_environment.relay.registrations import check_pool_name, invalid, parsed
from aisandbox_environment.relay.replicas import JOINING_METADATA, REPLICA_METADATA, Replicas
from aisandbox_environment.relay.statuses import aborted
from aisandbox_environment.spec import Spec, read_spec


class PoolListing:
    """What clients and other replicas are told of ``attached``, and of those that ``replicas`` have."""

    def __init__(self, attached: AttachedSimulators, replicas: Replicas) -> None:
        self._attached = attached
        self._replicas = replicas

    async def spec_of(self, pool: str) -> Spec | None:
        """See SimulatorRelay.spec_of."""
        attached = self._attached.of(pool)
        if attached:
            return attached[0].registration.spec
        found = await self._replicas.descriptions(pool)
        return read_spec(found[0].spec) if found else None

    async def list_simulators(
        self, data: bytes, metadata: Mapping[str, str]
    ) -> simulator_pool_pb2.ListSimulatorsResponse:
        """The answer to ListSimulators, whose request is ``data``. Raises StreamAborted."""
        request = parsed(simulator_pool_pb2.ListSimulatorsRequest, data, "request")
        if request.pool:
            check_pool_name(request.pool, "pool")
        if request.pool != metadata.get(POOL_METADATA, request.pool):
            raise invalid("pool", f"must be that of the metadata {POOL_METADATA}")
        simulators = await self._simulators(request.pool, metadata)
        return simulator_pool_pb2.ListSimulatorsResponse(simulators=simulators)

    async def _simulators(self, pool: str, metadata: Mapping[str, str]) -> list[simulator_pool_pb2.Simulator]:
        """Those of all replicas, by pool and instance; of all pools if ``pool`` is empty."""
        if self._is_own(metadata):
            return []
        attached = self._attached.of(pool) if pool else list(self._attached.all())
        simulators = [simulator_message(each) for each in attached]
        if JOINING_METADATA in metadata:
            simulators += [joining_message(each) for each in self._attached.joining(pool)]
        if asks_replicas(metadata):
            simulators += await self._replicas.simulators(pool)
            simulators.sort(key=lambda each: (each.pool, each.instance))
        return simulators

    async def describe(self, metadata: Mapping[str, str]) -> environment_pb2.DescribeResponse:
        """The answer to Describe of the pool that the metadata names. Raises StreamAborted."""
        pool = pool_of(metadata)
        joining = JOINING_METADATA in metadata
        own = None if self._is_own(metadata) else self._attached.describe(pool, joining=joining)
        found = [] if own is None else [own]
        if asks_replicas(metadata):
            found += await self._replicas.descriptions(pool)
        if not found:
            raise _no_simulators(pool)
        result = found[0]
        result.capacity, result.in_use = sum(each.capacity for each in found), sum(each.in_use for each in found)
        return result

    def _is_own(self, metadata: Mapping[str, str]) -> bool:
        """Whether this replica has called itself, because the addresses of all of them include its own."""
        return metadata.get(REPLICA_METADATA) == self._replicas.own_id

    async def refusal(self, pool: str, at_most: int, metadata: Mapping[str, str]) -> StreamAborted:
        """Why no session with at most that many environments can be opened with the pool now."""
        simulators = await self._simulators(pool, metadata)
        if not simulators:
            return _no_simulators(pool)
        free = sorted(each.environments for each in simulators if not each.in_session)
        return aborted(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"pool {pool!r}: no free simulator has at most {at_most} environments; of {len(simulators)}, "
            + (f"{len(free)} are free, the smallest with {free[0]}" if free else "none is free"),
        )


def pool_of(metadata: Mapping[str, str]) -> str:
    """The pool that a call names. Raises StreamAborted(INVALID_ARGUMENT)."""
    name = metadata.get(POOL_METADATA, "")
    if not name:
        raise invalid(f"metadata {POOL_METADATA}", "must name the pool: a service has only those")
    return check_pool_name(name, f"metadata {POOL_METADATA}")


def asks_replicas(metadata: Mapping[str, str]) -> bool:
    """Whether the call is a client's: a replica asks about this one only."""
    return REPLICA_METADATA not in metadata


def _no_simulators(pool: str) -> StreamAborted:
    return aborted(grpc.StatusCode.UNAVAILABLE, f"pool {pool!r} has no simulators: none is attached")
