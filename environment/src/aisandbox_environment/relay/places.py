"""The places of the pools: which simulators are attached, and which of them is free.

Owns the choice of a place, and what is told about a pool. Must not know how messages travel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from aisandbox.v1 import environment_pb2, simulator_pool_pb2

from aisandbox_environment.relay.place import Place
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
    places: dict[str, Place] = field(default_factory=dict)


class Places:
    """The places that are attached to this process."""

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
        if new.instance in joining or (pool is not None and new.instance in pool.places):
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

    def add(self, place: Place) -> None:
        """Adds a place that was reserved."""
        new = place.registration
        pool = self._pools.setdefault(new.pool, _Pool(new.spec))
        place.registration = replace(new, spec=pool.spec)  # one object for all that have the same
        pool.places[new.instance] = place
        self._number += 1

    def remove(self, place: Place) -> None:
        """Removes a place; a pool without places is forgotten."""
        new = place.registration
        pool = self._pools.get(new.pool)
        if pool is not None and pool.places.get(new.instance) is place:
            del pool.places[new.instance]
            self._number -= 1
            if not pool.places:
                del self._pools[new.pool]

    def of(self, pool: str) -> list[Place]:
        """The places of a pool, by instance."""
        found = self._pools.get(pool)
        return [] if found is None else [found.places[name] for name in sorted(found.places)]

    def all(self) -> Iterator[Place]:
        """All places, by pool and instance."""
        for pool in sorted(self._pools):
            yield from self.of(pool)

    def free(self, pool: str, at_most: int) -> Place | None:
        """The largest free place with at most that many environments, of those the one that has waited longest."""
        fitting = [each for each in self.of(pool) if each.free and each.registration.environments <= at_most]
        return max(fitting, key=lambda each: (each.registration.environments, -each.free_since), default=None)

    def describe(self, pool: str, *, joining: bool = False) -> environment_pb2.DescribeResponse | None:
        """The description of a pool; None if it has no places here.

        ``joining``: of one without places too, if a simulator registers for it at this moment; its capacity is 0.
        """
        places = self.of(pool)
        registrations = [each.registration for each in places] or (self.joining(pool) if joining else [])
        if not registrations:
            return None
        first = registrations[0]
        return environment_pb2.DescribeResponse(
            protocol_version=PROTOCOL_VERSION,
            name=first.name,
            version=first.version,
            spec=first.spec.to_proto(),
            capacity=sum(each.registration.environments for each in places),
            in_use=sum(each.registration.environments for each in places if not each.free),
        )


def simulator_message(place: Place) -> simulator_pool_pb2.Simulator:
    """The place as ListSimulators shows it."""
    new = place.registration
    message = simulator_pool_pb2.Simulator(
        pool=new.pool,
        instance=new.instance,
        environments=new.environments,
        run_id=place.run_id,
        steps=place.steps,
        name=new.name,
        version=new.version,
        in_session=not place.free,
    )
    message.attach_time.FromDatetime(place.attach_time)
    return message


def joining_message(new: Registration) -> simulator_pool_pb2.Simulator:
    """One that registers at this moment, as another replica sees it."""
    return simulator_pool_pb2.Simulator(
        pool=new.pool, instance=new.instance, environments=new.environments, in_session=True
    )
