"""Fast updates are checked against SB3's own on first use, and replaced by them where they differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch as th
from aisandbox_crds.errors import InvalidRun
from aisandbox_crds.spec import Algorithm
from aisandbox_process.passed_checks import PassedChecks
from aisandbox_trainer import _torch_internals
from aisandbox_trainer.algorithms.builder import FAST, class_of
from aisandbox_trainer.environments.in_process import vectorized
from aisandbox_trainer.fast_updates import recurrent_ppo, self_test
from aisandbox_trainer.fast_updates.distributions import Categorical, EvaluatedCategorical
from aisandbox_trainer.fast_updates.exploration_matrix import ExplorationMatrix
from aisandbox_trainer.fast_updates.normalized_net import RenormLayer
from aisandbox_trainer.fast_updates.policy_nets import ActorCriticNets, QNets
from aisandbox_trainer.fast_updates.self_test import SelfTested
from aisandbox_trainer.fast_updates.single_steps import SingleSteps
from aisandbox_trainer.fast_updates.squashed_actors import SampledActions
from aisandbox_trainer.runtime.settings import Settings
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from torch import nn

ACTOR_CRITIC = {
    "learning_starts": 20,
    "train_freq": 8,
    "buffer_size": 300,
    "batch_size": 16,
    "policy_kwargs": {"net_arch": [16]},
}
KEYWORDS: dict[Algorithm, dict[str, Any]] = {
    Algorithm.PPO: {"n_steps": 32, "batch_size": 16, "n_epochs": 2},
    Algorithm.A2C: {},
    Algorithm.DQN: {"learning_starts": 20, "train_freq": 4, "buffer_size": 300},
    Algorithm.SAC: ACTOR_CRITIC,
    Algorithm.CROSSQ: ACTOR_CRITIC,
    Algorithm.RECURRENTPPO: {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "policy_kwargs": {"lstm_hidden_size": 8}},
}
CONTINUOUS = [Algorithm.SAC, Algorithm.CROSSQ]
PLAIN: dict[Algorithm, type[BaseAlgorithm]] = {
    Algorithm.PPO: sb3.PPO,
    Algorithm.A2C: sb3.A2C,
    Algorithm.DQN: sb3.DQN,
    Algorithm.MASKABLEPPO: sb3_contrib.MaskablePPO,
    Algorithm.SAC: sb3.SAC,
    Algorithm.TD3: sb3.TD3,
    Algorithm.TQC: sb3_contrib.TQC,
    Algorithm.CROSSQ: sb3_contrib.CrossQ,
    Algorithm.RECURRENTPPO: sb3_contrib.RecurrentPPO,
}
UNMASKED = (Algorithm.PPO, Algorithm.A2C, Algorithm.DQN, Algorithm.SAC)
"""One of each kind that needs no masks, which the environments here do not have; test_fast_update.py has the others."""
WARNING = "fast updates differ from stable-baselines3"


def learn(kind: type[BaseAlgorithm], algorithm: Algorithm, steps: int = 128, **keywords: Any) -> Any:
    th.set_num_threads(1)
    env = vectorized(lambda: gym.make(world(algorithm)), 2)
    policy = "MlpLstmPolicy" if algorithm is Algorithm.RECURRENTPPO else "MlpPolicy"
    model: Any = kind(policy, env, seed=3, device="cpu", **{**KEYWORDS[algorithm], **keywords})
    model.set_logger(Logger(None, []))
    return model.learn(steps)


def world(algorithm: Algorithm) -> str:
    """A world with actions that the algorithm takes."""
    return "Pendulum-v1" if algorithm in CONTINUOUS else "CartPole-v1"


def assert_same_numbers(one: Any, other: Any) -> None:
    for theirs, ours in zip(one.policy.parameters(), other.policy.parameters(), strict=True):
        np.testing.assert_array_equal(ours.detach(), theirs.detach())


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("algorithm", UNMASKED)
def test_right_fast_update_is_used(
    algorithm: Algorithm, activation: type[nn.Module], capsys: pytest.CaptureFixture[str]
) -> None:
    terms = {**KEYWORDS[algorithm].get("policy_kwargs", {}), "activation_fn": activation}
    model = learn(class_of(algorithm), algorithm, policy_kwargs=terms)
    assert model.passes("update", lambda: False), "tested already, so not again"
    assert WARNING not in capsys.readouterr().out


@pytest.mark.parametrize("algorithm", UNMASKED)
def test_models_of_one_configuration_are_tested_once(algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = PassedChecks()
    checks.share()
    monkeypatch.setattr(self_test, "PASSED_CHECKS", checks)
    tests: list[tuple[str, str]] = []

    def passes(configuration: str, name: str, result: bool) -> bool:
        def test() -> bool:
            tests.append((configuration, name))
            return result

        model: Any = class_of(algorithm)("MlpPolicy", world(algorithm), device="cpu", **KEYWORDS[algorithm])
        model.configuration = configuration
        return bool(model.passes(name, test))

    assert not passes("a", "update", False)
    assert passes("a", "update", True)
    assert passes("a", "update", False), "it has passed"
    assert not passes("b", "update", False)
    assert not passes("a", "forward pass", False)
    assert not passes("", "update", False)
    assert tests == [("a", "update"), ("a", "update"), ("b", "update"), ("a", "forward pass"), ("", "update")]


class TwoSensors(gym.Env[dict[str, Any], Any]):
    """Observes a Dict; an episode has ten steps."""

    observation_space = gym.spaces.Dict({name: gym.spaces.Box(-1.0, 1.0, (2,)) for name in ("near", "far")})
    action_space: gym.Space[Any] = gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.left = 10
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        return self.observation_space.sample(), float(np.sum(action)), self.left == 0, False, {}


class Steered(TwoSensors):
    """The same with continuous actions."""

    action_space = gym.spaces.Box(-2.0, 1.0, (2,))


@pytest.mark.parametrize("algorithm", UNMASKED)
def test_right_fast_update_is_used_with_a_dict_of_observations(
    algorithm: Algorithm, capsys: pytest.CaptureFixture[str]
) -> None:
    kind: Any = class_of(algorithm)
    env = vectorized(Steered if algorithm in CONTINUOUS else TwoSensors, 2)
    model = kind("MultiInputPolicy", env, seed=3, device="cpu", **KEYWORDS[algorithm])
    model.set_logger(Logger(None, []))
    model.learn(128)
    assert "update" in model._tested
    assert WARNING not in capsys.readouterr().out


def _reversed(gradient: th.Tensor, output: th.Tensor) -> th.Tensor:
    return -gradient * (1 - output**2)


def _raises(*arguments: Any, **keywords: Any) -> Any:
    raise TypeError("adam() got an unexpected keyword argument")


def _no_step(*arguments: Any, **keywords: Any) -> None:
    pass


def _wrong_gradient(self: Any, grad_log_prob: th.Tensor, grad_entropy: float) -> Any:
    return RIGHT_GRADIENT(self, 1.1 * grad_log_prob, grad_entropy)


def _wrong_actions(self: Any, observations: Any) -> Any:
    actions, values, log_prob = RIGHT_ACTIONS(self, observations)
    return actions, values + 0.1, log_prob


def _wrong_entropy_gradient(self: Any, grad_actions: th.Tensor, grad_log_prob: float) -> Any:
    return RIGHT_SAMPLED_GRADIENT(self, grad_actions, 1.1 * grad_log_prob)


def _statistics_kept(self: Any, inputs: th.Tensor) -> Any:
    before = self._module.ra_var.clone()
    batch = RIGHT_STATISTICS(self, inputs)
    self._module.ra_var.copy_(before)
    return batch


def _states_kept(theirs: Any, features: th.Tensor, states: Any, starts: th.Tensor, lstm: nn.LSTM) -> Any:
    return RIGHT_SEQUENCE(theirs, features, states, th.zeros_like(starts), lstm)


def _wrong_noise_gradient(self: Any, grad_std: th.Tensor) -> Any:
    return 1.1 * RIGHT_NOISE_GRADIENT(self, grad_std)


RIGHT_SEQUENCE = recurrent_ppo.process_sequence
RIGHT_STATISTICS = RenormLayer._learned
RIGHT_NOISE_GRADIENT = ExplorationMatrix.gradient
RIGHT_SAMPLED_GRADIENT = SampledActions.gradient
RIGHT_GRADIENT, RIGHT_ACTIONS = EvaluatedCategorical.gradient, ActorCriticNets.act
FAULTS: dict[str, tuple[Algorithm, Any, str, Callable[..., Any]]] = {
    "activation": (Algorithm.PPO, _torch_internals, "tanh_backward", _reversed),
    "scale of a gradient": (Algorithm.PPO, EvaluatedCategorical, "gradient", _wrong_gradient),
    "optimizer that raises": (Algorithm.PPO, _torch_internals, "adam_step", _raises),
    "forward pass": (Algorithm.PPO, ActorCriticNets, "act", _wrong_actions),
    "optimizer of A2C": (Algorithm.A2C, _torch_internals, "rmsprop_step", _no_step),
    "activation of DQN": (Algorithm.DQN, _torch_internals, "relu_backward", lambda gradient, output: gradient),
    "entropy of SAC": (Algorithm.SAC, SampledActions, "gradient", _wrong_entropy_gradient),
    "target networks of SAC": (Algorithm.SAC, _torch_internals, "move_towards", _no_step),
    "statistics of CrossQ": (Algorithm.CROSSQ, RenormLayer, "_learned", _statistics_kept),
    "resets of RecurrentPPO": (Algorithm.RECURRENTPPO, recurrent_ppo, "process_sequence", _states_kept),
    "gSDE of SAC": (Algorithm.SAC, ExplorationMatrix, "gradient", _wrong_noise_gradient),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_fast_update_is_replaced_by_sb3s_own(
    fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    algorithm, owner, name, wrong = FAULTS[fault]
    terms = {"use_sde": True} if owner is ExplorationMatrix else {}
    expected = learn(PLAIN[algorithm], algorithm, **terms)
    monkeypatch.setattr(owner, name, wrong)
    found = learn(class_of(algorithm), algorithm, **terms)
    assert_same_numbers(expected, found)
    assert capsys.readouterr().out.count(WARNING) == 1


def test_wrong_greedy_action_is_replaced_by_sb3s_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = learn(sb3.DQN, Algorithm.DQN)
    features = QNets.features
    monkeypatch.setattr(QNets, "features", lambda self, observations: -1e3 * features(self, observations))
    assert_same_numbers(expected, learn(class_of(Algorithm.DQN), Algorithm.DQN))
    assert WARNING in capsys.readouterr().out


@pytest.mark.parametrize("algorithm", [Algorithm.PPO, Algorithm.SAC])
def test_self_test_changes_neither_the_model_nor_the_random_numbers(algorithm: Algorithm) -> None:
    model = learn(class_of(algorithm), algorithm, 64)
    before = self_test._learned_values(model)
    updates, numpy_state, torch_state = model._n_updates, np.random.get_state(legacy=False), th.get_rng_state()
    assert model._updates_the_same()
    assert model._acts_the_same(model.nets())
    assert model._n_updates == updates
    np.testing.assert_equal(np.random.get_state(legacy=False), numpy_state)
    assert th.equal(th.get_rng_state(), torch_state)
    after = self_test._learned_values(model)
    assert after.keys() == before.keys()
    assert all(th.equal(after[name], part) for name, part in before.items())


@pytest.mark.parametrize("algorithm", FAST)
def test_fast_update_off_uses_sb3s_own_classes(algorithm: Algorithm) -> None:
    slow = class_of(algorithm, fast_update=False)
    assert slow is PLAIN[algorithm] or issubclass(slow, SingleSteps)
    assert not issubclass(slow, SelfTested)
    assert issubclass(slow, PLAIN[algorithm])
    assert class_of(algorithm) is not slow
    assert issubclass(class_of(algorithm), PLAIN[algorithm])


def test_pytorch_without_the_private_names_uses_sb3s_own_classes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_torch_internals, "AVAILABLE", False)
    assert class_of(Algorithm.PPO) is sb3.PPO
    assert "not available with this version of PyTorch" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "fast"), [(None, True), ("on", True), ("", True), ("off", False), ("OFF", False)])
def test_setting_fast_update_is_read(text: str | None, fast: bool) -> None:
    environ = {} if text is None else {"FAST_UPDATE": text}
    assert Settings.from_environ(environ).fast_update is fast


def test_setting_fast_update_refuses_other_words() -> None:
    with pytest.raises(InvalidRun, match="FAST_UPDATE"):
        Settings.from_environ({"FAST_UPDATE": "no"})


def test_one_choice_has_no_part_in_the_fault_injection() -> None:
    """The faults above are of code that is used: CartPole's actions are one categorical choice."""
    model = learn(class_of(Algorithm.PPO), Algorithm.PPO, 64)
    assert isinstance(model.nets()._distribution, Categorical)
