"""An older attempt that is still alive publishes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from aisandbox_model_store import Fenced, Published, RunFolder, Writer

CALLS: list[Callable[[Writer, Published], object]] = [
    lambda writer, model: writer.publish_model(200, {"policy.onnx": b"x"}),
    lambda writer, model: writer.publish_model(100, {"policy.onnx": b"a"}),
    lambda writer, model: writer.publish_checkpoint(200, lambda folder: touch(folder / "model.zip")),
    lambda writer, model: writer.point("latest", model),
    lambda writer, model: writer.write_output("out.zip", b"x"),
    lambda writer, model: writer.retain_models(1),
]


def touch(path: Path) -> None:
    path.write_bytes(b"z")


def everything_below(*roots: Path) -> dict[str, bytes]:
    paths = [path for root in roots for path in root.rglob("*") if path.is_file() and path.parent.name != "attempts"]
    return {str(path): path.read_bytes() for path in paths}


@pytest.mark.parametrize("call", CALLS)
def test_older_attempt_is_fenced_and_changes_nothing(
    run: RunFolder, tmp_path: Path, call: Callable[[Writer, Published], object]
) -> None:
    old = run.claim(1)
    old.publish_model(50, {"policy.onnx": b"0"})
    model = old.publish_model(100, {"policy.onnx": b"a"})
    run.claim(2)
    before = everything_below(tmp_path)
    with pytest.raises(Fenced) as caught:
        call(old, model)
    assert (caught.value.attempt, caught.value.newest) == (1, 2)
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize("call", [CALLS[0], CALLS[2], CALLS[3], CALLS[4]])
def test_claim_between_the_check_and_the_rename_wins(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[Writer, Published], object]
) -> None:
    old = run.claim(1)
    model = old.publish_model(100, {"policy.onnx": b"a"})
    before: dict[str, bytes] = {}

    def claim_then_replace(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "replace", os_replace)
        run.claim(2)
        before.update(everything_below(tmp_path))
        os_replace(source, target)

    os_replace = os.replace
    monkeypatch.setattr(os, "replace", claim_then_replace)
    with pytest.raises(Fenced):
        call(old, model)
    assert before
    assert everything_below(tmp_path) == before


def test_claim_during_a_checkpoint_stops_it(run: RunFolder) -> None:
    old = run.claim(1)

    def write(folder: Path) -> None:
        touch(folder / "model.zip")
        run.claim(2)
        touch(folder / "state.pkl")

    with pytest.raises(Fenced):
        old.publish_checkpoint(100, write)
    assert os.listdir(run.checkpoints_path) == []


def test_claim_of_an_older_attempt_is_refused_and_changes_nothing(run: RunFolder) -> None:
    newer = run.claim(10)
    with pytest.raises(Fenced, match="attempt 10"):
        run.claim(9)
    assert newer.publish_model(1, {"policy.onnx": b"x"}).timesteps == 1


def test_claim_removes_what_dead_attempts_left(run: RunFolder) -> None:
    writer = run.claim(1)
    kept = writer.publish_model(100, {"policy.onnx": b"a"})
    for parent in (run.models_path, run.checkpoints_path):
        for name in (".tmp-1-00ff", ".gone-00ff"):
            (parent / name).mkdir()
            touch(parent / name / "model.zip")
    run.claim(2)
    assert os.listdir(run.checkpoints_path) == []
    assert os.listdir(run.models_path) == [kept.path.name]


def test_claim_of_a_negative_attempt_is_refused(run: RunFolder) -> None:
    with pytest.raises(ValueError, match="attempt"):
        run.claim(-1)
