"""What a trainer's pod mounts: its run's folder, which is its own, and what the run starts from, if that is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from aisandbox_model_store import RunReplaced, RunStore, uid_of
from aisandbox_model_store.prepare import main, prepare

OLD, NEW = "11111111-aaaa", "22222222-bbbb"


def variables(folder: Path, **more: str) -> dict[str, str]:
    return {"RUN_ID": "walk", "RUN_UID": NEW, "MODELS_DIR": str(folder), **more}


def mounted(folder: Path, run: str = "walk") -> Path:
    return folder / "runs" / ".sources" / run


def test_folder_is_made_for_the_run_and_again_for_its_next_attempt(tmp_path: Path) -> None:
    for _ in range(2):
        prepare(variables(tmp_path))
        assert uid_of(tmp_path / "runs" / "walk") == NEW
    assert os.listdir(tmp_path / "runs") == ["walk"]
    RunStore(tmp_path).run("walk").claim(None, NEW)


def test_files_of_an_earlier_run_are_set_aside_after_a_while(tmp_path: Path) -> None:
    run = RunStore(tmp_path).run("walk")
    run.claim(None, OLD).publish_model(1, {"policy.onnx": b"old"})
    pauses: list[float] = []
    prepare(variables(tmp_path, EARLIER_RUN_PATIENCE_SECONDS="2.5"), pauses.append)
    assert pauses == [1.0, 1.0, 0.5]
    assert uid_of(run.path) == NEW
    assert uid_of(tmp_path / "runs" / f"walk.{OLD[:8]}") == OLD
    with pytest.raises(RunReplaced):
        prepare(variables(tmp_path, RUN_UID=OLD))


def test_run_that_gets_its_status_meanwhile_keeps_its_files(tmp_path: Path) -> None:
    run = RunStore(tmp_path).run("walk")
    run.claim(None, OLD).publish_model(1, {"policy.onnx": b"old"})

    def restore(_seconds: float) -> None:
        (run.path / "uid").write_text(NEW)

    prepare(variables(tmp_path), restore)
    assert len(run.models()) == 1


def test_source_is_linked_without_leaving_the_volume(tmp_path: Path) -> None:
    RunStore(tmp_path).run("source").claim(None, OLD).publish_model(1, {"policy.onnx": b"source"})
    prepare(variables(tmp_path, START_FROM_RUN="source"))
    link = mounted(tmp_path)
    assert not Path(os.readlink(link)).is_absolute()
    assert link.resolve() == tmp_path / "runs" / "source"
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "w.zip").write_bytes(b"zip")
    for _ in range(2):
        prepare(variables(tmp_path, START_FROM_ZIP="./team/w.zip", DEMONSTRATIONS="team/w.zip"))
        assert link.resolve() == tmp_path / "team" / "w.zip"
        assert mounted(tmp_path, "walk.demonstrations").resolve() == tmp_path / "team" / "w.zip"


@pytest.mark.parametrize(
    ("source", "link"),
    [
        ({"START_FROM_RUN": "gone"}, "walk"),
        ({"START_FROM_ZIP": "gone.zip"}, "walk"),
        ({"START_FROM_ZIP": "out/w.zip"}, "walk"),
        ({"DEMONSTRATIONS": "gone.parquet"}, "walk.demonstrations"),
    ],
    ids=["no such run", "no such file", "a link that leaves the volume", "no such demonstrations"],
)
def test_source_that_is_not_there_is_an_empty_folder(tmp_path: Path, source: dict[str, str], link: str) -> None:
    models = tmp_path / "models"
    (tmp_path / "w.zip").write_bytes(b"secret")
    models.mkdir()
    (models / "out").symlink_to(tmp_path)
    for _ in range(2):
        prepare(variables(models, **source))
        assert list(mounted(models, link).iterdir()) == []
        assert mounted(models, link).resolve().is_relative_to(models / "runs" / ".sources")
    assert not (models / "runs" / "gone").exists()


@pytest.mark.parametrize("has_source", [False, True])
@pytest.mark.parametrize("before", ["nothing", "a link"])
def test_two_pods_of_a_run_make_its_link_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_source: bool, before: str
) -> None:
    if has_source:
        RunStore(tmp_path).run("source").claim(None, OLD)
    pod = variables(tmp_path, START_FROM_RUN="source")
    mounted(tmp_path).parent.mkdir(parents=True)
    if before == "a link":
        mounted(tmp_path).symlink_to("../other")
    left = ["symlink_to", "mkdir", "unlink", "replace"]

    def after_the_other_pod(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def call(path: Path, *values: object, **options: object) -> None:
            if ".sources" in Path(path).parts and name in left:
                left.remove(name)
                prepare(pod)  # just before this pod goes on
            real(path, *values, **options)

        return call

    for name in ("symlink_to", "mkdir", "unlink"):
        monkeypatch.setattr(Path, name, after_the_other_pod(name, getattr(Path, name)))
    monkeypatch.setattr(os, "replace", after_the_other_pod("replace", os.replace))
    prepare(pod)
    assert mounted(tmp_path).resolve().name == ("source" if has_source else ".none")
    assert not list(mounted(tmp_path).parent.glob(".tmp-*"))


def test_program_says_why_it_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main() == 1
    assert "MODELS_DIR" in capsys.readouterr().err
