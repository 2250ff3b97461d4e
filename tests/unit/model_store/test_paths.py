"""Run ids and output paths stay inside MODELS_DIR."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from aisandbox_model_store import InvalidRunId, OutsideRoot, RunFolder, RunStore


@pytest.mark.parametrize("run_id", ["", "..", "a/b", "../x", "A", "-a", "a-", "a" * 64, "a\n", "a.b", "/etc", "a\0"])
def test_run_id_that_is_not_a_label_is_refused(store: RunStore, run_id: str) -> None:
    with pytest.raises(InvalidRunId, match="must have 1 to 63 characters"):
        store.run(run_id)


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("", "must name a file"),
        (".", "must name a file"),
        ("./", "must name a file"),
        ("a/", "must name a file"),
        ("a/.", "must name a file"),
        ("a\0b", "must name a file"),
        ("/etc/passwd", "must be relative"),
        ("C:\\x.zip", "must be relative"),
        ("C:x.zip", "must be relative"),
        ("a\\..\\b", "must be relative"),
        ("../x.zip", "must not contain '..'"),
        ("a/../../x.zip", "must not contain '..'"),
        ("runs/cartpole-1/models/latest", "must not be in the folder 'runs'"),
        ("./runs/x", "must not be in the folder 'runs'"),
        ("Runs/x", "must not be in the folder 'runs'"),
        ("runs", "must not be in the folder 'runs'"),
    ],
)
def test_output_path_refused_names_the_rule(store: RunStore, path: str, rule: str) -> None:
    with pytest.raises(OutsideRoot) as caught:
        store.resolve_output(path)
    assert rule in caught.value.rule


def test_output_path_through_links_is_checked_by_its_target(store: RunStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (store.models_dir / "inside").mkdir(parents=True)
    (store.models_dir / "out").symlink_to(outside)
    (store.models_dir / "file.zip").symlink_to(outside / "file.zip")
    (store.models_dir / "in").symlink_to("inside")
    (store.models_dir / "own").symlink_to("runs")
    (store.models_dir / "loop").symlink_to("loop")
    for path in ("out/x.zip", "file.zip", "out", "loop/x"):
        with pytest.raises(OutsideRoot):
            store.resolve_output(path)
    with pytest.raises(OutsideRoot, match="'runs'"):
        store.resolve_output("own/x.zip")
    assert store.resolve_output("in/x.zip") == (store.models_dir / "inside" / "x.zip").resolve()
    with pytest.raises(OutsideRoot, match="is a folder"):
        store.resolve_output("inside")


def test_loop_of_links_is_refused_where_resolving_it_raises_nothing(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "resolve", lambda path: Path(os.path.realpath(path)))  # as from Python 3.13
    store.models_dir.mkdir(parents=True)
    (store.models_dir / "loop").symlink_to("loop")
    for path in ("loop", "loop/x"):
        with pytest.raises(OutsideRoot, match="its links are a loop"):
            store.resolve_output(path)


def test_output_written_makes_folders_and_replaces(store: RunStore, run: RunFolder, tmp_path: Path) -> None:
    writer = run.claim(1)
    (tmp_path / "final.zip").write_bytes(b"zip")
    assert writer.write_output("./a/b/my_model.zip", tmp_path / "final.zip") == store.models_dir / "a/b/my_model.zip"
    writer.write_output("a/b/my_model.zip", b"newer")
    assert [path.name for path in (store.models_dir / "a" / "b").iterdir()] == ["my_model.zip"]
    assert (store.models_dir / "a/b/my_model.zip").read_bytes() == b"newer"


def test_output_folder_turned_into_a_link_meanwhile_is_refused(
    store: RunStore, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    writer = run.claim(1)
    mkdir = Path.mkdir

    def mkdir_a_link(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        if path.name == "a":
            path.symlink_to(outside)
        else:
            mkdir(path, mode, parents, exist_ok)

    monkeypatch.setattr(Path, "mkdir", mkdir_a_link)
    with pytest.raises(OutsideRoot):
        writer.write_output("a/x.zip", b"x")
    assert list(outside.iterdir()) == []


def test_output_path_in_the_folder_of_checkpoints_is_refused(tmp_path: Path) -> None:
    store = RunStore(tmp_path, tmp_path / "saved")
    with pytest.raises(OutsideRoot, match="must not be in CHECKPOINT_DIR"):
        store.resolve_output("saved/runs/other-run/checkpoints/100/model.zip")
    assert store.resolve_output("saved.zip") == tmp_path.resolve() / "saved.zip"
