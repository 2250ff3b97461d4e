"""The table of algorithms: what each can do, and the keywords of its class.

Rules, the resource's schema, the pages for users, the command line's choices and the trainer's class, export and
capabilities derive from it. An algorithm is added here; CONTRIBUTING.md lists the other places. Must not import
stable-baselines3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aisandbox_crds import keyword_groups as group
from aisandbox_crds.keyword_groups import COEFFICIENT
from aisandbox_crds.parameter import Hyperparameter
from aisandbox_crds.parameter_types import BoolType, FloatType, IntType, OptionalType, ParameterType
from aisandbox_crds.policy_kwargs import (
    ACTOR_CRITIC_KEYWORDS,
    BATCH_NORM_KEYWORDS,
    DISCRETE_ACTOR_CRITIC_KEYWORDS,
    GAUSSIAN_ACTOR_KEYWORDS,
    OBSERVED_VECTORS,
    POLICIES,
    Q_ACTOR_KEYWORDS,
    Q_KEYWORDS,
    QUANTILE_KEYWORDS,
    RECURRENT_KEYWORDS,
    RECURRENT_POLICIES,
    PolicyKwargsType,
)
from aisandbox_crds.spec import Algorithm

ANY = ("box", "discrete", "multi_discrete", "multi_binary")
DISCRETE = ("discrete",)
BOX = ("box",)
CHOICES = ("discrete", "multi_discrete", "multi_binary")


@dataclass(frozen=True, slots=True)
class AlgorithmTraits:
    """What an algorithm can do.

    ``actions``: the kinds of action spaces it chooses from, as :class:`DeclaredLeaf` has them. ``off_policy``: it
    learns from a replay buffer. ``action_noise``: it takes noise_type and noise_std. ``masks``: it obeys the action
    masks of a simulator, and needs them. ``with_masks``: what is trained in its place where a simulator declares masks;
    it has the same keywords, but for those of Box actions. ``recurrent``: its policy has a state. ``width``: of a
    hidden layer by default. ``policies``: the names of its policies by what they observe, one of OBSERVED_VECTORS,
    OBSERVED_IMAGES and OBSERVED_DICT.
    """

    title: str
    actions: tuple[str, ...]
    parameters: tuple[Hyperparameter, ...]
    policies: Mapping[str, str] = field(default_factory=lambda: POLICIES)
    off_policy: bool = False
    action_noise: bool = False
    masks: bool = False
    with_masks: Algorithm | None = None
    recurrent: bool = False
    width: int = 64

    @property
    def policy_keywords(self) -> Mapping[str, ParameterType]:
        """What ``policy_kwargs`` takes, beside the dicts of DEPENDENT_KEYWORDS."""
        types = (parameter.type for parameter in self.parameters)
        return next(type_ for type_ in types if isinstance(type_, PolicyKwargsType)).keywords

    @property
    def has_critics(self) -> bool:
        """Whether it is an off-policy actor-critic: critics take the action as an input."""
        return self.off_policy and self.actions == BOX


_CLIPPED_POLICY = (
    group.rate(3e-4, custom=True),
    Hyperparameter("n_steps", IntType(1, 1_000_000), 2048, "steps of each environment in a rollout", custom=True),
    Hyperparameter("batch_size", IntType(1, 10_000_000), 64, "size of a minibatch", custom=True),
    Hyperparameter("n_epochs", IntType(1, 1000), 10, "passes over a rollout", custom=True),
    group.discount(custom=True),
    *group.clipped_updates(custom=True),
)
"""The keywords of PPO."""

_POLICY_DELAY = "gradient steps of the critics for each of the policy"

ALGORITHMS: Mapping[Algorithm, AlgorithmTraits] = {
    Algorithm.PPO: AlgorithmTraits(
        "Proximal Policy Optimization",
        ANY,
        (
            *_CLIPPED_POLICY,
            *group.on_policy(0.95),
            *group.common(ACTOR_CRITIC_KEYWORDS),
        ),
        with_masks=Algorithm.MASKABLEPPO,
    ),
    Algorithm.A2C: AlgorithmTraits(
        "Advantage Actor Critic",
        ANY,
        (
            group.rate(7e-4, custom=True),
            Hyperparameter("n_steps", IntType(1, 1_000_000), 5, "steps of each environment in a rollout", custom=True),
            group.discount(custom=True),
            Hyperparameter("vf_coef", COEFFICIENT, 0.5, "weight of the value network in the loss", custom=True),
            Hyperparameter("normalize_advantage", BoolType(), False, "whether advantages are normalised in a rollout"),
            Hyperparameter("use_rms_prop", BoolType(), True, "use RMSprop instead of Adam"),
            Hyperparameter("rms_prop_eps", FloatType(0, 1, above=True), 1e-5, "epsilon of that RMSprop"),
            *group.on_policy(1.0),
            *group.common(ACTOR_CRITIC_KEYWORDS),
        ),
    ),
    Algorithm.DQN: AlgorithmTraits(
        "Deep Q Network",
        DISCRETE,
        (
            group.rate(1e-4, custom=True),
            group.discount(custom=True),
            *group.replay(50_000, 32, 4, 1.0, custom=True),
            *group.epsilon_greedy(0.1, 0.05),
            group.gradient_norm(10.0),
            *group.common(Q_KEYWORDS),
        ),
        off_policy=True,
    ),
    Algorithm.SAC: AlgorithmTraits(
        "Soft Actor Critic",
        BOX,
        (
            group.rate(3e-4),
            group.discount(),
            *group.replay(1_000_000, 256, 1, 0.005),
            group.target_updates(1),
            *group.maximum_entropy(),
            *group.common(GAUSSIAN_ACTOR_KEYWORDS),
        ),
        off_policy=True,
        action_noise=True,
        width=256,
    ),
    Algorithm.TD3: AlgorithmTraits(
        "Twin Delayed DDPG",
        BOX,
        (
            group.rate(1e-3),
            group.discount(),
            *group.replay(1_000_000, 256, 1, 0.005),
            Hyperparameter("policy_delay", IntType(1, 1_000_000), 2, _POLICY_DELAY),
            Hyperparameter(
                "target_policy_noise", COEFFICIENT, 0.2, "standard deviation of the noise of target actions"
            ),
            Hyperparameter("target_noise_clip", COEFFICIENT, 0.5, "that noise is clipped to this"),
            *group.common(Q_ACTOR_KEYWORDS),
        ),
        off_policy=True,
        action_noise=True,
        width=300,
    ),
    Algorithm.TQC: AlgorithmTraits(
        "Truncated Quantile Critics",
        BOX,
        (
            group.rate(3e-4),
            group.discount(),
            *group.replay(1_000_000, 256, 1, 0.005),
            group.target_updates(1),
            Hyperparameter("top_quantiles_to_drop_per_net", IntType(0, 10_000), 2, "of each critic's n_quantiles"),
            *group.maximum_entropy(),
            *group.common({**GAUSSIAN_ACTOR_KEYWORDS, **QUANTILE_KEYWORDS}),
        ),
        off_policy=True,
        action_noise=True,
        width=256,
    ),
    Algorithm.CROSSQ: AlgorithmTraits(
        "CrossQ: batch normalisation in place of target networks",
        BOX,
        (
            group.rate(1e-3),
            group.discount(),
            *group.replay(1_000_000, 256, 1, None),
            Hyperparameter("policy_delay", IntType(1, 1_000_000), 3, _POLICY_DELAY),
            *group.maximum_entropy(),
            *group.common({**GAUSSIAN_ACTOR_KEYWORDS, **BATCH_NORM_KEYWORDS}),
        ),
        policies={OBSERVED_VECTORS: POLICIES[OBSERVED_VECTORS]},
        off_policy=True,
        action_noise=True,
        width=256,
    ),
    Algorithm.QRDQN: AlgorithmTraits(
        "Quantile Regression DQN",
        DISCRETE,
        (
            group.rate(5e-5),
            group.discount(),
            *group.replay(1_000_000, 32, 4, 1.0),
            *group.epsilon_greedy(0.005, 0.01),
            group.gradient_norm(None),
            *group.common({**Q_KEYWORDS, **QUANTILE_KEYWORDS}),
        ),
        off_policy=True,
    ),
    Algorithm.MASKABLEPPO: AlgorithmTraits(
        "Proximal Policy Optimization that obeys action masks",
        CHOICES,
        (
            *_CLIPPED_POLICY,
            *group.on_policy(0.95, exploration=()),
            *group.common(DISCRETE_ACTOR_CRITIC_KEYWORDS),
        ),
        masks=True,
    ),
    Algorithm.RECURRENTPPO: AlgorithmTraits(
        "Proximal Policy Optimization with a recurrent policy",
        ANY,
        (
            group.rate(3e-4),
            Hyperparameter("n_steps", IntType(1, 1_000_000), 128, "steps of each environment in a rollout"),
            Hyperparameter("batch_size", OptionalType(IntType(1, 10_000_000)), 128, "size of a minibatch; None: all"),
            Hyperparameter("n_epochs", IntType(1, 1000), 10, "passes over a rollout"),
            group.discount(),
            *group.clipped_updates(),
            *group.on_policy(0.95),
            *group.common({**ACTOR_CRITIC_KEYWORDS, **RECURRENT_KEYWORDS}),
        ),
        policies=RECURRENT_POLICIES,
        recurrent=True,
    ),
}
"""Every algorithm."""


def has_parameter(algorithm: Algorithm, name: str) -> bool:
    """Whether the algorithm's class has the keyword."""
    return any(parameter.name == name for parameter in ALGORITHMS[algorithm].parameters)


def trained_algorithm(algorithm: Algorithm, masks: bool) -> Algorithm:
    """What is trained where ``algorithm`` was asked for; ``masks``: the simulator declares action masks."""
    return ALGORITHMS[algorithm].with_masks or algorithm if masks else algorithm


def algorithms_with(action_or_observed: str) -> tuple[Algorithm, ...]:
    """The algorithms that take a kind of action space, or have a policy for what is observed, and need no masks."""
    return tuple(
        algorithm
        for algorithm, traits in ALGORITHMS.items()
        if action_or_observed in (*traits.actions, *traits.policies) and not traits.masks
    )
