"""`aisandbox record`: who plays, and what is refused."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow.parquet as pq
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_cli.main import main
from aisandbox_environment import DemonstrationFile
from aisandbox_environment.demonstrations import writer as writing
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


def test_environment_of_the_current_folder_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_world.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "gymnasium.register('OwnPole-v0', CartPoleEnv, max_episode_steps=3)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    assert main(["record", "--gymnasium", "own_world:OwnPole-v0", "--episodes", "1", "-o", "a.parquet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["steps"] == 3


def test_recordings_of_c_sharp_play(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = {"format": 1, "simulation": "Pole", "seed": 7, "options": {}, "actions": [[1], [0], [1]]}
    (tmp_path / "1.json").write_text(json.dumps(recording))
    out = tmp_path / "pole.parquet"
    assert main([*POLE, "--replay", str(tmp_path), "-o", str(out)]) == 0
    assert "episode 1/1: 3 steps, return 3" in capsys.readouterr().out
    assert DemonstrationFile(out.open("rb")).read().actions.tolist() == [1, 0, 1, 0]


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
        ([*POLE, "--replay", "no-such-folder", "--seed", "1"], "--seed: not with --replay; the recordings say it"),
        ([*POLE, "--replay", "no-such-folder"], "--replay no-such-folder: No such file"),
        ([*POLE, "--replay", "."], "--replay: .: has no *.json"),
        ([*POLE, "--policy", "heuristics"], "must be random or MODULE:FUNCTION"),
        ([*POLE, "--policy", "no_such_module:play"], "there is no module 'no_such_module' here"),
        # Looked up first: no simulator answers here.
        (["record", "127.0.0.1:1", "--policy", "no_such_module:play"], "there is no module 'no_such_module' here"),
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


def test_folder_in_place_of_the_file_is_refused_before_an_episode_is_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*POLE, "-o", str(tmp_path)]) == 2
    assert "is a folder, and must be the file to write" in " ".join(capsys.readouterr().err.split())


def _play_by(body: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Plays episodes of three steps by ``act``, a function in the current folder that knows its ``calls`` so far."""
    (folder / "players_here.py").write_text(
        "calls = []\n"
        "def act(observation, mask):\n"
        "    calls.append(observation)\n"
        f"    return at(len(calls) - 1)\n\n\ndef at(calls):\n    {body}\n"
    )
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "players_here", raising=False)
    options = ["--policy", "players_here:act", "--max-steps", "3", "-o", "pole.parquet", *arguments]
    return main([*POLE, *options])


@pytest.mark.parametrize(("calls", "kept"), [(1, 0), (7, 2)], ids=["in the first episode", "in the third"])
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return 2 if calls == {calls} else 0", "the action of episode {kept}, step 1: is 2, outside of its space"),
        ("return [0][calls == {calls}]", "the function, at episode {kept}, step 1, raised IndexError"),
    ],
    ids=["an impossible action", "an exception"],
)
def test_error_keeps_the_complete_episodes(
    body: str, says: str, calls: int, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    assert _play_by(body.format(calls=calls), tmp_path, monkeypatch) == 1
    said = capfd.readouterr().err
    assert says.format(kept=kept) in said
    assert ("Stopped; 2 episodes are kept." in said) == bool(kept)
    _check_kept(tmp_path, kept)


def test_simulator_that_fails_keeps_the_complete_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "failing_world.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "class Failing(CartPoleEnv):\n"
        "    steps = 0\n"
        "    def step(self, action):\n"
        "        self.steps += 1\n"
        "        if self.steps > 4:\n"
        "            raise RuntimeError('the physics engine is gone')\n"
        "        return super().step(action)\n"
        "gymnasium.register('FailingPole-v0', Failing)\n"
    )
    assert _play_by("return 0", tmp_path, monkeypatch, "--gymnasium", "failing_world:FailingPole-v0") == 1
    said = capsys.readouterr().err
    assert "the physics engine is gone" in said
    assert "Stopped; 1 episode is kept." in said
    _check_kept(tmp_path, 1)


def test_service_that_has_the_run_no_more_keeps_the_complete_episodes(
    service: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [pb.ActResponse(action=[1])] * 2
    service.says("Act", *answers, service.refusal(grpc.StatusCode.NOT_FOUND, "run 'exp-1' is unknown"))
    out = tmp_path / "pole.parquet"
    assert main([*POLE, "--run", "exp-1", "--max-steps", "2", "-o", str(out)]) == 1
    said = capsys.readouterr().err
    assert said.index("Stopped; 1 episode is kept.") < said.index("error: run 'exp-1' is unknown")
    _check_kept(tmp_path, 1)


def test_exception_of_the_function_is_shown_from_its_first_line_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _play_by("return {}['left']", tmp_path, monkeypatch) == 1
    first, *below = capsys.readouterr().err.splitlines()
    assert first == "error: --policy players_here:act: the function, at episode 0, step 0, raised KeyError"
    assert [line.split(", in ")[-1] for line in below if " File " in line] == ["act", "at"]
    assert (below[0], below[-1]) == ("  Traceback (most recent call last):", "  KeyError: 'left'")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import no_such_library", "No module named 'no_such_library'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def (", "SyntaxError"),
    ],
)
def test_module_that_cannot_be_imported_is_shown_by_its_own_lines(
    text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_module.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main([*POLE, "--policy", "broken_module:act", "-o", "pole.parquet"]) == 1
    said = capsys.readouterr().err
    assert "error: --policy broken_module:act: the module raised" in said
    assert says in said
    assert said.count("File ") == 1


def _check_kept(folder: Path, episodes: int) -> None:
    assert not list(folder.glob("*part")) + list(folder.glob(".*part"))
    files = list(folder.glob("*.parquet"))
    assert [_episodes(file) for file in files] == [episodes] * bool(episodes)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, whatever the process that runs the tests was started with."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _press_ctrl_c(*_: Any) -> None:
    signal.raise_signal(signal.SIGINT)


def _record_with_player(folder: Path, monkeypatch: pytest.MonkeyPatch, stopping: int) -> int:
    """Plays ten episodes of five steps, and presses Ctrl-C at the start of the one with the number ``stopping``."""
    (folder / "stopping_player.py").write_text(
        "import signal\n"
        "class Player:\n"
        "    begun = 0\n"
        "    def begin_episode(self):\n"
        "        self.begun += 1\n"
        f"        if self.begun == {stopping}:\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "    def __call__(self, observation, mask):\n"
        "        return 0\n"
        "player = Player()\n"
    )
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "stopping_player", raising=False)
    return main([*POLE, "--policy", "stopping_player:player", "--max-steps", "5", "-o", "pole.parquet"])


def _episodes(path: Path) -> int:
    with path.open("rb") as file:
        return int(DemonstrationFile(file).read().last.sum())


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_keeps_the_complete_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _record_with_player(tmp_path, monkeypatch, stopping=3) == 0
    assert "Stopped; 2 episodes are kept." in capsys.readouterr().err
    assert _episodes(tmp_path / "pole.parquet") == 2


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_before_the_first_episode_is_complete_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _record_with_player(tmp_path, monkeypatch, stopping=1) == 130
    assert "nothing is kept" in capsys.readouterr().err
    assert not list(tmp_path.glob("*part")) + list(tmp_path.glob(".*part")) + list(tmp_path.glob("*.parquet"))


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_while_an_episode_is_written_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(writing, "GROUP_BYTES", 1)
    write_table = _before(_press_ctrl_c, pq.ParquetWriter.write_table)
    monkeypatch.setattr(pq.ParquetWriter, "write_table", write_table)
    assert _record_with_player(tmp_path, monkeypatch, stopping=0) == 0
    assert "Stopped; 1 episode is kept." in capsys.readouterr().err
    assert _episodes(tmp_path / "pole.parquet") == 1


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_while_the_file_is_completed_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(writing, "_flush", _before(_press_ctrl_c, writing._flush))
    assert _record_with_player(tmp_path, monkeypatch, stopping=0) == 0
    assert "10 episodes" in capsys.readouterr().out
    assert _episodes(tmp_path / "pole.parquet") == 10


def _before(first: Callable[..., None], then: Callable[..., Any]) -> Callable[..., Any]:
    def both(*arguments: Any) -> Any:
        first(*arguments)
        return then(*arguments)

    return both


def test_next_command_names_the_file_by_its_place_in_the_volume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*POLE, "--episodes", "1", "--max-steps", "2", "-o", str(tmp_path / "pole.parquet")]) == 0
    assert "train ppo --demonstrations PATH-IN-MODELS_DIR/pole.parquet" in capsys.readouterr().out
