"""How many environments a run has: the rule between ``environment.grpc.environments``, ``n_envs`` and the addresses."""

from __future__ import annotations

from aisandbox_crds.addresses import address_count
from aisandbox_crds.hyperparameters import Hyperparameters
from aisandbox_crds.spec import GrpcEnvironment, TrainingRunSpec

MAX_ENVIRONMENTS = 4096


def effective_environments(spec: TrainingRunSpec, hyperparameters: Hyperparameters, addresses: int) -> int:
    """How many environments are stepped together.

    What the spec says, else ``n_envs``, else one for each of the ``addresses`` the simulator's address stands for
    (1 for an environment inside the trainer).
    """
    said = spec.environment.environments if isinstance(spec.environment, GrpcEnvironment) else 0
    return said or hyperparameters.n_envs or addresses


def known_environments(spec: TrainingRunSpec, hyperparameters: Hyperparameters) -> int | None:
    """:func:`effective_environments` before names are resolved; None if only DNS can tell."""
    addresses: int | None = 1
    if isinstance(spec.environment, GrpcEnvironment):
        addresses = address_count(spec.environment.address)
    return effective_environments(spec, hyperparameters, addresses or 0) or None
