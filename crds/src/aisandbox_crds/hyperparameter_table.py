"""The hyperparameters: every keyword of SB3's PPO, A2C and DQN that makes sense as text, and a few of RL Zoo's.

Owns names, kinds, ranges, defaults and one line on each. A test holds the table against the signatures of
stable-baselines3, so that a keyword it gains, loses or gives another default is noticed. Must not import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aisandbox_crds.kinds import (
    Bool,
    Choice,
    Device,
    Float,
    Frequency,
    Int,
    Keywords,
    Kind,
    Optional,
    Schedule,
    Sequence,
    Text,
    Unsuitable,
)
from aisandbox_crds.policy_kwargs import POLICIES, PolicyKwargs
from aisandbox_crds.spec import Algorithm
from aisandbox_crds.values import Value


@dataclass(frozen=True, slots=True)
class Parameter:
    """A hyperparameter.

    ``default`` is what holds when nothing is said. It is SB3's own and not passed to SB3, unless ``ours``: then it is
    this project's and always passed.
    """

    name: str
    kind: Kind
    default: Value
    meaning: str
    ours: bool = False


NORMALIZE_KEYWORDS = Keywords(
    {
        "norm_obs": Bool(),
        "norm_reward": Bool(),
        "clip_obs": Float(0, above=True),
        "clip_reward": Float(0, above=True),
        "gamma": Float(0, 1),
        "epsilon": Float(0, 1, above=True),
        "norm_obs_keys": Optional(Sequence(Text(), 1, 100)),
    },
    refused={"training": "is decided by the service: statistics move in training and rest in evaluation"},
)
"""The keywords of SB3's VecNormalize."""


@dataclass(frozen=True, slots=True)
class Normalization:
    """True, False, or the keywords of VecNormalize."""

    def __str__(self) -> str:
        return f"True, False or {NORMALIZE_KEYWORDS}"

    def check(self, value: Value) -> bool | dict[str, object]:
        """As :meth:`Kind.check`."""
        if isinstance(value, bool):
            return value
        if isinstance(value, Mapping):
            return NORMALIZE_KEYWORDS.check(value)
        raise Unsuitable(f"must be {self}, got {value!r:.80}")


ZOO_PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "policy", Choice(POLICIES), None, "networks for vectors, images, a Dict; default: by the observation space"
    ),
    Parameter("n_envs", Int(1, 4096), None, "environments stepped together; see environment.grpc.environments"),
    Parameter("normalize", Normalization(), False, "running normalisation of observations and rewards (VecNormalize)"),
    Parameter("frame_stack", Int(1, 64), None, "how many of the last observations are stacked into one"),
)
"""What RL Zoo knows beside the keywords of the class."""

_RATE = Float(0, above=True)
_COEFFICIENT = Float(0)
_FRACTION = Float(0, 1)


def _shared(algorithm: Algorithm, max_grad_norm: float) -> tuple[Parameter, ...]:
    return (
        Parameter("max_grad_norm", Float(0, above=True), max_grad_norm, "gradients are clipped to this norm"),
        Parameter("stats_window_size", Int(1, 100_000), 100, "episodes that reported means are taken over"),
        Parameter("policy_kwargs", PolicyKwargs(algorithm), None, "networks and optimizer, see below"),
        Parameter("device", Device(), "auto", "where PyTorch computes"),
    )


def _on_policy(algorithm: Algorithm, gae_lambda: float) -> tuple[Parameter, ...]:
    return (
        Parameter("gae_lambda", _FRACTION, gae_lambda, "trades bias (0) for variance (1) of the advantage (GAE)"),
        Parameter("ent_coef", _COEFFICIENT, 0.0, "weight of the entropy in the loss"),
        Parameter("use_sde", Bool(), False, "state-dependent exploration, for Box actions"),
        Parameter("sde_sample_freq", Int(-1, 1_000_000), -1, "steps between new noise for use_sde; -1: once a rollout"),
        *_shared(algorithm, 0.5),
    )


_GAMMA = Parameter("gamma", _FRACTION, 0.99, "discount factor", ours=True)

PARAMETERS: Mapping[Algorithm, tuple[Parameter, ...]] = {
    Algorithm.PPO: (
        Parameter("learning_rate", Schedule(_RATE), 3e-4, "step size of the optimizer", ours=True),
        Parameter("n_steps", Int(1, 1_000_000), 2048, "steps of each environment in a rollout", ours=True),
        Parameter("batch_size", Int(1, 10_000_000), 64, "size of a minibatch", ours=True),
        Parameter("n_epochs", Int(1, 1000), 10, "passes over a rollout", ours=True),
        _GAMMA,
        Parameter(
            "clip_range", Schedule(Float(0, above=True)), 0.2, "how far the policy moves in an update", ours=True
        ),
        Parameter("clip_range_vf", Optional(Schedule(Float(0, above=True))), None, "the same for the value network"),
        Parameter("normalize_advantage", Bool(), True, "whether advantages are normalised in a minibatch"),
        Parameter("vf_coef", _COEFFICIENT, 0.5, "weight of the value network in the loss"),
        Parameter("target_kl", Optional(Float(0, above=True)), None, "ends an update early beyond 1.5 times this"),
        *_on_policy(Algorithm.PPO, 0.95),
    ),
    Algorithm.A2C: (
        Parameter("learning_rate", Schedule(_RATE), 7e-4, "step size of the optimizer", ours=True),
        Parameter("n_steps", Int(1, 1_000_000), 5, "steps of each environment in a rollout", ours=True),
        _GAMMA,
        Parameter("vf_coef", _COEFFICIENT, 0.5, "weight of the value network in the loss", ours=True),
        Parameter("normalize_advantage", Bool(), False, "whether advantages are normalised in a rollout"),
        Parameter("use_rms_prop", Bool(), True, "RMSprop instead of Adam"),
        Parameter("rms_prop_eps", Float(0, 1, above=True), 1e-5, "epsilon of that RMSprop"),
        *_on_policy(Algorithm.A2C, 1.0),
    ),
    Algorithm.DQN: (
        Parameter("learning_rate", Schedule(_RATE), 1e-4, "step size of the optimizer", ours=True),
        Parameter("buffer_size", Int(1, 100_000_000), 50_000, "transitions the replay buffer holds", ours=True),
        Parameter("batch_size", Int(1, 10_000_000), 32, "transitions in a gradient step", ours=True),
        _GAMMA,
        Parameter("learning_starts", Int(0, 10**12), 100, "environment steps before the first gradient step"),
        Parameter("train_freq", Frequency(Int(1, 1_000_000)), 4, "steps of each environment between trainings"),
        Parameter(
            "gradient_steps", Int(-1, 1_000_000), 1, "in each training; -1: as many as transitions were gathered"
        ),
        Parameter("n_steps", Int(1, 10_000), 1, "length of the returns that are learned from"),
        Parameter("tau", Float(0, 1, above=True), 1.0, "share of the new weights in an update of the target network"),
        Parameter("target_update_interval", Int(1, 10**12), 10_000, "environment steps between those updates"),
        Parameter("exploration_fraction", Float(0, 1, above=True), 0.1, "part of the run in which exploration falls"),
        Parameter("exploration_initial_eps", _FRACTION, 1.0, "share of random actions at the start"),
        Parameter("exploration_final_eps", _FRACTION, 0.05, "share of random actions after that part"),
        Parameter("optimize_memory_usage", Bool(), False, "half the memory; needs handle_timeout_termination=False"),
        Parameter(
            "replay_buffer_kwargs",
            Keywords({"handle_timeout_termination": Bool()}, refused={}),
            None,
            "dict(handle_timeout_termination=False): a time limit counts as an end",
        ),
        *_shared(Algorithm.DQN, 10.0),
    ),
}
"""The keywords of each algorithm's class."""

_DECIDED = "is decided by the service"
_CODE = "would run code in the trainer"
_WRAPPER = f"{_CODE}: wrap the environment in the simulator, or use frame_stack and normalize"
REFUSED: Mapping[str, str] = {
    "env": "is the field environment of the request",
    "seed": "is the field seed of the request",
    "verbose": f"{_DECIDED}; see LOG_LEVEL",
    "tensorboard_log": f"{_DECIDED}: TensorBoard files are in the run's folder logs",
    "_init_setup_model": _DECIDED,
    "replay_buffer_class": "follows from the observation space",
    "rollout_buffer_class": "follows from the observation space",
    "rollout_buffer_kwargs": "has nothing to say: gamma and gae_lambda are hyperparameters of their own",
    "n_timesteps": "is the field total_timesteps of the request",
    "total_timesteps": "is a field of the request, not a hyperparameter",
    "env_wrapper": _WRAPPER,
    "vec_env_wrapper": _WRAPPER,
    "env_kwargs": "is the field environment.gymnasium.kwargs or environment.grpc.options of the request",
    "callback": f"{_CODE}; see the fields evaluation and checkpoint_every_timesteps of the request",
}
"""Keywords of SB3 and keys of RL Zoo that are not hyperparameters here, and why."""
