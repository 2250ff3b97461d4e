"""Publishing, selecting and retaining."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest
from aisandbox_model_store import (
    InvalidArtifact,
    InvalidSelector,
    ModelNotFound,
    RunFolder,
    RunNotFound,
    RunStore,
    write_atomically,
)


def model_files(text: str) -> dict[str, bytes]:
    return {"policy.onnx": text.encode(), "metadata.json": b"{}"}


def checkpoint(folder: Path) -> None:
    (folder / "model.zip").write_bytes(b"zip")
    (folder / "state.pkl").write_bytes(b"state")


def test_model_published_reads_back_with_its_digest(run: RunFolder) -> None:
    writer = run.claim(1)
    published = writer.publish_model(20_000, model_files("a"), {"reason": "interval"})
    writer.point("latest", published, reward_mean=12.5)

    found = run.model("latest")
    assert found == published
    assert found.path == run.models_path / "20000"
    assert found.relative == "models/20000"
    assert found.digest == "sha256:" + hashlib.sha256((found.path / "manifest.json").read_bytes()).hexdigest()
    assert found.manifest.details == {"reason": "interval"}
    assert run.read_model(found).files == model_files("a")
    pointer = run.pointer("latest")
    assert pointer is not None
    assert (pointer.folder, pointer.reward_mean) == ("20000", 12.5)


def test_published_checkpoint_is_below_checkpoint_dir(run: RunFolder, store: RunStore) -> None:
    published = run.claim(1).publish_checkpoint(500, checkpoint)
    assert published.path == store.checkpoint_dir / "runs" / "cartpole-1" / "checkpoints" / "500"
    assert run.newest_checkpoint() == published
    assert sorted(os.listdir(published.path)) == ["manifest.json", "model.zip", "state.pkl"]


def test_checkpoint_dir_defaults_to_models_dir(tmp_path: Path) -> None:
    published = RunStore(tmp_path).run("r").claim(0).publish_checkpoint(5, checkpoint)
    assert published.path == tmp_path / "runs" / "r" / "checkpoints" / "5"


@pytest.mark.parametrize("selector", ["", "latest", "best", "final", "step:200"])
def test_selector_names_the_published_model(run: RunFolder, selector: str) -> None:
    writer = run.claim(1)
    for step in (100, 200, 300):
        published = writer.publish_model(step, model_files(str(step)))
        if step == 200:
            for name in ("latest", "best", "final"):
                writer.point(name, published)
    assert run.model(selector).timesteps == 200
    assert run.model(run.model("step:100").digest).timesteps == 100


def test_models_listed_newest_first_by_number(run: RunFolder) -> None:
    writer = run.claim(1)
    for step in (900, 10_000, 0):
        writer.publish_model(step, model_files(str(step)))
        writer.publish_checkpoint(step, checkpoint)
    assert [m.timesteps for m in run.models()] == [10_000, 900, 0]
    assert [c.timesteps for c in run.checkpoints()] == [10_000, 900, 0]


@pytest.mark.parametrize(
    "selector", ["newest", "step:", "step:-1", "step:1e4", "sha256:12", "../latest", "step:" + "9" * 19]
)
def test_selector_refused_names_the_rule(run: RunFolder, selector: str) -> None:
    run.claim(1)
    with pytest.raises(InvalidSelector, match=r"step:N or sha256:"):
        run.model(selector)


def test_model_missing_says_what_is_missing(run: RunFolder) -> None:
    for _ in ("no folder", "an empty one, which a pod mounts for it"):
        with pytest.raises(RunNotFound, match="cartpole-1"):
            run.model("latest")
        with pytest.raises(RunNotFound):
            run.checkpoint("latest")
        run.path.mkdir(parents=True, exist_ok=True)
    writer = run.claim(1)
    with pytest.raises(ModelNotFound, match="no model is published yet"):
        run.model("")
    writer.point("latest", writer.publish_model(7, model_files("a")))
    with pytest.raises(ModelNotFound, match="when the run succeeds"):
        run.model("final")
    with pytest.raises(ModelNotFound, match="models of the steps 7"):
        run.model("step:8")


def test_step_published_again_with_equal_files_is_kept(run: RunFolder) -> None:
    first = run.claim(1).publish_model(100, model_files("a"))
    again = run.claim(2).publish_model(100, model_files("a"))
    assert again == first
    assert [m.relative for m in run.models()] == ["models/100"]
    assert [name for name in os.listdir(run.models_path) if name.startswith(".")] == []


def test_step_published_again_with_other_files_leaves_the_first_readable(run: RunFolder) -> None:
    writer = run.claim(1)
    first = writer.publish_model(100, model_files("a"))
    writer.point("latest", first)
    second = run.claim(2).publish_model(100, model_files("b"))
    third = run.claim(3).publish_model(100, model_files("c"))

    assert [m.relative for m in run.models()] == ["models/100.3", "models/100.2", "models/100"]
    assert run.model("latest") == first
    assert run.model("step:100") == third
    assert run.read_model(run.model(second.digest)).files["policy.onnx"] == b"b"


def test_step_published_again_over_a_damaged_one_is_intact(run: RunFolder) -> None:
    first = run.claim(1).publish_checkpoint(100, checkpoint)
    (first.path / "model.zip").write_bytes(b"zIp")
    second = run.claim(2).publish_checkpoint(100, checkpoint)
    assert second.path != first.path
    assert run.newest_checkpoint() == second


def test_retained_models_include_those_with_a_pointer(run: RunFolder) -> None:
    writer = run.claim(1)
    models = [writer.publish_model(step, model_files(str(step))) for step in (1, 2, 3, 4, 5)]
    writer.point("best", models[1])
    writer.point("latest", models[4])
    assert writer.retain_models(2) == ["models/3", "models/1"]
    assert [m.timesteps for m in run.models()] == [5, 4, 2]
    assert sorted(os.listdir(run.models_path)) == ["2", "4", "5", "best", "latest"]


def test_retained_checkpoints_are_the_newest(run: RunFolder) -> None:
    writer = run.claim(1)
    *_, newest = [writer.publish_checkpoint(step, checkpoint) for step in (8, 9, 10)]
    assert writer.retain_checkpoints(2, newest) == ["checkpoints/8"]
    with pytest.raises(ValueError, match="keep: must be at least 1"):
        writer.retain_checkpoints(0, newest)
    assert sorted(os.listdir(run.checkpoints_path)) == ["10", "9"]


def test_checkpoint_just_published_is_kept_whatever_comes_after_it(run: RunFolder) -> None:
    writer = run.claim(1)
    for step in (300, 500, 600, 700, 800):
        writer.publish_checkpoint(step, checkpoint)
    # An attempt continued from 500: what comes after it is damaged and could not be renamed.
    again = writer.publish_checkpoint(550, checkpoint)
    assert writer.retain_checkpoints(2, again) == ["checkpoints/300"]
    assert [each.timesteps for each in run.checkpoints()] == [800, 700, 600, 550, 500]


def test_artifact_that_is_not_a_flat_folder_is_refused(run: RunFolder) -> None:
    writer = run.claim(1)

    def nested(folder: Path) -> None:
        (folder / "inner").mkdir()

    def linked(folder: Path) -> None:
        (folder / "model.zip").symlink_to("/etc/hostname")

    def empty(folder: Path) -> None:
        del folder

    for write in (nested, linked, empty):
        with pytest.raises(InvalidArtifact):
            writer.publish_checkpoint(1, write)
    with pytest.raises(InvalidArtifact, match=r"\.\./x"):
        writer.publish_model(1, {"../x": b""})
    with pytest.raises(InvalidArtifact):
        writer.publish_model(1, {"manifest.json": b""})
    with pytest.raises(InvalidArtifact, match="timesteps"):
        writer.publish_model(-1, model_files("a"))
    assert os.listdir(run.checkpoints_path) == []
    assert os.listdir(run.models_path) == []


def test_manifest_names_every_file_and_no_time(run: RunFolder) -> None:
    published = run.claim(1).publish_checkpoint(500, checkpoint)
    document = json.loads((published.path / "manifest.json").read_bytes())
    assert set(document) == {"format", "kind", "timesteps", "details", "files", "checksum"}
    assert document["files"]["model.zip"] == {"size": 3, "sha256": hashlib.sha256(b"zip").hexdigest()}


def test_published_files_are_readable_by_other_users(run: RunFolder) -> None:
    before = os.umask(0o022)
    try:
        writer = run.claim(1)
        published = writer.publish_model(1, model_files("a"))
        writer.point("latest", published)
        write_atomically(run.record_path, b"{}")
    finally:
        os.umask(before)
    for path in (
        published.path / "manifest.json",
        published.path / "policy.onnx",
        run.models_path / "latest",
        run.record_path,
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(published.path.stat().st_mode) == 0o755


def test_run_ids_are_those_with_folders(store: RunStore) -> None:
    assert store.run_ids() == []
    store.run("b").claim(1)
    store.run("a").claim(1)
    (store.models_dir / "runs" / "Not A Run").mkdir()
    assert store.run_ids() == ["a", "b"]


def test_write_atomically_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_atomically(tmp_path / "x.json", b"one")
    write_atomically(tmp_path / "x.json", b"two")
    assert (tmp_path / "x.json").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["x.json"]
