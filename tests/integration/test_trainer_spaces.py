"""Whole runs over spaces that the contract allows, hosted and in process: none ends with the reason Internal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from aisandbox.v1 import tensor_pb2 as pb
from aisandbox_crds.reasons import Reason
from aisandbox_crds.spec import Algorithm, Environment, GrpcEnvironment, GymnasiumEnvironment, TrainingRunSpec
from aisandbox_crds.status_values import Failure
from aisandbox_crds.trainer_exit import ExitCode, TerminationMessage
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_environment import AdapterSimulation, create_environment_server
from aisandbox_environment.gymnasium_host import GymnasiumSimulation
from aisandbox_model_store import RunStore
from aisandbox_trainer.run.attempt import run_attempt
from aisandbox_trainer.runtime.settings import Settings
from aisandbox_trainer.runtime.stop import Stop
from gymnasium import spaces
from gymnasium.spaces import Box, Discrete

UNSORTED = spaces.Dict([("type", Box(-1, 1, (2,), np.float64)), ("lidar.front", Box(-1, 1, (), np.float16))])
SPACES: dict[str, gym.Space[Any]] = {
    "unsorted": UNSORTED,
    "mixed": spaces.Dict([("zeta", Discrete(4, start=2)), ("camera", Box(0, 255, (7, 7, 3), np.uint8))]),
    "number": Box(-1, 1, (), np.float32),
    "picture": Box(0, 255, (36, 36, 1), np.uint8),
}
BAD = {"256": np.array([0, 256]), "half": np.array([0.5, 1.0]), "minus": np.array([-1, 1])}


class Sampled(gym.Env[Any, Any]):
    """Observes samples of a space; ``bad`` names what is observed after the third step."""

    def __init__(self, space: str = "", bad: str = "") -> None:
        self.observation_space = Box(0, 255, (2,), np.uint8) if bad else SPACES[space]
        self.action_space: Any = Discrete(2) if space == "picture" or bad else Box(-5, 5, (), np.float32)
        self._bad = bad
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        assert self.action_space.contains(action) or np.shape(action) == ()
        observation = BAD[self._bad] if self._bad and self._steps > 3 else self.observation_space.sample()
        return observation, 1.0, self._steps % 7 == 0, False, {}


gym.register("SampledSpace-v0", entry_point=lambda **kwargs: Sampled(**kwargs), disable_env_checker=True)


class TooLarge:
    """An adapter that declares uint8 and observes 256."""

    observation_space = pb.Space(box=pb.Box(dtype=pb.DATA_TYPE_UINT8, shape=[2]))
    action_space = pb.Space(discrete=pb.Discrete(n=2))

    def reset(self, seed: int | None = None) -> Any:
        return np.array([0, 1])

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.array([0, 256]), 0.0, False, False, {}

    def close(self) -> None:
        pass


def train(
    folder: Path, environment: Environment, algorithm: str, **hyperparameters: Any
) -> tuple[int, Failure | None, dict[str, Any]]:
    small = {"n_steps": 16, "batch_size": 16, "n_epochs": 1} if algorithm == "PPO" else {"learning_starts": 8}
    spec = TrainingRunSpec(
        algorithm=Algorithm(algorithm),
        total_timesteps=32,
        checkpoint_every_timesteps=32,
        environment=environment,
        seed=1,
        hyperparameters={key: str(value) for key, value in {**small, **hyperparameters}.items()},
    )
    message = folder / "message"
    start = TrainerStart(
        run_id="run-1",
        attempt=None,
        run_uid="",
        spec=spec,
        models_dir=folder,
        checkpoint_dir=folder,
        termination_message_path=message,
    )
    code = run_attempt(start, Stop(), Settings())
    metadata: dict[str, Any] = {}
    if code == 0:
        run = RunStore(folder).run("run-1")
        metadata = json.loads(run.read_model(run.model("final")).files["metadata.json"])
    return code, TerminationMessage.from_json(message.read_text()).failure, metadata


PLACES = ("hosted", "in process")


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Iterator[Any]:
    servers = []

    def environment(**kwargs: Any) -> Environment:
        if request.param == "in process":
            return GymnasiumEnvironment("SampledSpace-v0", kwargs)
        server = create_environment_server(GymnasiumSimulation("SampledSpace-v0", kwargs))
        server.start()
        servers.append(server)
        return GrpcEnvironment(server.address)

    yield environment
    for server in servers:
        server.stop(0)


@pytest.mark.parametrize(
    ("place", "space", "algorithm", "hyperparameters"),
    [
        *(
            (place, *case)
            for place in PLACES
            for case in (
                ("unsorted", "PPO", {"frame_stack": 2, "normalize": True}),
                ("mixed", "PPO", {"normalize": True}),
                ("number", "PPO", {}),
            )
        ),
        ("hosted", "picture", "DQN", {"normalize": "dict(norm_obs=False)", "buffer_size": 100}),  # takes seconds
    ],
    indirect=["place"],
)
def test_run_over_what_the_contract_allows_succeeds(
    tmp_path: Path, place: Any, space: str, algorithm: str, hyperparameters: dict[str, Any]
) -> None:
    code, failure, metadata = train(tmp_path, place(space=space), algorithm, **hyperparameters)
    assert (code, failure) == (0, None)
    declared: Any = SPACES[space]
    if isinstance(declared, spaces.Dict):
        entries = metadata["observationSpace"]["dict"]["entries"]
        assert [entry["key"] for entry in entries] == list(declared.spaces)


@pytest.mark.parametrize("bad", sorted(BAD))
def test_run_of_an_environment_that_leaves_its_dtype_is_refused_with_the_element(
    tmp_path: Path, place: Any, bad: str
) -> None:
    code, failure, _ = train(tmp_path, place(bad=bad), "PPO")
    assert code == ExitCode.PERMANENT
    assert failure is not None
    assert failure.reason == Reason.SIMULATOR_INVALID_REPLY
    assert "element [" in failure.message
    assert "no uint8" in failure.message


def test_adapter_that_leaves_its_dtype_is_refused_with_the_element(tmp_path: Path) -> None:
    server = create_environment_server(AdapterSimulation(TooLarge))
    server.start()
    try:
        code, failure, _ = train(tmp_path, GrpcEnvironment(server.address), "PPO")
    finally:
        server.stop(0)
    assert code == ExitCode.PERMANENT
    assert failure is not None
    assert failure.reason == Reason.SIMULATOR_INVALID_REPLY
    assert "element [1] is 256, which is no uint8" in failure.message


@pytest.mark.parametrize("device", ["mps", "cuda:7"])
def test_run_on_a_device_that_is_not_there_is_refused(tmp_path: Path, device: str) -> None:
    code, failure, _ = train(tmp_path, GymnasiumEnvironment("CartPole-v1"), "PPO", device=device)
    assert code == ExitCode.PERMANENT
    assert failure is not None
    assert failure.reason == Reason.INVALID_HYPERPARAMETER
    assert "hyperparameters.device" in failure.message
