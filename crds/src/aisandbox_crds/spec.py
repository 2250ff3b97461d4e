"""The spec of a TrainingRun: what a run is asked to do, as frozen values.

Owns the names, types and defaults of the fields. Validation is in :mod:`aisandbox_crds.validation`, the JSON form in
:mod:`aisandbox_crds.codec`. Must not know who stores a run or who trains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Algorithm(StrEnum):
    """The learning algorithms, by the names of their stable-baselines3 classes."""

    PPO = "PPO"
    A2C = "A2C"
    DQN = "DQN"


@dataclass(frozen=True, slots=True)
class GymnasiumEnvironment:
    """An environment registered with Gymnasium, made inside the trainer."""

    id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GrpcEnvironment:
    """Simulators that implement EnvironmentService.

    ``address`` is ``host:port``, several of them separated by commas, or ``dns:///host:port`` for every address the
    name resolves to. ``environments`` counts those of all addresses together; 0 means the hyperparameter ``n_envs``,
    else one for each address.
    """

    address: str
    environments: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FakeEnvironment:
    """A small environment in memory, to try the service with."""


Environment = GymnasiumEnvironment | GrpcEnvironment | FakeEnvironment


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Episodes played during training on an environment of their own.

    ``every_timesteps`` is in environment steps of training; 0 means as often as checkpoints.
    """

    every_timesteps: int = 0
    episodes: int = 10
    stochastic: bool = False


@dataclass(frozen=True, slots=True)
class TrainingRunSpec:
    """What a run is asked to do.

    ``checkpoint_every_timesteps`` 0 means a tenth of ``total_timesteps``, at most 100,000. ``seed`` None means that
    whoever creates the run chooses one. ``model_output_path`` is relative to MODELS_DIR; empty means no copy.

    ``active_deadline_seconds`` and all that follows it concern the machine the trainer runs on. From ``resources`` on
    the values are Kubernetes' own, passed to the Job as they are; on one machine they mean nothing.
    ``ttl_seconds_after_finished``: how long the Job and its pods stay after the run is done; None means as long as the
    run. ``labels`` are put on the Job and its pods.
    """

    algorithm: Algorithm
    total_timesteps: int
    environment: Environment = field(default_factory=FakeEnvironment)
    seed: int | None = None
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    model_output_path: str = ""
    checkpoint_every_timesteps: int = 0
    evaluation: Evaluation | None = None
    suspend: bool = False
    cancel: bool = False
    backoff_limit: int = 3
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None
    resources: Mapping[str, Any] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    priority_class_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
