"""The attached simulators of the pools, and which of them are free.

Owns the choice of a simulator for a session, and what is told about a pool. Must not know how messages travel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from aisandbox.v1 import environment_pb2, simulator_pool_pb2

from aisandbox_environment.relay.attached_simulator import AttachedSimulator
from aisandbox_environment.relay.registrations import (
    Registration,
    check_same_as_joining,
    check_same_spec,
    instance_taken,
)
from aisandbox_environment.spec import PROTOCOL_VERSION, Spec


@dataclass(slots=True)
class _Pool:
    spec: Spec
    simulators: dict[str, AttachedSimulator] = field(default_factory=dict)


class AttachedSimulators:
    """The simulators that are attached to this process."""

    def __init__(self) -> None:
        self._pools: dict[str, _Pool] = {}
        self._joining: dict[str, dict[str, Registration]] = {}
        self._number = 0

    def __len__(self) -> int:
        return self._number

    @contextmanager
    def reserve(self, new: Registration) -> Iterator[None]:
        """While a simulator registers: others see that it does.

        Raises StreamAborted if the pool has the instance or another spec already, or gets it at this moment.
        """
        pool, joining = self._pools.get(new.pool), self._joining.get(new.pool, {})
        if new.instance in joining or (pool is not None and new.instance in pool.simulators):
            raise instance_taken(new)
        if pool is not None:
            check_same_spec(new, pool.spec)
        for each in joining.values():
            check_same_as_joining(new, each.spec)
        self._joining.setdefault(new.pool, joining)[new.instance] = new
        try:
            yield
        finally:
            del joining[new.instance]
            if not joining:
                del self._joining[new.pool]

    def joining(self, pool: str) -> list[Registration]:
        """Those of a pool that register at this moment."""
        return list(self._joining.get(pool, {}).values())

    def add(self, simulator: AttachedSimulator) -> None:
        """Adds a simulator that was reserved."""
        new = simulator.registration
        pool = self._pools.setdefault(new.pool, _Pool(new.spec))
        simulator.registration = replace(new, spec=pool.spec)  # one object for all that have the same
        pool.simulators[new.instance] = simulator
        self._number += 1

    def remove(self, simulator: AttachedSimulator) -> None:
        """Removes a simulator; a pool without simulators is forgotten."""
        new = simulator.registration
        pool = self._pools.get(new.pool)
        if pool is not None and pool.simulators.get(new.instance) is simulator:
            del pool.simulators[new.instance]
            self._number -= 1
            if not pool.simulators:
                del self._pools[new.pool]

    def of(self, pool: str) -> list[AttachedSimulator]:
        """The simulators of a pool, by instance."""
        found = self._pools.get(pool)
        return [] if found is None else [found.simulators[name] for name in sorted(found.simulators)]

    def all(self) -> Iterator[AttachedSimulator]:
        """All simulators, by pool and instance."""
        for pool in sorted(self._pools):
            yield from self.of(pool)

    def free(self, pool: str, at_most: int) -> AttachedSimulator | None:
        """The largest free simulator with at most that many environments, of those the one that has waited longest."""
        fitting = [each for each in self.of(pool) if each.free and each.registration.environments <= at_most]
        return max(fitting, key=lambda each: (each.registration.environments, -each.free_since), default=None)

    def describe(self, pool: str, *, joining: bool = False) -> environment_pb2.DescribeResponse | None:
        """The description of a pool; None if it has no simulators here.

        ``joining``: of one without simulators too, if a simulator registers for it at this moment; its capacity is 0.
        """
        simulators = self.of(pool)
        registrations = [each.registration for each in simulators] or (self.joining(pool) if joining else [])
        if not registrations:
            return None
        first = registrations[0]
        return environment_pb2.DescribeResponse(
            protocol_version=PROTOCOL_VERSION,
            name=first.name,
            version=first.version,
            spec=first.spec.to_proto(),
            capacity=sum(each.registration.environments for each in simulators),
            in_use=sum(each.registration.environments for each in simulators if not each.free),
        )


def simulator_message(simulator: AttachedSimulator) -> simulator_pool_pb2.Simulator:
    """The simulator as ListSimulators shows it."""
    new = simulator.registration
    message = simulator_pool_pb2.Simulator(
        pool=new.pool,
        instance=new.instance,
        environments=new.environments,
        run_id=simulator.run_id,
        steps=simulator.steps,
        name=new.name,
        version=new.version,
        in_session=not simulator.free,
    )
    message.attach_time.FromDatetime(simulator.attach_time)
    return message


def joining_message(new: Registration) -> simulator_pool_pb2.Simulator:
    """One that registers at this moment, as another replica sees it."""
    return simulator_pool_pb2.Simulator(
        pool=new.pool, instance=new.instance, environments=new.environments, in_session=True
    )
