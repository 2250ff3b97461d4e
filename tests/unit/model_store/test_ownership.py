"""A run that was deleted and created again under its name shares nothing with the one before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from aisandbox_model_store import Fenced, ModelNotFound, RunFolder, RunReplaced, RunStore, Writer

OLD = "11111111-aaaa-4bbb-8ccc-000000000001"
NEW = "22222222-aaaa-4bbb-8ccc-000000000002"


def checkpoint(writer: Writer, timesteps: int, text: str = "x") -> None:
    writer.publish_checkpoint(timesteps, lambda folder: _write(folder / "model.zip", text))


def _write(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.fixture(params=["one root", "two roots"])
def run(tmp_path: Path, request: pytest.FixtureRequest) -> RunFolder:
    return RunStore(tmp_path / "models", tmp_path / "saved" if request.param == "two roots" else None).run("walker")


def test_attempts_number_themselves(run: RunFolder) -> None:
    assert [run.claim(None, OLD).attempt for _ in range(3)] == [1, 2, 3]
    assert run.claim(None).attempt == 4


def test_attempt_after_a_given_one_has_the_next_number(run: RunFolder) -> None:
    run.claim(7)
    old = run.claim(None)
    assert old.attempt == 8
    assert run.claim(None).attempt == 9
    with pytest.raises(Fenced):
        old.check_fencing_token()


def test_attempts_at_the_same_time_get_different_numbers(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from aisandbox_model_store import Fenced, RunStore\n"
        "store = RunStore(Path(sys.argv[1])); sys.stdin.read()\n"
        "for _ in range(20):\n"
        "    try: print(store.run('r').claim(None, sys.argv[2]).attempt, flush=True)\n"
        "    except Fenced as error: print(error.attempt, flush=True)\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), NEW], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    numbers = [int(line) for process in processes for line in process.communicate(timeout=60)[0].split()]
    assert sorted(numbers) == list(range(1, 61))


def test_run_of_the_same_uid_resumes(run: RunFolder) -> None:
    checkpoint(run.claim(None, OLD), 100)
    run.claim(None, OLD)
    assert run.newest_checkpoint() is not None
    assert run.uid() == OLD


def test_earlier_owner_is_another_run_that_has_published_something(run: RunFolder) -> None:
    assert run.earlier_owner(NEW) == ""
    old = run.claim(None, OLD)
    assert run.earlier_owner(NEW) == ""
    checkpoint(old, 100)
    assert (run.earlier_owner(NEW), run.earlier_owner(OLD)) == (OLD, "")
    run.claim(None, NEW)
    assert run.earlier_owner(NEW) == ""


def test_models_of_an_earlier_run_are_enough(run: RunFolder) -> None:
    run.claim(None, OLD).publish_model(100, {"policy.onnx": b"old"})
    assert run.earlier_owner(NEW) == OLD


def test_run_created_again_starts_with_nothing(run: RunFolder, tmp_path: Path) -> None:
    old = run.claim(None, OLD)
    checkpoint(old, 100)
    old.point("latest", old.publish_model(100, {"policy.onnx": b"old"}))

    new = run.claim(None, NEW)

    assert (new.attempt, run.uid()) == (1, NEW)
    assert run.newest_checkpoint() is None
    with pytest.raises(ModelNotFound):
        run.model("latest")
    for root in run.roots:
        assert sorted(os.listdir(root.parent)) == ["walker", "walker.11111111"]
    assert RunStore(tmp_path / "models").run_ids() == ["walker"], "a renamed folder is not a run"
    kept = run.roots[-1].parent / "walker.11111111" / "checkpoints" / "100" / "model.zip"
    assert kept.read_text() == "x"


def test_trainer_of_the_earlier_run_changes_nothing(run: RunFolder) -> None:
    old = run.claim(5, OLD)
    model = old.publish_model(100, {"policy.onnx": b"old"})
    run.claim(None, NEW)
    with pytest.raises(RunReplaced):
        checkpoint(old, 200)
    with pytest.raises(RunReplaced):
        old.point("latest", model)
    with pytest.raises(RunReplaced):
        run.claim(None, OLD)
    assert run.uid() == NEW
    assert run.checkpoints() == []
    assert run.models() == []
    assert run.claim(None, NEW).attempt == 2, "the earlier attempt's number is not counted"


def test_run_created_again_wins_against_a_half_written_checkpoint(run: RunFolder) -> None:
    old = run.claim(5, OLD)

    def write(folder: Path) -> None:
        _write(folder / "model.zip", "half")
        run.claim(None, NEW)

    with pytest.raises(RunReplaced):
        old.publish_checkpoint(100, write)
    assert os.listdir(run.checkpoints_path) == []


def test_run_created_again_wins_between_the_check_and_the_rename(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = run.claim(5, OLD)

    def claim_then_replace(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "replace", os_replace)
        run.claim(None, NEW)
        os_replace(source, target)

    os_replace = os.replace
    monkeypatch.setattr(os, "replace", claim_then_replace)
    with pytest.raises(RunReplaced):
        checkpoint(old, 100)
    assert run.checkpoints() == []


class Crash(BaseException):
    """The end of a process at some call."""


@pytest.mark.parametrize("call", ["rename", "replace", "fsync", "mkdir"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(4))
def test_crash_while_an_earlier_run_is_renamed_loses_and_mixes_nothing(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, call: str, after: bool, number: int
) -> None:
    checkpoint(run.claim(3, OLD), 100, "old")
    calls = []

    def crash(*arguments: object, **keywords: object) -> object:
        calls.append(arguments)
        if len(calls) <= number:
            return real(*arguments, **keywords)
        if after:
            real(*arguments, **keywords)
        raise Crash

    real = getattr(os, call)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, crash)
        try:
            run.claim(None, NEW)
        except Crash:
            pass
        else:
            assert len(calls) <= number

    new = run.claim(None, NEW)
    assert new.attempt <= 2
    assert run.uid() == NEW
    assert run.checkpoints() == []
    old = run.roots[-1].parent / "walker.11111111" / "checkpoints" / "100" / "model.zip"
    assert old.read_text() == "old"
    checkpoint(new, 50, "new")


def test_slow_trainer_of_the_same_run_does_not_rename_the_new_folder(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.claim(None, OLD)

    def claim_then_rename(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "rename", os_rename)
        checkpoint(run.claim(None, NEW), 100)
        os_rename(source, target)

    os_rename = os.rename
    monkeypatch.setattr(os, "rename", claim_then_rename)
    assert run.claim(None, NEW).attempt == 2
    assert [published.timesteps for published in run.checkpoints()] == [100]


def test_files_without_a_uid_are_taken_over(run: RunFolder) -> None:
    checkpoint(run.claim(1), 100)
    assert run.uid() == ""
    assert run.claim(None, NEW).attempt == 2
    assert run.newest_checkpoint() is not None


@pytest.mark.parametrize("uid", ["../x", "a/b", "", " ", ".", "x" * 64])
def test_invalid_uid_is_refused(run: RunFolder, uid: str) -> None:
    if uid:
        with pytest.raises(ValueError, match="uid"):
            run.claim(None, uid)
    else:
        assert run.claim(None, uid).uid == ""
