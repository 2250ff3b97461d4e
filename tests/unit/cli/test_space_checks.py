"""The checks of spaces that ``check-simulator`` adds to the compliance suite."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest
from aisandbox.v1 import environment_pb2 as pb
from aisandbox.v1 import tensor_pb2
from aisandbox_cli import space_checks
from aisandbox_environment import CheckFailed, CheckSkipped

Space = tensor_pb2.Space
VECTOR = Space(box=tensor_pb2.Box(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[3]))
TORQUE = Space(box=tensor_pb2.Box(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[2], low=[-3], high=[3]))
CONTINUOUS = pb.EnvironmentSpec(observation_space=VECTOR, action_space=TORQUE)
HUGE = pb.EnvironmentSpec(
    observation_space=Space(discrete=tensor_pb2.Discrete(n=2**50)),
    action_space=Space(discrete=tensor_pb2.Discrete(n=2)),
)
RULES, DRY_RUN = space_checks.space_checks().values()


def done(stdout: str = "", stderr: str = "", code: int = 0) -> Any:
    def run(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, code, stdout.encode(), stderr.encode())

    return run


def test_rules_say_which_algorithms_take_the_spaces_and_why_others_do_not() -> None:
    said = RULES(CONTINUOUS)
    assert said.startswith("PPO, A2C, SAC, TD3, TQC, CrossQ, RecurrentPPO; not DQN: DQN takes only discrete actions")


def test_rules_fail_where_no_algorithm_takes_the_spaces() -> None:
    with pytest.raises(CheckFailed, match=r"PPO: the trainer would need at least [\d,]{14,} bytes"):
        RULES(HUGE)


def test_dry_run_is_skipped_where_the_trainer_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        CheckSkipped, match=r"the trainer is not installed here, so no model was trained .*uv tool install"
    ):
        DRY_RUN(CONTINUOUS)


def test_dry_run_is_skipped_where_the_rules_refuse_the_spaces_already() -> None:
    with pytest.raises(CheckSkipped, match="no algorithm takes the spaces"):
        DRY_RUN(HUGE)


def test_dry_run_is_skipped_where_the_trainer_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", done(stderr="Traceback\nImportError: libcudart", code=1))
    with pytest.raises(CheckSkipped, match="ImportError: libcudart"):
        DRY_RUN(CONTINUOUS)


def test_dry_run_fails_where_no_algorithm_can_be_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = '{"algorithm": "PPO", "problem": "KeyError"}\n{"algorithm": "A2C", "problem": "also"}\n'
    monkeypatch.setattr(subprocess, "run", done(lines))
    with pytest.raises(CheckFailed, match="PPO: KeyError; A2C: also"):
        DRY_RUN(CONTINUOUS)
    monkeypatch.setattr(subprocess, "run", done(lines.replace("KeyError", "")))
    assert DRY_RUN(CONTINUOUS) == "PPO; not A2C: also"
