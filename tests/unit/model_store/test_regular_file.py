from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from aisandbox_model_store import Damaged, ModelNotFound, RunStore, Writer, open_regular, read_regular

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")


@pytest.fixture(params=["pipe", "link", "link to a pipe", "device"])
def trap(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "trap"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "link":
        (tmp_path / "other").write_bytes(b"secret")
        path.symlink_to(tmp_path / "other")
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(tmp_path / "other")
        path.symlink_to(tmp_path / "other")
    return path


def test_what_is_no_regular_file_is_refused_at_once(trap: Path) -> None:
    with pytest.raises(Damaged, match="not a regular file"):
        open_regular(trap)


def test_file_over_its_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Damaged, match="more than 100 bytes"):
        read_regular(path, 100)


def test_missing_file_and_folder_have_their_own_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)


@pytest.mark.parametrize("name", ["uid", "models/latest", "models/100/manifest.json", "models/100/policy.onnx"])
def test_pipe_in_the_place_of_any_file_of_a_run_blocks_no_reader(tmp_path: Path, name: str) -> None:
    run = RunStore(tmp_path).run("r")
    writer = run.claim(1, "u-1")
    writer.point("latest", writer.publish_model(100, {"policy.onnx": b"model"}))
    path = run.path / name
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Damaged):
        _ = run.uid(), run.load_model("latest")
    assert run.checkpoints() == []


@pytest.mark.parametrize("name", ["manifest.json", "state.pkl"])
@pytest.mark.parametrize("kind", ["a pipe", "700 MB"])
def test_what_is_no_checkpoint_blocks_no_trainer(tmp_path: Path, name: str, kind: str) -> None:
    run = RunStore(tmp_path).run("r")
    writer = run.claim(1)
    older = writer.publish_checkpoint(50, lambda folder: (folder / "state.pkl").touch())
    newest = writer.publish_checkpoint(100, lambda folder: (folder / "state.pkl").touch())
    path = newest.path / name
    path.unlink()
    if kind == "a pipe":
        os.mkfifo(path)
    else:
        with open(path, "wb") as file:
            file.truncate(700 << 20)
    reasons: list[str] = []
    assert run.newest_checkpoint(lambda _name, reason: reasons.append(reason)) == older
    assert name in reasons[0] or "is not a regular file" in reasons[0]


def publish(run: str, folder: Path) -> Writer:
    writer = RunStore(folder).run(run).claim(1)
    model = writer.publish_model(100, {"policy.onnx": f"the policy of {run}".encode()})
    writer.point("latest", model)
    writer.publish_weights(model, {"learner.json": b"{}"})
    writer.publish_checkpoint(100, lambda path: (path / "model.zip").touch())
    return writer


@pytest.mark.parametrize("name", ["models", "models/100", "models/100/policy.onnx", "models/100/manifest.json"])
def test_model_of_another_run_behind_a_link_is_not_read(tmp_path: Path, name: str) -> None:
    victim, own = publish("victim", tmp_path).run, publish("mallory", tmp_path).run
    theirs = replace(victim.model("latest"), path=own.path / "models" / "100")
    path = own.path / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(os.path.relpath(victim.path / name, path.parent))
    (own.path / "models" / "latest").write_bytes((victim.path / "models" / "latest").read_bytes())
    for selector in ("latest", "step:100", theirs.digest):
        with pytest.raises((Damaged, ModelNotFound)):
            own.load_model(selector)
    with pytest.raises(Damaged):
        own.read_model(theirs)


def test_pointer_behind_a_link_is_not_read(tmp_path: Path) -> None:
    victim, own = publish("victim", tmp_path).run, publish("mallory", tmp_path).run
    shutil.rmtree(own.path / "models")
    (own.path / "models").symlink_to(victim.path / "models")
    with pytest.raises(Damaged, match="'models' is a link"):
        own.pointer("latest")


@pytest.mark.parametrize("folder", ["weights", "checkpoints", "weights/100", "checkpoints/100"])
def test_weights_and_checkpoints_behind_a_link_are_not_read(tmp_path: Path, folder: str) -> None:
    victim, own = publish("victim", tmp_path).run, publish("mallory", tmp_path).run
    found = victim.checkpoints()[0]
    shutil.rmtree(own.path / folder)
    (own.path / folder).symlink_to(victim.path / folder, target_is_directory=True)
    if folder.startswith("weights"):
        with pytest.raises(ModelNotFound):
            own.weights_of(victim.model("latest"))
        return
    assert own.checkpoints() == []
    with pytest.raises(Damaged, match="is a link"):
        own.verify(replace(found, path=own.path / "checkpoints" / "100"))


def test_folder_of_a_run_may_itself_be_a_link_of_the_administrator(tmp_path: Path) -> None:
    own = publish("walk", tmp_path).run
    own.path.rename(tmp_path / "other-disk")
    own.path.symlink_to(tmp_path / "other-disk", target_is_directory=True)
    assert own.load_model("latest").files == {"policy.onnx": b"the policy of walk"}
    assert len(own.checkpoints()) == 1
