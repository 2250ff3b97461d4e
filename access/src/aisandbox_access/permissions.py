"""The permissions, the roles that have them, and the permission that each method needs.

A method without a row in the table cannot be called. Must not know how a principal is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum


class Permission(StrEnum):
    """What somebody may do."""

    VIEW = "view"
    """See runs and their status, and attached simulators."""
    TRAIN = "train"
    """Start runs; cancel, suspend and resume them."""
    ACT = "act"
    """Ask policies for actions."""
    MODEL = "model"
    """Download policies."""
    SIMULATE = "simulate"
    """Attach simulators."""
    ADMINISTER = "administer"
    """Do what the other permissions allow with the runs of everybody."""


ROLES: Mapping[str, frozenset[Permission]] = {
    "viewer": frozenset({Permission.VIEW}),
    "actor": frozenset({Permission.VIEW, Permission.ACT, Permission.MODEL}),
    "trainer": frozenset({Permission.VIEW, Permission.TRAIN, Permission.ACT, Permission.MODEL}),
    "simulator": frozenset({Permission.SIMULATE}),
    "admin": frozenset(Permission),
}
"""What each role may do: with its own runs; ``admin`` with those of everybody."""


def permissions_of(roles: frozenset[str]) -> frozenset[Permission]:
    """What roles may do together; a name that is none counts for nothing."""
    return frozenset(permission for role in roles for permission in ROLES.get(role, ()))


class Scope(Enum):
    """What a permission is needed for."""

    SERVICE = "service"
    """For the service as a whole: the method names nothing."""
    RUN = "run"
    """For the run that the request names, which is checked when it has been read."""
    POOL = "pool"
    """For the pool of simulators that the request names, which is checked when it has been read."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a method needs. ``permission`` None: nothing, whoever calls.

    ``changes``: every call is recorded. ``trainers``: trainers call it, with the token that they report with, and the
    method itself checks whose it is. ``identified``: the caller must be known, if callers are authenticated.
    """

    permission: Permission | None
    scope: Scope = Scope.SERVICE
    changes: bool = False
    trainers: bool = False
    identified: bool = False


_RUNS = "/aisandbox.v1.PolicyTrainerService/"
_START = Rule(Permission.TRAIN, changes=True)
_STEER = Rule(Permission.TRAIN, Scope.RUN, changes=True)
_OPEN = Rule(None)
_REFLECTION = Rule(Permission.VIEW)
ATTACH_METHOD = "/aisandbox.v1.SimulatorPoolService/Attach"
ACT_METHOD = f"{_RUNS}Act"
STATUS_METHOD = f"{_RUNS}GetTrainingStatus"

METHODS: Mapping[str, Rule] = {
    f"{_RUNS}StartTraining": _START,
    f"{_RUNS}StartTrainingPPO": _START,
    f"{_RUNS}StartTrainingA2C": _START,
    f"{_RUNS}StartTrainingDQN": _START,
    STATUS_METHOD: Rule(Permission.VIEW, Scope.RUN),
    f"{_RUNS}WatchTraining": Rule(Permission.VIEW, Scope.RUN),
    f"{_RUNS}ListTrainingRuns": Rule(Permission.VIEW),
    f"{_RUNS}CancelTraining": _STEER,
    f"{_RUNS}SuspendTraining": _STEER,
    f"{_RUNS}ResumeTraining": _STEER,
    ACT_METHOD: Rule(Permission.ACT, Scope.RUN),
    f"{_RUNS}ActBatch": Rule(Permission.ACT, Scope.RUN),
    f"{_RUNS}ActStream": Rule(Permission.ACT, Scope.RUN),
    f"{_RUNS}GetModel": Rule(Permission.MODEL, Scope.RUN),
    f"{_RUNS}DescribeModel": Rule(Permission.MODEL, Scope.RUN),
    f"{_RUNS}WhoAmI": Rule(None, identified=True),
    ATTACH_METHOD: Rule(Permission.SIMULATE, Scope.POOL, changes=True),
    "/aisandbox.v1.SimulatorPoolService/ListSimulators": Rule(Permission.VIEW),
    "/aisandbox.v1.EnvironmentService/Describe": Rule(Permission.TRAIN),
    "/aisandbox.v1.EnvironmentService/Session": Rule(Permission.TRAIN),
    "/aisandbox.v1.TrainingProgressService/Report": Rule(None, trainers=True),
    "/aisandbox.v1.TrainingProgressService/PublishOutput": Rule(None, trainers=True),
    # Probes of the cluster and of load balancers have no credentials. That of a model asks for it by itself.
    "/grpc.health.v1.Health/Check": _OPEN,
    "/grpc.health.v1.Health/List": _OPEN,
    "/grpc.health.v1.Health/Watch": _OPEN,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _REFLECTION,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _REFLECTION,
}
"""The rule of every method by its full name."""
