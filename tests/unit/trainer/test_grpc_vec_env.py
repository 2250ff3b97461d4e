"""What SB3 is shown of a step, with sessions in memory; the wire is tested in tests/integration."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from aisandbox.v1 import environment_pb2 as pb
from aisandbox_crds.hyperparameters import parse_hyperparameters
from aisandbox_crds.spec import Algorithm, GrpcEnvironment, TrainingRunSpec
from aisandbox_environment.session import SimulatorSession
from aisandbox_trainer.environments.factory import Environments
from aisandbox_trainer.environments.grpc_vec_env import GrpcVecEnv
from aisandbox_trainer.errors import InvalidEnvironmentReply, SimulatorChanged, StopRequested
from aisandbox_trainer.runtime.settings import Settings
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_wire.gymnasium_spaces import space_to_proto
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor

SPEC = pb.EnvironmentSpec(
    observation_space=space_to_proto(spaces.Box(-100, 100, (1,), np.float32)),
    action_space=space_to_proto(spaces.Box(0, 10, (1,), np.float32)),
)


@dataclass
class ScriptedSession:
    """Each environment counts its steps; ``ends`` says (step, environment) -> (terminated, truncated)."""

    environments: int
    ends: dict[tuple[int, int], tuple[bool, bool]] = field(default_factory=dict)
    spec: pb.EnvironmentSpec = field(default_factory=lambda: SPEC)
    address: str = "test:1"
    reply_timeout: float = 0.0
    masks: Any = None
    seeds: list[Any] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)
    closed: bool = False
    step: int = 0
    value: float | None = None

    def reset(self, seeds: Any = None) -> Any:
        self.seeds.append(seeds)
        return self._result(np.zeros((self.environments, 1), np.float32))

    def send_step(self, actions: Any) -> None:
        self.actions.append(np.array(actions))

    def receive_step(self) -> Any:
        assert self.actions, "received before it was sent"
        self.step += 1
        ends = np.array([self.ends.get((self.step, i), (False, False)) for i in range(self.environments)])
        observations = np.full((self.environments, 1), self.step, np.float32)
        finals = observations[ends.any(axis=1)] + 50
        observations[ends.any(axis=1)] = -1
        return self._result(observations, ends, finals)

    def _result(self, observations: Any, ends: Any = None, finals: Any = None) -> Any:
        ends = np.zeros((self.environments, 2), bool) if ends is None else ends
        if self.value is not None:
            observations = np.full((self.environments, 1), self.value)
        values = {
            "observations": [observations],
            "rewards": np.arange(1, self.environments + 1, dtype=np.float32),
            "terminated": ends[:, 0],
            "truncated": ends[:, 1],
            "final_observations": [finals] if finals is not None and len(finals) else [],
            "action_masks": self.masks,
            "episode_metrics": [],
        }
        for value in values.values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
        return _Result(**values)

    def close(self) -> None:
        self.closed = True


@dataclass
class _Result:
    observations: Any
    rewards: Any
    terminated: Any
    truncated: Any
    final_observations: Any
    action_masks: Any
    episode_metrics: Any


def _env(*sessions: ScriptedSession) -> Any:
    return GrpcVecEnv(lambda: sessions, Stop())  # type: ignore[arg-type, return-value]


def test_vec_env_joins_sessions_in_order_and_splits_actions() -> None:
    first, second = ScriptedSession(2), ScriptedSession(1)
    env = _env(first, second)
    env.seed(7)
    observations = env.reset()
    assert observations.shape == (3, 1)
    assert (first.seeds, second.seeds) == ([[7, 8]], [[9]])

    observations, rewards, dones, infos = env.step(np.array([[-1.0], [0.0], [1.0]], np.float32))
    np.testing.assert_array_equal(first.actions[0], [[0], [5]])
    np.testing.assert_array_equal(second.actions[0], [[10]])
    np.testing.assert_array_equal(rewards, [1, 2, 1])
    assert not dones.any()
    assert infos == [{}, {}, {}]
    assert observations.dtype == rewards.dtype == np.float32


def test_vec_env_seeds_only_the_first_reset() -> None:
    session = ScriptedSession(2)
    env = _env(session)
    env.seed(3)
    env.reset()
    env.reset()
    assert session.seeds == [[3, 4], None]


def test_vec_env_distinguishes_a_time_limit_from_a_terminal_state() -> None:
    session = ScriptedSession(4, {(2, 0): (True, False), (2, 1): (False, True), (2, 2): (True, True)})
    env = _env(session)
    env.reset()
    actions = np.zeros((4, 1), np.float32)
    env.step(actions)
    observations, _, dones, infos = env.step(actions)

    assert dones.tolist() == [True, True, True, False]
    assert [info.get("TimeLimit.truncated") for info in infos] == [False, True, False, None]
    np.testing.assert_array_equal(infos[1]["terminal_observation"], [52])
    np.testing.assert_array_equal(observations[:, 0], [-1, -1, -1, 2])
    assert infos[3] == {}
    assert {key: infos[1]["episode"][key] for key in "rl"} == {"r": 4.0, "l": 2}
    assert infos[1]["episode"]["t"] >= 0


def test_vec_env_clears_an_ended_episode_at_the_next_step() -> None:
    session = ScriptedSession(2, {(1, 1): (True, False), (3, 1): (True, False)})
    env = _env(session)
    env.reset()
    actions = np.zeros((2, 1), np.float32)
    infos = env.step(actions)[3]
    ended = infos[1]
    assert env.step(actions)[3] == [{}, {}]
    assert ended["episode"]["l"] == 1, "what was handed out must not change"
    assert env.step(actions)[3][1]["episode"] == {"r": 4.0, "l": 2, "t": pytest.approx(0, abs=60)}


def test_vec_env_results_can_be_changed_and_kept() -> None:
    env = _env(ScriptedSession(1))
    first = env.reset()
    _, rewards, _, _ = env.step(np.zeros((1, 1), np.float32))
    rewards += 1  # SB3 adds the value of the state a time limit cut off
    env.step(np.zeros((1, 1), np.float32))
    assert first[0, 0] == 0
    assert rewards[0] == 2


def test_vec_env_shows_action_masks_as_sb3_contrib_asks_for_them() -> None:
    masked = pb.EnvironmentSpec(observation_space=SPEC.observation_space, action_masks=True)
    masked.action_space.discrete.n = 2
    masks = [np.array([[0, 1]], np.uint8), np.array([[1, 1]], np.uint8)]
    sessions = [ScriptedSession(1, spec=masked, masks=mask) for mask in masks]
    env = _env(*sessions)
    env.reset()
    np.testing.assert_array_equal(np.stack(env.env_method("action_masks")), [[False, True], [True, True]])
    assert env.has_attr("action_masks")
    sessions[1].masks = np.array([[1, 0]], np.uint8)
    env.step(np.zeros(2, np.int64))
    np.testing.assert_array_equal(env.action_masks(), [[False, True], [True, False]])
    assert not _env(ScriptedSession(1)).has_attr("action_masks")


def test_vec_env_counts_as_monitored() -> None:
    assert _env(ScriptedSession(2)).env_is_wrapped(Monitor) == [True, True]


def test_vec_env_refuses_simulators_that_differ() -> None:
    other = pb.EnvironmentSpec(observation_space=SPEC.observation_space)
    other.action_space.discrete.n = 2
    sessions = ScriptedSession(1), ScriptedSession(1, spec=other, address="other:2")
    with pytest.raises(
        SimulatorChanged,
        match=r"other:2 has other spaces or parameters .*: Discrete with 2 values from 0, not Box float32 \[1\]",
    ):
        _env(*sessions)
    assert all(session.closed for session in sessions)


def test_vec_env_refuses_a_simulator_that_comes_back_with_other_spaces() -> None:
    other = pb.EnvironmentSpec(observation_space=SPEC.observation_space)
    other.action_space.discrete.n = 2
    before, after = ScriptedSession(1), ScriptedSession(1, spec=other)
    opened = iter([[before], [after]])
    env = GrpcVecEnv(lambda: next(opened), Stop())  # type: ignore[arg-type]
    with pytest.raises(SimulatorChanged):
        env.reconnect()
    assert before.closed
    assert after.closed


def test_vec_env_refuses_an_observation_that_is_too_large_for_the_policy() -> None:
    wide = pb.EnvironmentSpec(action_space=SPEC.action_space)
    far = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    wide.observation_space.CopyFrom(space_to_proto(spaces.Dict({"far": far})))
    session = ScriptedSession(1, spec=wide)
    env = _env(session)
    env.reset()
    session.value = 1e300
    with pytest.raises(InvalidEnvironmentReply, match=r"observation\['far'\] that is not finite as float32"):
        env.step(np.zeros((1, 1), np.float32))


def test_vec_env_keeps_its_number_when_a_service_loses_and_gains_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (pod, 0)) for pod in pods])
    opened: list[tuple[str, int]] = []

    def connect(address: str, environments: int, **_: Any) -> ScriptedSession:
        opened.append((address, environments))
        return ScriptedSession(environments)

    monkeypatch.setattr(SimulatorSession, "connect", connect)
    spec = TrainingRunSpec(Algorithm.PPO, 100, environment=GrpcEnvironment("dns:///simulators:1"))
    hyperparameters = parse_hyperparameters(Algorithm.PPO, {})
    env: Any = Environments(spec, hyperparameters, "run-1", Stop(), Settings()).training()
    assert (env.num_envs, sorted(opened)) == (3, [(f"{pod}:1", 1) for pod in pods])
    for change, expected in (
        (["10.0.0.2", "10.0.0.3"], [("10.0.0.2:1", 2), ("10.0.0.3:1", 1)]),
        (["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"], [(f"10.0.0.{i}:1", 1) for i in (2, 3, 4)]),
    ):
        pods[:] = change
        opened.clear()
        env.reconnect()
        assert sorted(opened) == expected
        assert env.reset().shape == (3, 1)


def test_vec_env_does_not_wait_for_an_answer_once_a_stop_is_asked_for() -> None:
    stop = Stop()
    env = GrpcVecEnv(lambda: [ScriptedSession(1)], stop)  # type: ignore[list-item]
    env.reset()
    stop.request()
    with pytest.raises(StopRequested):
        env.step(np.zeros((1, 1), np.float32))
