from __future__ import annotations

import os
from pathlib import Path

import pytest
from aisandbox_model_store import Damaged, RunStore, open_regular, read_regular

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
    with pytest.raises(Damaged, match="no regular file"):
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
    assert name in reasons[0] or "is no regular file" in reasons[0]
