from __future__ import annotations

import json
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
from aisandbox_trainer.environments.in_process import vectorized
from aisandbox_trainer.errors import NonFiniteTraining
from aisandbox_trainer.fast_updates.a2c import FastA2C
from aisandbox_trainer.fast_updates.crossq import FastCrossQ
from aisandbox_trainer.fast_updates.dqn import FastDQN
from aisandbox_trainer.fast_updates.ppo import FastMaskablePPO, FastPPO
from aisandbox_trainer.fast_updates.recurrent_ppo import FastRecurrentPPO, process_sequence
from aisandbox_trainer.fast_updates.sac import FastSAC
from aisandbox_trainer.fast_updates.single_steps import SingleStepMaskablePPO, SingleStepRecurrentPPO
from aisandbox_trainer.fast_updates.td3 import FastTD3
from aisandbox_trainer.fast_updates.tqc import FastTQC
from gymnasium import spaces
from masked_worlds import ACTIONS as MASKED
from masked_worlds import MaskedWorld
from sb3_contrib import TQC, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

FAST: dict[type[BaseAlgorithm], type[BaseAlgorithm]] = {
    sb3.PPO: FastPPO,
    sb3.A2C: FastA2C,
    sb3.DQN: FastDQN,
    MaskablePPO: FastMaskablePPO,
    sb3.SAC: FastSAC,
    sb3.TD3: FastTD3,
    TQC: FastTQC,
    CrossQ: FastCrossQ,
}
ACTOR_CRITICS: list[type[BaseAlgorithm]] = [sb3.SAC, sb3.TD3, TQC, CrossQ]
"""The off-policy ones, with continuous actions."""
_REPLAY = {"learning_starts": 20, "train_freq": 4, "buffer_size": 300}
SIZES: dict[type[BaseAlgorithm], dict[str, Any]] = {
    sb3.PPO: {"n_steps": 32, "batch_size": 16, "n_epochs": 3},
    sb3.A2C: {"n_steps": 5},
    MaskablePPO: {"n_steps": 32, "batch_size": 16, "n_epochs": 3},
    sb3.DQN: {**_REPLAY, "target_update_interval": 30},
    **{kind: {**_REPLAY, "batch_size": 32, "policy_kwargs": {"net_arch": [16, 16]}} for kind in ACTOR_CRITICS},
}
SIZES[RecurrentPPO] = {**SIZES[sb3.PPO], "policy_kwargs": {"lstm_hidden_size": 8, "net_arch": [8]}}
NO_ROUNDING = {"optimizer_kwargs": {"betas": (0.5, 0.999), "eps": 1e-3}}
"""For CrossQ: a bias before batch normalization may have no gradient, and Adam would divide its rounding by itself."""
SIZES[CrossQ]["policy_kwargs"] |= NO_ROUNDING
VECTOR = spaces.Box(-1.0, 1.0, (3,), np.float32)
ACTIONS: dict[str, gym.Space[Any]] = {
    "discrete": spaces.Discrete(3),
    "box": spaces.Box(-1.0, 1.0, (2,), np.float32),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_binary": spaces.MultiBinary(3),
}


class Drill(gym.Env[Any, Any]):
    """Random observations, a reward that depends on the action, ends of both kinds."""

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._steps = 0
        return self.observation_space.sample(), {}

    def action_masks(self) -> Any:
        assert isinstance(self.action_space, spaces.Discrete)
        return np.arange(self.action_space.n) != self._steps % self.action_space.n

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        reward = float(np.sum(action) + self.np_random.normal())
        return self.observation_space.sample(), reward, bool(self.np_random.random() < 0.1), self._steps == 9, {}


def environment(action: str, observation: gym.Space[Any] = VECTOR, normalize: bool = False) -> Any:
    venv = DummyVecEnv([lambda: Monitor(Drill(_copy(observation), _copy(ACTIONS[action])))] * 2)
    return VecNormalize(venv) if normalize else venv


def _copy(space: gym.Space[Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: _copy(inner) for key, inner in space.spaces.items()})
    return type(space)(**_arguments(space))


def _arguments(space: gym.Space[Any]) -> dict[str, Any]:
    if isinstance(space, spaces.Box):
        return {"low": space.low, "high": space.high, "dtype": space.dtype}
    if isinstance(space, spaces.MultiDiscrete):
        return {"nvec": space.nvec}
    return {"n": getattr(space, "n", None)}


class Recorder(Logger):
    """Keeps every value that was ever logged."""

    def __init__(self) -> None:
        super().__init__(None, [])
        self.seen: list[tuple[str, Any]] = []

    def record(self, key: str, value: Any, exclude: Any = None) -> None:
        self.seen.append((key, value))


def train(algorithm: type[BaseAlgorithm], venv: Any, steps: int = 192, **keywords: Any) -> tuple[Any, Recorder, Any]:
    th.set_num_threads(1)
    base = next(kind for kind in SIZES if issubclass(algorithm, kind))
    policy = "MultiInputPolicy" if isinstance(venv.observation_space, spaces.Dict) else "MlpPolicy"
    policy = keywords.pop("policy", policy)
    venv.seed(3)
    model = algorithm(policy, venv, seed=3, device="cpu", **{**SIZES[base], **keywords})
    recorder = Recorder()
    model.set_logger(recorder)
    model.learn(steps)
    return model, recorder, (np.random.rand(), th.rand(1).item(), model.action_space.sample())


def assert_same_learning(algorithm: type[BaseAlgorithm], make: Any, **keywords: Any) -> Any:
    theirs, their_log, their_draws = train(algorithm, make(), **keywords)
    ours, our_log, our_draws = train(FAST[algorithm], make(), **keywords)
    assert ours.nets() is not None, "this case is not covered by the fast update"
    untrained = algorithm(type(theirs.policy), make(), seed=3, device="cpu", **{**SIZES[algorithm], **_plain(keywords)})
    moved = 0.0
    same_weights(ours, theirs)
    for one, first in zip(theirs.policy.parameters(), untrained.policy.parameters(), strict=True):
        moved = max(moved, float((one - first).detach().abs().max()))
    assert moved > 1e-3, "the training has to go further than the tolerance"
    np.testing.assert_equal(our_draws, their_draws)
    same_log(our_log.seen, their_log.seen)
    return ours


def same_weights(ours: BaseAlgorithm, theirs: BaseAlgorithm) -> None:
    for (name, one), other in zip(theirs.policy.state_dict().items(), ours.policy.state_dict().values(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6, err_msg=name)


def simplest(algorithm: type[BaseAlgorithm]) -> str:
    """The simplest actions of ACTIONS that an algorithm takes."""
    return "box" if algorithm in ACTOR_CRITICS else "discrete"


def _plain(keywords: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in keywords.items() if key not in ("policy", "steps")}


def same_log(ours: list[tuple[str, Any]], theirs: list[tuple[str, Any]]) -> None:
    timed = ("time/", "rollout/ep")
    left = [entry for entry in theirs if not entry[0].startswith(timed)]
    right = [entry for entry in ours if not entry[0].startswith(timed)]
    assert [key for key, _ in right] == [key for key, _ in left]
    for (key, one), (_, other) in zip(left, right, strict=True):
        np.testing.assert_allclose(other, one, rtol=2e-3, atol=2e-5, err_msg=key)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("algorithm", [sb3.PPO, sb3.A2C])
def test_fast_update_gives_the_results_of_sb3(algorithm: type[BaseAlgorithm], action: str) -> None:
    assert_same_learning(algorithm, lambda: environment(action))


@pytest.mark.parametrize("action", MASKED)
def test_fast_update_with_masks_gives_the_results_of_sb3_contrib(action: str) -> None:
    MaskedWorld.forbidden = 0
    terms = {"ent_coef": 0.02, "target_kl": 0.05, "clip_range_vf": 0.3}
    ours = assert_same_learning(MaskablePPO, lambda: vectorized(partial(MaskedWorld, action), 2), **terms)
    assert {"forward pass", "update"} <= ours._tested
    assert not ours._differs
    assert MaskedWorld.forbidden == 0


@pytest.mark.parametrize("action", ACTIONS)
def test_fast_update_with_an_entropy_bonus_gives_the_results_of_sb3(action: str) -> None:
    assert_same_learning(sb3.PPO, lambda: environment(action), ent_coef=0.1)
    assert_same_learning(sb3.A2C, lambda: environment(action), ent_coef=0.1)


@pytest.mark.parametrize(
    "keywords",
    [
        {"clip_range_vf": 0.1},
        {"normalize_advantage": False},
        {"batch_size": 24},
        {"target_kl": 1e-3, "learning_rate": 3e-3},
        {"clip_range": 0.02, "learning_rate": 3e-3},
        {"max_grad_norm": 1e-3, "learning_rate": 3e-3},
        {"learning_rate": lambda left: 1e-3 * left},
        {"policy_kwargs": {"net_arch": [], "activation_fn": nn.ReLU}, "learning_rate": 3e-3},
        {"policy_kwargs": {"net_arch": {"pi": [8, 8, 8], "vf": [16]}, "activation_fn": nn.ReLU, "log_std_init": -1}},
        {"policy_kwargs": {"share_features_extractor": False}},
        {"policy_kwargs": {"optimizer_kwargs": {"weight_decay": 0.1, "betas": (0.8, 0.9)}}},
        {
            "policy_kwargs": {"optimizer_class": th.optim.SGD, "optimizer_kwargs": {"momentum": 0.9}},
            "learning_rate": 0.1,
        },
        {"policy_kwargs": {"optimizer_kwargs": {"amsgrad": True}}},
    ],
    ids=lambda keywords: ",".join(keywords) + "".join(keywords.get("policy_kwargs", {})),
)
def test_fast_ppo_with_other_terms_gives_the_results_of_sb3(keywords: dict[str, Any]) -> None:
    assert_same_learning(sb3.PPO, lambda: environment("box"), **keywords)


@pytest.mark.parametrize(
    ("algorithm", "keywords"),
    [
        (sb3.PPO, {"sde_sample_freq": 4}),
        (sb3.PPO, {"ent_coef": 0.1, "policy_kwargs": {"log_std_init": -1, "full_std": False, "net_arch": [16]}}),
        (sb3.PPO, {"policy_kwargs": {"log_std_init": 0.1, "use_expln": True, "net_arch": []}}),
        (sb3.A2C, {"sde_sample_freq": 2, "ent_coef": 0.1, "policy_kwargs": {"log_std_init": -1, "use_expln": True}}),
    ],
    ids=lambda value: getattr(value, "__name__", None) or ",".join(value),
)
def test_fast_update_with_gsde_gives_the_results_of_sb3(
    algorithm: type[BaseAlgorithm], keywords: dict[str, Any]
) -> None:
    ours = assert_same_learning(algorithm, lambda: environment("box"), use_sde=True, **keywords)
    assert {"forward pass", "update"} <= ours._tested
    assert not ours._differs


@pytest.mark.parametrize(
    "keywords",
    [
        {"normalize_advantage": True},
        {"use_rms_prop": False},
        {"rms_prop_eps": 1e-3, "gae_lambda": 0.9},
        {"policy_kwargs": {"optimizer_class": th.optim.RMSprop, "optimizer_kwargs": {"momentum": 0.5}}},
    ],
    ids=lambda keywords: ",".join(keywords),
)
def test_fast_a2c_with_other_terms_gives_the_results_of_sb3(keywords: dict[str, Any]) -> None:
    assert_same_learning(sb3.A2C, lambda: environment("discrete"), **keywords)


@pytest.mark.parametrize(
    "observation",
    [
        spaces.Discrete(4),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(4),
        spaces.Box(0, 3, (2, 3), np.uint8),
        spaces.Dict({"where": VECTOR, "mode": spaces.Discrete(3), "bits": spaces.MultiBinary(2)}),
    ],
    ids=lambda space: type(space).__name__,
)
@pytest.mark.parametrize("algorithm", [sb3.PPO, sb3.A2C, sb3.DQN, sb3.SAC])
def test_fast_update_of_any_observation_gives_the_results_of_sb3(
    algorithm: type[BaseAlgorithm], observation: gym.Space[Any]
) -> None:
    assert_same_learning(algorithm, lambda: environment(simplest(algorithm), observation))


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"gradient_steps": 3, "batch_size": 16, "max_grad_norm": 0.01, "learning_rate": 1e-3},
        {"tau": 0.5, "target_update_interval": 8, "policy_kwargs": {"net_arch": [16], "activation_fn": nn.Tanh}},
        {"n_steps": 3},
    ],
    ids=lambda keywords: ",".join(keywords) or "defaults",
)
def test_fast_dqn_gives_the_results_of_sb3(keywords: dict[str, Any]) -> None:
    assert_same_learning(sb3.DQN, lambda: environment("discrete"), steps=400, **keywords)


@pytest.mark.parametrize(
    ("algorithm", "keywords"),
    [
        (sb3.SAC, {}),
        (sb3.TD3, {}),
        (sb3.TD3, {"policy_delay": 1, "gradient_steps": 3, "policy_kwargs": {"net_arch": [16], "n_critics": 3}}),
        (TQC, {}),
        (TQC, {"top_quantiles_to_drop_per_net": 0, "policy_kwargs": {"net_arch": [16], "n_quantiles": 5}}),
        (TQC, {"ent_coef": 0.2, "learning_rate": 1e-2}),
        (sb3.SAC, {"ent_coef": 0.2, "gradient_steps": 3, "target_update_interval": 2, "tau": 0.5}),
        (sb3.SAC, {"ent_coef": "auto_0.1", "target_entropy": -3.0, "learning_rate": lambda left: 1e-2 * left}),
        (sb3.SAC, {"policy_kwargs": {"net_arch": [16], "activation_fn": nn.Tanh, "n_critics": 3}, "n_steps": 3}),
        (
            sb3.SAC,
            {
                "policy_kwargs": {
                    "net_arch": [16], "optimizer_class": th.optim.SGD, "optimizer_kwargs": {"momentum": 0.9},
                    "share_features_extractor": True,
                },
                "learning_rate": 0.01,
            },
        ),
        # Noise of its own for each environment, new every second step, also before learning starts.
        (sb3.SAC, {"use_sde": True, "sde_sample_freq": 2, "use_sde_at_warmup": True}),
        # Large noise: many actions are at -1 and 1, and many means at their bounds.
        (
            sb3.SAC,
            {
                "use_sde": True, "ent_coef": 0.1, "gradient_steps": 3,
                "policy_kwargs": {"net_arch": [16], "log_std_init": 2, "use_expln": True, "clip_mean": 0.05},
            },
        ),
        (TQC, {"use_sde": True, "policy_kwargs": {"net_arch": [16], "log_std_init": -1, "clip_mean": 0.0}}),
        (CrossQ, {}),
        (
            CrossQ,
            {
                "use_sde": True, "policy_delay": 1,
                "policy_kwargs": {"net_arch": [16], "renorm_warmup_steps": 5, **NO_ROUNDING},
            },
        ),
        (
            CrossQ,
            {
                "ent_coef": 0.2, "gradient_steps": 3,
                "policy_kwargs": {
                    "net_arch": [16], "activation_fn": nn.Tanh, "batch_norm_momentum": 0.3, **NO_ROUNDING,
                },
            },
        ),
        (CrossQ, {"policy_kwargs": {"net_arch": [16], "batch_norm": False}}),
    ],
    ids=lambda value: getattr(value, "__name__", None) or ",".join(value) or "defaults",
)  # fmt: skip
def test_fast_actor_critic_gives_the_results_of_sb3(algorithm: type[BaseAlgorithm], keywords: dict[str, Any]) -> None:
    ours = assert_same_learning(algorithm, lambda: environment("box"), **keywords)
    assert {"action", "update"} <= ours._tested
    assert not ours._differs


def test_fast_update_of_a_large_batch_gives_the_results_of_sb3() -> None:
    """Here the weights' gradients of the first layers are the transposes of their products."""
    terms = {"policy_kwargs": {"net_arch": [64]}, "batch_size": 256}
    assert_same_learning(sb3.SAC, lambda: environment("box"), steps=64, **terms)


@pytest.mark.parametrize("algorithm", FAST)
def test_fast_update_with_normalisation_gives_the_results_of_sb3(algorithm: type[BaseAlgorithm]) -> None:
    assert_same_learning(algorithm, lambda: environment(simplest(algorithm), normalize=True))


@pytest.mark.parametrize(
    ("action", "terms"),
    [
        ("discrete", {}),
        ("box", {"shared_lstm": True, "enable_critic_lstm": False, "n_lstm_layers": 2}),
        ("multi_discrete", {"enable_critic_lstm": False}),
    ],
)
def test_fast_recurrent_ppo_gives_the_results_of_sb3_contrib(
    action: str, terms: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [0]
    forward = nn.LSTM.forward

    def counted(*arguments: Any) -> Any:
        calls[0] += 1
        return forward(*arguments)

    monkeypatch.setattr(nn.LSTM, "forward", counted)
    results, counts = [], []
    for kind in (RecurrentPPO, FastRecurrentPPO):
        calls[0] = 0
        policy_kwargs = {**SIZES[RecurrentPPO]["policy_kwargs"], **terms}
        results.append(train(kind, environment(action), policy="MlpLstmPolicy", policy_kwargs=policy_kwargs))
        counts.append(calls[0])
    (theirs, their_log, their_draws), (ours, our_log, our_draws) = results
    same_weights(ours, theirs)
    np.testing.assert_equal(our_draws, their_draws)
    same_log(our_log.seen, their_log.seen)
    assert ours._tested == {"update"}
    assert not ours._differs
    assert counts[1] < counts[0] / 2
    assert "_process_sequence" not in vars(ours.policy)


@pytest.mark.parametrize("terms", [{"bidirectional": True}, {"dropout": 0.5, "num_layers": 2}])
def test_lstm_whose_results_depend_on_how_it_is_called_is_called_by_sb3(terms: dict[str, Any]) -> None:
    lstm, states, starts = nn.LSTM(3, 4, **terms), (th.zeros(2, 2, 4), th.zeros(2, 2, 4)), th.zeros(6)
    assert process_sequence(lambda *_: "SB3's", th.zeros(6, 3), states, starts, lstm) == "SB3's"


@pytest.mark.parametrize(
    ("slow", "fast", "policy"),
    [
        (SingleStepMaskablePPO, FastMaskablePPO, "MlpPolicy"),
        (SingleStepRecurrentPPO, FastRecurrentPPO, "MlpLstmPolicy"),
    ],
)
def test_advantage_of_a_minibatch_of_one_step_is_not_normalised(slow: Any, fast: Any, policy: str) -> None:
    terms = {"policy": policy, "n_steps": 33, "batch_size": 65, "n_epochs": 2}
    models = [train(kind, vectorized(partial(MaskedWorld, "discrete"), 2), 132, **terms)[0] for kind in (slow, fast)]
    same_weights(*models)
    for model in models:
        assert all(parameter.isfinite().all() for parameter in model.policy.parameters()), "NaN in sb3-contrib's own"
        assert model.normalize_advantage
        assert "get" not in vars(model.rollout_buffer)


IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)


@pytest.mark.parametrize(
    ("algorithm", "action", "observation", "keywords"),
    [
        (sb3.PPO, "box", VECTOR, {"use_sde": True, "policy_kwargs": {"squash_output": True}}),
        (sb3.A2C, "discrete", VECTOR, {"policy_kwargs": {"activation_fn": nn.ELU}}),
        (sb3.PPO, "discrete", IMAGE, {"policy": "CnnPolicy", "n_steps": 4, "batch_size": 8}),
        (sb3.DQN, "discrete", IMAGE, {"policy": "CnnPolicy"}),
        (sb3.SAC, "box", VECTOR, {"policy_kwargs": {"net_arch": [8], "activation_fn": nn.ELU}}),
    ],
    ids=["gsde", "elu", "ppo_image", "dqn_image", "sac_elu"],
)
def test_what_the_fast_update_does_not_cover_is_sb3s_own(
    algorithm: type[BaseAlgorithm], action: str, observation: gym.Space[Any], keywords: dict[str, Any]
) -> None:
    theirs, _, _ = train(algorithm, environment(action, observation), steps=32, **keywords)
    ours, _, _ = train(FAST[algorithm], environment(action, observation), steps=32, **keywords)

    assert ours.nets() is None
    for one, other in zip(theirs.policy.parameters(), ours.policy.parameters(), strict=True):
        assert th.equal(one, other)


@pytest.mark.parametrize("algorithm", FAST)
def test_saved_model_is_a_plain_sb3_model_that_continues_equally(
    algorithm: type[BaseAlgorithm], tmp_path: Path
) -> None:
    ours, _, _ = train(FAST[algorithm], environment(simplest(algorithm)))
    ours.save(tmp_path / "model.zip")

    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        data = archive.read("data").decode()
    assert "aisandbox" not in data
    assert "_nets" not in json.loads(data)
    both = []
    for kind in (algorithm, FAST[algorithm]):
        loaded = kind.load(tmp_path / "model.zip", environment(simplest(algorithm)), device="cpu")
        assert type(loaded) is kind
        loaded.set_random_seed(8)
        loaded.learn(128, reset_num_timesteps=False)
        both.append(loaded)
    for one, other in zip(both[0].policy.parameters(), both[1].policy.parameters(), strict=True):
        th.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)
    for first, second in zip(*map(optimizers, both), strict=True):
        assert first["state"].keys() == second["state"].keys()
        for index, state in first["state"].items():
            assert set(second["state"][index]) == set(state)
            assert float(second["state"][index]["step"]) == float(state["step"]) > 0


def optimizers(model: BaseAlgorithm) -> list[dict[str, Any]]:
    """The states of all optimizers."""
    return [state for name, state in model.get_parameters().items() if name != "policy"]


@pytest.mark.parametrize("algorithm", FAST)
def test_policy_is_unchanged_between_rollouts(algorithm: type[BaseAlgorithm]) -> None:
    ours, _, _ = train(FAST[algorithm], environment(simplest(algorithm)))

    assert "forward" not in vars(ours.policy)
    assert "predict" not in vars(ours.policy)
    assert not any(parameter.is_inference() for parameter in ours.policy.parameters())
    for optimizer in optimizers(ours):
        for state in optimizer["state"].values():
            assert not any(value.is_inference() for value in state.values() if isinstance(value, th.Tensor))


@pytest.mark.parametrize("algorithm", FAST)
def test_gradient_that_is_not_finite_ends_training_before_the_weights_are(algorithm: type[BaseAlgorithm]) -> None:
    model, _, _ = train(FAST[algorithm], environment(simplest(algorithm)))
    before = [parameter.clone() for parameter in model.policy.parameters()]
    off_policy = isinstance(model, OffPolicyAlgorithm)
    if off_policy:
        model.replay_buffer.rewards[:] = np.nan
    else:
        model.rollout_buffer.returns[:] = np.nan

    with pytest.raises(NonFiniteTraining, match="gradient"):
        model.train(1) if off_policy else model.train()

    assert all(th.equal(one, other) for one, other in zip(before, model.policy.parameters(), strict=True))
