"""The places of the pools: which simulators are attached, and which of them is free.

Owns the choice of a place, and what is told about a pool. Must not know how messages travel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from aisandbox.v1 import environment_pb2, simulator_pool_pb2

from aisandbox_environment.relay.place import Place
from aisandbox_environment.relay.registrations import Registration, check_same_spec, instance_taken
from aisandbox_environment.spec import PROTOCOL_VERSION, Spec


@dataclass(slots=True)
class _Pool:
    spec: Spec
    places: dict[str, Place] = field(default_factory=dict)


class Places:
    """The places that are attached to this process."""

    def __init__(self) -> None:
        self._pools: dict[str, _Pool] = {}

    def check(self, new: Registration) -> None:
        """Raises StreamAborted if the pool has the instance already, or another spec."""
        pool = self._pools.get(new.pool)
        if pool is None:
            return
        if new.instance in pool.places:
            raise instance_taken(new)
        check_same_spec(new, pool.spec)

    def add(self, place: Place) -> None:
        """Adds a place that :meth:`check` accepts."""
        new = place.registration
        pool = self._pools.setdefault(new.pool, _Pool(new.spec))
        place.registration = replace(new, spec=pool.spec)  # one object for all that have the same
        pool.places[new.instance] = place

    def remove(self, place: Place) -> None:
        """Removes a place; a pool without places is forgotten."""
        new = place.registration
        pool = self._pools.get(new.pool)
        if pool is not None and pool.places.get(new.instance) is place:
            del pool.places[new.instance]
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

    def describe(self, pool: str) -> environment_pb2.DescribeResponse | None:
        """The description of a pool; None if it has no places here."""
        places = self.of(pool)
        if not places:
            return None
        first = places[0].registration
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
