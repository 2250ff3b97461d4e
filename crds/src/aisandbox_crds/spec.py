"""The spec of a TrainingRun: what a run is asked to do, as frozen values, and the table of its fields.

Owns names, types, defaults, ranges, patterns and descriptions of the fields: the resource's schema, the page for users
and the checks are generated from them (see :mod:`aisandbox_crds.field_rules`). The JSON form is in
:mod:`aisandbox_crds.codec`. Must not know who stores a run or who trains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from aisandbox_crds.demonstrations import DemonstrationSettings
from aisandbox_crds.environments import (
    GRPC_SCHEMES,
    MAX_ADDRESS_LENGTH,
    MAX_ENVIRONMENTS,
    Environment,
    FakeEnvironment,
    GrpcEnvironment,
    GymnasiumEnvironment,
    PoolEnvironment,
)
from aisandbox_crds.evaluation import MAX_TIMESTEPS, Evaluation, StopWhen
from aisandbox_crds.field_rules import ATOMIC, CelRule, about, rule_of
from aisandbox_crds.label_rules import LABEL_KEYS, LABEL_VALUES, RESERVED_LABEL_RULES, object_name
from aisandbox_crds.lessons import MAX_LESSONS, Lesson
from aisandbox_crds.pod_template import PodTemplate
from aisandbox_crds.start_from import StartFrom, TakenPart
from aisandbox_crds.trainer_machine import Resources, Toleration
from aisandbox_crds.volume_path import MAX_PATH_LENGTH, VOLUME_PATH_RULES

__all__ = [
    "CHANGEABLE_FIELDS",
    "GRPC_SCHEMES",
    "MAX_ADDRESS_LENGTH",
    "MAX_ENVIRONMENTS",
    "MAX_HYPERPARAMETERS",
    "MAX_PATH_LENGTH",
    "MAX_SEED",
    "MAX_TIMESTEPS",
    "MAX_VALUE_LENGTH",
    "Algorithm",
    "DemonstrationSettings",
    "Environment",
    "Evaluation",
    "FakeEnvironment",
    "GrpcEnvironment",
    "GymnasiumEnvironment",
    "PoolEnvironment",
    "Resources",
    "StartFrom",
    "StopWhen",
    "TakenPart",
    "Toleration",
    "TrainingRunSpec",
]

MAX_SEED = 2**32 - 1
MAX_HYPERPARAMETERS = 100
MAX_VALUE_LENGTH = 2000
"""Characters of one value of hyperparameters."""


class Algorithm(StrEnum):
    """The learning algorithms, by the names of their classes in stable-baselines3 and sb3-contrib.

    What each can do is in :mod:`aisandbox_crds.algorithms`.
    """

    PPO = "PPO"
    A2C = "A2C"
    DQN = "DQN"
    SAC = "SAC"
    TD3 = "TD3"
    TQC = "TQC"
    CROSSQ = "CrossQ"
    QRDQN = "QRDQN"
    MASKABLEPPO = "MaskablePPO"
    RECURRENTPPO = "RecurrentPPO"


@dataclass(frozen=True, slots=True)
class TrainingRunSpec:
    """What a run is asked to do.

    ``active_deadline_seconds`` and all that follows it concern the machine the trainer runs on. From ``resources`` on
    the values are Kubernetes' own, passed to the Job as they are; on one machine they mean nothing.
    """

    algorithm: Algorithm = field(
        metadata=about(
            "The learning algorithm, by the name of its class in stable-baselines3 or sb3-contrib. "
            "docs/hyperparameters.md says which action spaces each takes.",
        )
    )
    total_timesteps: int = field(
        metadata=about(
            "For how many environment steps to train, over all environments together and over all restarts. "
            "Training stops at the end of the rollout in which this number is reached, so PPO and A2C train "
            "slightly longer.",
            minimum=1,
            maximum=MAX_TIMESTEPS,
        )
    )
    environment: Environment = field(
        default_factory=FakeEnvironment,
        metadata=about(
            "What the policy acts in: exactly one of gymnasium, grpc, pool and fake. Without it, fake.",
        ),
    )
    seed: int | None = field(
        default=None,
        metadata=about(
            "The seed of all that is random in the run. The same seed, spec and versions give the same policy "
            "with an environment that keeps to its seed. Without it, one is derived from the run's uid.",
            minimum=0,
            maximum=MAX_SEED,
        ),
    )
    hyperparameters: Mapping[str, str] = field(
        default_factory=dict,
        metadata=about(
            "Hyperparameters of the algorithm by the names of its stable-baselines3 keywords, each as text, for "
            'example learning_rate: "3e-4"; the others keep their defaults. docs/hyperparameters.md has all of '
            "them with their ranges. A key the algorithm does not have is refused; a value out of its range "
            "fails the run at once with the reason InvalidRun.",
            max_entries=MAX_HYPERPARAMETERS,
            max_length=MAX_VALUE_LENGTH,
        ),
    )
    model_output_path: str = field(
        default="",
        metadata=about(
            "Where the final stable-baselines3 .zip is copied to when the run succeeds, relative to the "
            "volume of models, for example team/my_model.zip; .zip is added to a name without a suffix. Without it, or "
            "empty, no copy is made; checkpoints and models are in the run's own folder in any case.",
            max_length=MAX_PATH_LENGTH,
            cel=VOLUME_PATH_RULES,
        ),
    )
    checkpoint_every_timesteps: int = field(
        default=0,
        metadata=about(
            "Environment steps between checkpoints, which are also when a model is published to be served. 0 "
            "means a tenth of totalTimesteps, at most 100,000. What was trained since the last checkpoint is "
            "lost when a trainer is killed; one that is stopped (suspend, eviction) writes a checkpoint "
            "first.",
            minimum=0,
            maximum=MAX_TIMESTEPS,
        ),
    )
    evaluation: Evaluation | None = field(
        default=None,
        metadata=about(
            "Episodes played during training on an environment of their own; the best model is that of the "
            "best evaluation. Without it there is no evaluation.",
        ),
    )
    start_from: StartFrom | None = field(
        default=None,
        metadata=about(
            "What the run starts from: the weights of another run, or of a file. Its first attempt saves a checkpoint "
            "of them at step 0, from which it is resumed. Without it, random weights.",
        ),
    )
    demonstrations: DemonstrationSettings | None = field(
        default=None,
        metadata=about(
            "Recorded episodes that the policy learns to act like before its first step, by behaviour cloning, and "
            "after startFrom. The result is the checkpoint of step 0. Without it, none.",
        ),
    )
    stop_when: StopWhen | None = field(
        default=None,
        metadata=about(
            "What ends the run before totalTimesteps. It has succeeded then, status.earlyStop says why, and its final "
            "model is the best one. Without it, the run trains to totalTimesteps.",
        ),
    )
    lessons: tuple[Lesson, ...] = field(
        default=(),
        metadata=about(
            "Parameters of the environment that change as the policy learns, as lessons, one after the other. "
            "Evaluations use the last one. Without it, the environment's defaults.",
            max_entries=MAX_LESSONS,
            schema=ATOMIC,
            cel=(
                CelRule(
                    "self.all(lesson, self.exists_one(other, other.name == lesson.name))",
                    "must have lessons of different names",
                ),
                CelRule(
                    "self.size() == 0 || !has(self[self.size() - 1].until) && self.filter(lesson, "
                    "!has(lesson.until)).size() == 1",
                    "must have an until in every lesson but the last, which lasts to the end of the run",
                ),
            ),
        ),
    )
    suspend: bool = field(
        default=False,
        metadata=about(
            "True stops the trainer after a checkpoint and frees its node; false lets the run continue from "
            "there. Can be changed at any time until the run is done. The Job is suspended, so that Kueue can "
            "do the same.",
            immutable=False,
        ),
    )
    cancel: bool = field(
        default=False,
        metadata=about(
            "True ends the run permanently, after a checkpoint, as phase Cancelled. Its files and this resource "
            "stay. It cannot be taken back.",
            immutable=False,
        ),
    )
    backoff_limit: int = field(
        default=3,
        metadata=about(
            "How many failed attempts are followed by another, which continues from the latest checkpoint. One "
            "failure more fails the run. Suspends, evictions and other disruptions of the cluster are not "
            "counted; an error that no retry can cure (a bad hyperparameter) fails the run at once.",
            minimum=0,
            maximum=1000,
            bits=32,
        ),
    )
    active_deadline_seconds: int | None = field(
        default=None,
        metadata=about(
            "Seconds after which the run is stopped and fails with the reason DeadlineExceeded, counted from "
            "the start of its Job, and again from each resumption after a suspend. Without it, there is no "
            "limit.",
            minimum=1,
            maximum=2**31 - 1,
        ),
    )
    ttl_seconds_after_finished: int | None = field(
        default=None,
        metadata=about(
            "Seconds after the run is done at which its Job and pods (and with them the trainer's log) are "
            "deleted; this resource, checkpoints and models stay. Without it, they stay as long as the run. "
            "The Job of a run that was cancelled, or failed because its pod could not start, goes at once. "
            "Can be changed at any time.",
            minimum=0,
            maximum=2**31 - 1,
            bits=32,
            immutable=False,
        ),
    )
    resources: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=about(
            "What the trainer's container needs, as in a pod. Without it, what the operator is configured with.",
            shape=Resources,
            while_idle=True,
        ),
    )
    node_selector: Mapping[str, str] = field(
        default_factory=dict,
        metadata=about(
            "Labels a node must have to run the trainer, for example {accelerator: nvidia}. Without it, any node.",
            max_entries=64,
            max_length=63,
            key_pattern=LABEL_KEYS,
            pattern=LABEL_VALUES,
            while_idle=True,
        ),
    )
    tolerations: tuple[Mapping[str, Any], ...] = field(
        default=(),
        metadata=about(
            "Taints of nodes that the trainer tolerates, as in a pod. Without it, none.",
            max_entries=64,
            shape=Toleration,
            schema=ATOMIC,
            while_idle=True,
        ),
    )
    priority_class_name: str = field(
        default="",
        metadata=about(
            "The PriorityClass of the trainer's pod. Without it, the cluster's default.",
            max_length=253,
            pattern=object_name("PriorityClass"),
            while_idle=True,
        ),
    )
    labels: Mapping[str, str] = field(
        default_factory=dict,
        metadata=about(
            "Labels for the Job and its pods beside the operator's own. With {kueue.x-k8s.io/queue-name: "
            "QUEUE} the Job is created suspended and Kueue decides when it starts (labels of Kueue are on the "
            "Job only, and may as well be in metadata.labels).",
            max_entries=64,
            max_length=63,
            key_pattern=LABEL_KEYS,
            pattern=LABEL_VALUES,
            cel=RESERVED_LABEL_RULES,
            while_idle=True,
        ),
    )
    pod_template: PodTemplate | None = field(
        default=None,
        metadata=about(
            "What the trainer's pod has beside, or instead of, what the operator gives it: the fields of a pod's "
            "template that are listed below, within what the operator's TRAINER_POD_ALLOWED allows. Resources, "
            "nodeSelector, tolerations and priorityClassName are fields of the spec.",
            while_idle=True,
        ),
    )


CHANGEABLE_FIELDS = frozenset(
    each.name for each in fields(TrainingRunSpec) if rule_of(each).while_idle or not rule_of(each).immutable
)
"""Those that can be changed after the run is created, some of them only while no trainer is at work."""
