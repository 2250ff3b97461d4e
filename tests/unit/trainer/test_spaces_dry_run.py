"""``python -m aisandbox_trainer dry-run``: which algorithms can train on what a simulator declares."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from aisandbox.v1 import environment_pb2 as pb
from aisandbox.v1 import tensor_pb2
from aisandbox_crds import Algorithm
from aisandbox_trainer.run.spaces_dry_run import dry_run_spaces
from aisandbox_trainer.training import dry_run

Space = tensor_pb2.Space
FLOAT64, UINT8 = tensor_pb2.DATA_TYPE_FLOAT64, tensor_pb2.DATA_TYPE_UINT8
VECTOR = Space(box=tensor_pb2.Box(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[3]))
TWO = Space(discrete=tensor_pb2.Discrete(n=2))
TORQUE = Space(box=tensor_pb2.Box(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[2], low=[-3], high=[3]))


BASIC = (Algorithm.PPO, Algorithm.A2C, Algorithm.DQN)


def picture(*shape: int) -> Space:
    return Space(box=tensor_pb2.Box(dtype=UINT8, shape=shape, low=[0], high=[255]))


def dict_of(**entries: Space) -> Space:
    return Space(
        dict=tensor_pb2.DictSpace(entries=[tensor_pb2.DictEntry(key=key, space=entries[key]) for key in entries])
    )


@pytest.mark.parametrize(
    "observations",
    [
        dict_of(zeta=Space(box=tensor_pb2.Box(dtype=FLOAT64, shape=[2])), alpha=TWO),
        dict_of(type=VECTOR, values=VECTOR, training=VECTOR),
        dict_of(camera=picture(20, 20, 3), speed=VECTOR),
        Space(box=tensor_pb2.Box(dtype=FLOAT64)),
        Space(discrete=tensor_pb2.Discrete(n=4, start=-2)),
    ],
    ids=["unsorted keys", "keys of modules", "a small picture", "a number", "a start"],
)
def test_spaces_of_the_contract_can_be_trained_on(observations: Space) -> None:
    spec = pb.EnvironmentSpec(observation_space=observations, action_space=TWO)
    assert {algorithm: dry_run_spaces(spec, algorithm) for algorithm in BASIC} == dict.fromkeys(BASIC, "")


def test_algorithm_that_cannot_choose_the_actions_says_so() -> None:
    spec = pb.EnvironmentSpec(observation_space=VECTOR, action_space=TORQUE)
    assert dry_run_spaces(spec, Algorithm.PPO) == ""
    assert "DQN takes only discrete actions" in dry_run_spaces(spec, Algorithm.DQN)


def test_spaces_that_need_too_much_memory_are_refused_with_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINER_MEMORY_BYTES", str(10**9))
    many = pb.EnvironmentSpec(observation_space=Space(discrete=tensor_pb2.Discrete(n=2**40)), action_space=TWO)
    for algorithm in BASIC:
        assert "may take 1,000,000,000" in dry_run_spaces(many, algorithm)


def test_unknown_error_in_the_dry_run_is_the_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyError("lidar")

    monkeypatch.setattr(dry_run, "policy_files", fails)
    problem = dry_run_spaces(pb.EnvironmentSpec(observation_space=VECTOR, action_space=TWO), Algorithm.A2C)
    assert "A2C with MlpPolicy cannot be trained on these spaces" in problem
    assert "KeyError: 'lidar'" in problem


def test_command_reads_a_spec_and_prints_one_object_an_algorithm() -> None:
    spec = pb.EnvironmentSpec(observation_space=VECTOR, action_space=TORQUE)
    done = subprocess.run(
        [sys.executable, "-m", "aisandbox_trainer", "dry-run", "PPO", "DQN"],
        input=spec.SerializeToString(),
        capture_output=True,
        timeout=150,
        check=True,
    )
    first, second = [json.loads(line) for line in done.stdout.splitlines()]
    assert first == {"algorithm": "PPO", "problem": ""}
    assert second["algorithm"] == "DQN"
    assert "only discrete actions" in second["problem"]
