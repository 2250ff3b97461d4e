"""What holds where a spec leaves a value open: its zeros and its absent fields, the same for every process.

A rule stands here when more than one process must come to the same value and writing it into the spec is not possible:
the spec belongs to its author (GitOps would remove what others add).
"""

from __future__ import annotations

import hashlib

from aisandbox_crds.addresses import address_count
from aisandbox_crds.hyperparameters import Hyperparameters
from aisandbox_crds.spec import MAX_ENVIRONMENTS, GrpcEnvironment, PoolEnvironment, TrainingRunSpec

MAX_DEFAULT_CHECKPOINT_INTERVAL = 100_000


def seed_of(uid: str) -> int:
    """0 to 2^32 - 1: the run's own, and the same for each of its trainers."""
    return int.from_bytes(hashlib.sha256(uid.encode()).digest()[:4], "big")


def effective_checkpoint_interval(spec: TrainingRunSpec) -> int:
    """Environment steps between checkpoints, at least 1; by default a tenth of the run, at most 100,000."""
    default = min(max(spec.total_timesteps // 10, 1), MAX_DEFAULT_CHECKPOINT_INTERVAL)
    return spec.checkpoint_every_timesteps or default


def effective_evaluation_interval(spec: TrainingRunSpec) -> int | None:
    """Environment steps of training between evaluations; by default as between checkpoints. None: no evaluation."""
    if spec.evaluation is None:
        return None
    return spec.evaluation.every_timesteps or effective_checkpoint_interval(spec)


def effective_pool_range(environment: PoolEnvironment, hyperparameters: Hyperparameters) -> tuple[int, int]:
    """The fewest and the most environments that a run on a pool steps together."""
    stated = environment.environments or hyperparameters.n_envs
    return environment.minimum or stated or 1, stated or MAX_ENVIRONMENTS


def effective_environments(spec: TrainingRunSpec, hyperparameters: Hyperparameters, addresses: int) -> int:
    """How many environments are stepped together.

    The number in the spec, else ``n_envs``, else one for each of the ``addresses`` the simulator's address stands for
    (1 for an environment inside the trainer). A pool is not meant: see :func:`effective_pool_range`.
    """
    stated = spec.environment.environments if isinstance(spec.environment, GrpcEnvironment) else 0
    return stated or hyperparameters.n_envs or addresses


def known_environments(spec: TrainingRunSpec, hyperparameters: Hyperparameters) -> int | None:
    """:func:`effective_environments` before names are resolved; None if only DNS can tell. Of a pool the fewest."""
    if isinstance(spec.environment, PoolEnvironment):
        return effective_pool_range(spec.environment, hyperparameters)[0]
    addresses: int | None = 1
    if isinstance(spec.environment, GrpcEnvironment):
        addresses = address_count(spec.environment.address)
    return effective_environments(spec, hyperparameters, addresses or 0) or None
