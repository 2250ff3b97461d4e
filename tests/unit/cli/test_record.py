"""`aisandbox record`: who plays, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_cli.main import main
from aisandbox_environment import DemonstrationFile
from aisandbox_process import log

POLE = ("record", "--gymnasium", "CartPole-v1")


@pytest.fixture(autouse=True)
def log_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command configures the log of its process, which is that of all tests here."""
    monkeypatch.setattr(log, "configure", lambda level: None)


def test_function_plays_and_its_episodes_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "left_player.py").write_text("def left(observation, mask):\n    assert mask is None\n    return 0\n")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "pole.parquet"
    arguments = ["--policy", "left_player:left", "--episodes", "2", "--max-steps", "5", "-o", str(out), "--json"]
    assert main([*POLE, *arguments]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["episodes"], said["steps"], said["return_mean"]) == (2, 10, 5.0)
    assert said["digest"].startswith("sha256:")
    read = DemonstrationFile(out.open("rb")).read()
    assert (read.actions == 0).all()
    assert read.truncated.sum() == 2


def test_trained_policy_plays(service: Any, tmp_path: Path) -> None:
    service.says("Act", pb.ActResponse(action=[1], state=b"memory"), pb.ActResponse(action=[1]))
    out = tmp_path / "pole.parquet"
    assert (
        main([*POLE, "--run", "exp-1", "--model", "best", "--episodes", "1", "--max-steps", "2", "-o", str(out)]) == 0
    )
    first, second = service.requests("Act")
    assert (first.run_id, first.model, len(first.observation), first.episode_start) == ("exp-1", "best", 4, True)
    assert (second.state, second.episode_start) == (b"memory", False)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["record"], "ADDRESS, --pool or --gymnasium: use exactly one of them"),
        ([*POLE, "--pool", "arena"], "--pool and --gymnasium: use exactly one of them"),
        ([*POLE, "--run", "exp-1", "--policy", "random"], "--policy and --run: use only one of them"),
        ([*POLE, "--policy", "heuristics"], "must be random or MODULE:FUNCTION"),
        ([*POLE, "--policy", "no_such_module:play"], "there is no module 'no_such_module' here"),
        ([*POLE, "--policy", "json:play"], "has no attribute 'play'"),
        (["record", "--gymnasium", "NoSuch-v0"], "--gymnasium: gymnasium.make('NoSuch-v0') failed"),
    ],
)
def test_wrong_usage_is_refused(
    arguments: list[str], rule: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "-o", str(tmp_path / "a.parquet")]) == 2
    assert rule in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_impossible_action_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong_player.py").write_text("def wrong(observation, mask):\n    return 2\n")
    monkeypatch.chdir(tmp_path)
    assert main([*POLE, "--policy", "wrong_player:wrong", "-o", "pole.parquet"]) == 1
    assert "the action of episode 0, step 0: is 2, outside of its space" in capsys.readouterr().err
    assert not list(tmp_path.glob("*part")) + list(tmp_path.glob("*.parquet"))
