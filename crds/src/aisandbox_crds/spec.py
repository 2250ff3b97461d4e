"""The spec of a TrainingRun: what a run is asked to do, as frozen values, and the table of its fields.

Owns names, types, defaults, ranges, patterns and descriptions of the fields: the resource's schema, the page for users
and the checks are generated from them (see :mod:`aisandbox_crds.field_rules`). The JSON form is in
:mod:`aisandbox_crds.codec`. Must not know who stores a run or who trains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aisandbox_crds.field_rules import ATOMIC, CelRule, Pattern, about
from aisandbox_crds.label_rules import (
    LABEL_KEY,
    LABEL_KEYS,
    LABEL_NAME,
    LABEL_VALUES,
    RESERVED_LABEL_RULES,
    object_name,
)
from aisandbox_crds.lessons import MAX_LESSONS, Lesson
from aisandbox_crds.pod_template import PodTemplate

MAX_TIMESTEPS = 10**12
MAX_SEED = 2**32 - 1
MAX_ENVIRONMENTS = 4096
MAX_HYPERPARAMETERS = 100
MAX_PATH_LENGTH = 1024
MAX_ADDRESS_LENGTH = 8192

GRPC_SCHEMES = (
    *("dns", "fake", "google-c2p", "google-c2p-experimental", "ipv4", "ipv6", "passthrough", "sockaddr"),
    *("unix", "unix-abstract", "vsock", "xds"),
)
"""What gRPC takes for a scheme where a host is meant: as in aisandbox_process, which this package does not import."""

_MODULE = "[A-Za-z][A-Za-z0-9_]*([.][A-Za-z][A-Za-z0-9_]*)*"
_HOST = "([[][0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?[]]|[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?[.]?)"
_BLANKS = "[[:space:]]*"
_TARGET = f"{_BLANKS}(dns:///)?{_HOST}:[0-9]{{1,5}}{_BLANKS}"


VOLUME_PATH_RULES = (
    CelRule("!self.startsWith('/')", "must be relative to the volume of models, not absolute"),
    CelRule("!self.matches('(^|/)[.][.](/|$)')", "must not contain '..'"),
    CelRule(
        r"!self.contains(':') && !self.contains('\\')",
        "must have / between folders, and no backslash or colon",
    ),
    CelRule("!self.matches('(^|/)[.]?$') || self == ''", "must end in a file name"),
    CelRule(
        "!self.matches('(?i)^([.]?/+)*runs(/|$)')",
        "must not be in the folder 'runs', which holds the service's own files",
    ),
    CelRule(
        r"!self.matches(r'[\p{C}\p{Zl}\p{Zp}\x{A0}\x{1680}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}]')",
        "must have no control characters",
    ),
    CelRule(
        "!self.matches('(?i)( |[^/.][.]+|(^|/)[.]{3,}|(^|/)(con|prn|aux|nul|com[0-9]|lpt[0-9])([.][^/]*)?)(/|$)')",
        "must have no name that ends in a dot or space or is a device on Windows",
    ),
)
"""Of a path below the volume of models, for files of users; its Python is in output_path.py."""


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
class GymnasiumEnvironment:
    """An environment registered with Gymnasium, made inside the trainer."""

    id: str = field(
        metadata=about(
            "The id of the environment, as CartPole-v1, ALE/Pong-v5 or my_package:MyEnv-v0. What registers it "
            "must be in the trainer image.",
            min_length=1,
            max_length=200,
            pattern=Pattern(
                f"({_MODULE}:)?([A-Za-z0-9_:-]+/)?[A-Za-z0-9_.-]+",
                "must be the id of a Gymnasium environment, as 'CartPole-v1'",
            ),
        )
    )
    kwargs: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=about(
            "Keyword arguments of the environment, any JSON; its keys are Python identifiers. Without it, none.",
        ),
    )


@dataclass(frozen=True, slots=True)
class GrpcEnvironment:
    """Simulators that implement aisandbox.v1.EnvironmentService; the trainer connects to them."""

    address: str = field(
        metadata=about(
            "Where the simulators listen, as seen from the trainer's pod: host:port, several of them "
            "separated by commas, or dns:///host:port for every address the name resolves to (a headless "
            "Service). Blanks around an address are no part of it.",
            min_length=1,
            max_length=MAX_ADDRESS_LENGTH,
            cel=(
                CelRule(
                    f"self.matches('^{_TARGET}(,{_TARGET})*$')",
                    "must be host:port, several of them separated by commas, or dns:///host:port; as "
                    "'sim-0.sims:50061,sim-1.sims:50061' or 'dns:///sims:50061'",
                ),
                CelRule(
                    f"!self.matches('(?i)(^|,|/){_BLANKS}({'|'.join(GRPC_SCHEMES)}):[0-9]')",
                    "must have hosts that gRPC does not take for schemes, as unix and xds",
                ),
                CelRule(
                    "!self.matches(':(0+|0*([7-9][0-9]{4}|6[6-9][0-9]{3}|65[6-9][0-9]{2}|655[4-9][0-9]|6553[6-9]))"
                    f"{_BLANKS}(,|$)')",
                    "must have ports from 1 to 65535",
                ),
            ),
        )
    )
    environments: int = field(
        default=0,
        metadata=about(
            "How many environments to step together, over all addresses. 0 means the hyperparameter n_envs, "
            "or else one for each address.",
            minimum=0,
            maximum=MAX_ENVIRONMENTS,
            bits=32,
        ),
    )
    options: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=about(
            "Passed to the simulator when the session opens: any JSON that the simulator understands. Without "
            "it, none.",
        ),
    )

    def __post_init__(self) -> None:
        if isinstance(self.address, str):  # a file may have any JSON; its check comes later
            object.__setattr__(self, "address", ",".join(part.strip() for part in self.address.split(",")))


@dataclass(frozen=True, slots=True)
class PoolEnvironment:
    """The simulators of a pool: programs that dial the service and wait to be used."""

    name: str = field(
        metadata=about(
            "The pool. Its simulators say its name when they attach to the service.",
            min_length=1,
            max_length=63,
            pattern=Pattern(
                "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
                "must be 1 to 63 lower-case letters, digits and '-', beginning and ending with a letter or digit",
            ),
        )
    )
    environments: int = field(
        default=0,
        metadata=about(
            "The most environments to step together, over all simulators. 0 means the hyperparameter n_envs, or else "
            "all that are free in the pool. The environments of a simulator are taken together.",
            minimum=0,
            maximum=MAX_ENVIRONMENTS,
            bits=32,
        ),
    )
    minimum: int = field(
        default=0,
        metadata=about(
            "The fewest environments to train with; while there are fewer, the run waits. From there up to "
            "environments it takes those that attach later, between two rollouts. 0 means as many as environments (or "
            "n_envs) says, or else 1.",
            minimum=0,
            maximum=MAX_ENVIRONMENTS,
            bits=32,
        ),
    )
    options: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=about(
            "Passed to each simulator when its session opens: any JSON that the simulators understand. Without it, "
            "none.",
        ),
    )


@dataclass(frozen=True, slots=True)
class FakeEnvironment:
    """A small environment in memory, to try the service with. It has no settings."""


Environment = GymnasiumEnvironment | GrpcEnvironment | PoolEnvironment | FakeEnvironment


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Episodes played during training on an environment of their own."""

    every_timesteps: int = field(
        default=0,
        metadata=about(
            "Environment steps of training between evaluations. 0 means as often as checkpoints.",
            minimum=0,
            maximum=MAX_TIMESTEPS,
        ),
    )
    episodes: int = field(
        default=10,
        metadata=about(
            "Episodes an evaluation plays.",
            minimum=1,
            maximum=10_000,
            bits=32,
        ),
    )
    stochastic: bool = field(
        default=False,
        metadata=about(
            "Whether evaluations draw actions from the policy, instead of taking the likeliest.",
        ),
    )


class TakenPart(StrEnum):
    """What a run can take over beside the weights, as ``startFrom.take`` spells it."""

    NORMALIZATION = "normalization"
    OPTIMIZER = "optimizer"
    REPLAY_BUFFER = "replayBuffer"


@dataclass(frozen=True, slots=True)
class StartFrom:
    """What a run starts from, instead of random weights: exactly one of run and zip."""

    run: str = field(
        default="",
        metadata=about(
            "The run whose weights it starts from, by its name. It is in the same namespace and has the same "
            "algorithm; the spaces and the networks are the same too.",
            max_length=52,
            pattern=Pattern(
                "([a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?)?",
                "must be the name of a run: at most 52 lower-case letters, digits and '-'",
            ),
        ),
    )
    model: str = field(
        default="",
        metadata=about(
            "Which of its models: latest, best, final, step:N or sha256:DIGEST. Without it and without checkpoint, "
            "final if there is one, else latest.",
            max_length=71,
            pattern=Pattern(
                "(latest|best|final|step:[0-9]{1,18}|sha256:[0-9a-f]{64})?",
                "must be latest, best, final, step:N or sha256: and 64 hexadecimal digits",
            ),
        ),
    )
    checkpoint: str = field(
        default="",
        metadata=about(
            "One of its checkpoints instead of a model: latest, step:N or sha256:DIGEST. Only a checkpoint has an "
            "optimizer and a replay buffer.",
            max_length=71,
            pattern=Pattern(
                "(latest|step:[0-9]{1,18}|sha256:[0-9a-f]{64})?",
                "must be latest, step:N or sha256: and 64 hexadecimal digits",
            ),
        ),
    )
    zip: str = field(
        default="",
        metadata=about(
            "Instead of a run, a zip file that stable-baselines3 has saved, relative to the volume of models, as "
            "team/my_model.zip. What is pickled in it is not read.",
            max_length=MAX_PATH_LENGTH,
            cel=VOLUME_PATH_RULES,
        ),
    )
    take: tuple[TakenPart, ...] = field(
        default=(),
        metadata=about(
            "What is taken over beside the weights (and the entropy coefficient): normalization (the statistics of "
            "VecNormalize), optimizer, replayBuffer. Without it, nothing.",
            max_entries=3,
            schema={"x-kubernetes-list-type": "set"},
        ),
    )
    digest: str = field(
        default="",
        metadata=about(
            "The digest that the model, the checkpoint or the zip file must have, as sha256:...; a start over gRPC "
            "fills it in. Without it, the one found when the first attempt begins.",
            max_length=71,
            pattern=Pattern("(sha256:[0-9a-f]{64})?", "must be sha256: and 64 hexadecimal digits"),
        ),
    )


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """Recorded episodes that the policy learns to act like before its first step in the environment."""

    file: str = field(
        metadata=about(
            "The file that aisandbox record has written, relative to the volume of models, as team/heuristic.parquet.",
            min_length=1,
            max_length=MAX_PATH_LENGTH,
            cel=VOLUME_PATH_RULES,
        )
    )
    epochs: int = field(
        default=10,
        metadata=about(
            "How many times the policy goes through all of them.",
            minimum=1,
            maximum=10_000,
            bits=32,
        ),
    )
    batch_size: int = field(
        default=64,
        metadata=about(
            "Steps of a minibatch.",
            minimum=1,
            maximum=1_000_000,
            bits=32,
        ),
    )
    learning_rate: float | None = field(
        default=None,
        metadata=about(
            "The learning rate of cloning; that of the algorithm is for the run after it. Without it, 0.001.",
            cel=(CelRule("self > 0.0 && self <= 1.0", "must be more than 0 and at most 1"),),
        ),
    )
    digest: str = field(
        default="",
        metadata=about(
            "The digest that the file must have, as sha256:...; a start over gRPC fills it in. Without it, the one "
            "found when the first attempt begins.",
            max_length=71,
            pattern=Pattern("(sha256:[0-9a-f]{64})?", "must be sha256: and 64 hexadecimal digits"),
        ),
    )


@dataclass(frozen=True, slots=True)
class StopWhen:
    """What ends a run before totalTimesteps, as Succeeded: whichever of them comes first."""

    episode_reward_mean: float | None = field(
        default=None,
        metadata=about(
            "A mean return of training that is enough: that of the last episodes (100, or stats_window_size), once "
            "there have been so many. It is looked at after each rollout in which an episode has ended.",
        ),
    )
    evaluation_reward_mean: float | None = field(
        default=None,
        metadata=about(
            "A mean return of an evaluation that is enough. Needs evaluation.",
        ),
    )
    times_in_a_row: int = field(
        default=1,
        metadata=about(
            "How many times in a row the mean return must be reached.",
            minimum=1,
            maximum=10_000,
            bits=32,
        ),
    )
    evaluations_without_improvement: int = field(
        default=0,
        metadata=about(
            "So many evaluations in a row without a better mean return than the best before them. Needs evaluation. 0 "
            "means any number.",
            minimum=0,
            maximum=10_000,
            bits=32,
        ),
    )
    training_seconds: int = field(
        default=0,
        metadata=about(
            "So many seconds of training, over all attempts, evaluations and waits for simulators included; what a "
            "restart repeats is counted once. The run ends with the rollout in which they have passed. 0 means any "
            "time.",
            minimum=0,
            maximum=2**31 - 1,
        ),
    )


@dataclass(frozen=True, slots=True)
class Resources:
    """The fields of ``resources``, which a spec keeps as Kubernetes has them."""

    requests: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=about(
            "What is reserved on a node for the trainer, as {cpu: 500m, memory: 2Gi}. Without it, the limits.",
            max_entries=32,
        ),
    )
    limits: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=about(
            "What the trainer may use at most, as {cpu: 2, memory: 4Gi, nvidia.com/gpu: 1}. A trainer that "
            "exceeds its memory is killed, and the next attempt continues from the latest checkpoint.",
            max_entries=32,
        ),
    )


@dataclass(frozen=True, slots=True)
class Toleration:
    """The taints that match key, value and effect.

    The fields of an entry of ``tolerations``, which a spec keeps as Kubernetes has them.
    """

    key: str = field(
        default="",
        metadata=about(
            "The key of the taint; without it, with the operator Exists, every taint.",
            max_length=317,
            pattern=Pattern(f"({LABEL_KEY})?", "must be the key of a taint, as a label's"),
        ),
    )
    operator: str = field(
        default="",
        metadata=about(
            "Whether the taint must have the value (Equal) or any (Exists). Without it, Equal.",
            choices=("Exists", "Equal"),
        ),
    )
    value: str = field(
        default="",
        metadata=about(
            "The value of the taint.",
            max_length=63,
            pattern=Pattern(f"({LABEL_NAME})?", "must be the value of a taint, as a label's"),
        ),
    )
    effect: str = field(
        default="",
        metadata=about(
            "The effect of the taint; without it, every effect.",
            choices=("NoSchedule", "PreferNoSchedule", "NoExecute"),
        ),
    )
    toleration_seconds: int | None = field(
        default=None,
        metadata=about(
            "Seconds the trainer stays on a node that gets a taint NoExecute. Without it, without limit.",
        ),
    )


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
            "It ends with the rollout in which it reaches it, so PPO and A2C a little later.",
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
            max_length=4096,
        ),
    )
    model_output_path: str = field(
        default="",
        metadata=about(
            "Where the final stable-baselines3 .zip is copied to when the run succeeds, relative to the "
            "volume of models, as team/my_model.zip; .zip is added to a name without a suffix. Without it, or "
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
    demonstrations: Demonstrations | None = field(
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
            "Labels a node must have to run the trainer, as {accelerator: nvidia}. Without it, any node.",
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
