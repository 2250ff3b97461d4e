"""Final models outside of runs' folders: moved there by who owns the volume, with a record of who has written them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from aisandbox_model_store import Damaged, OutputRecord, OutsideRoot, RunFolder, RunStore, publish_output, written_by

PATH = "team/a/walker.zip"


def record(run: str = "cartpole-1", uid: str = "u1", owner: str = "alice") -> OutputRecord:
    return OutputRecord(run, uid, owner, "2026-03-01T12:00:00Z")


def prepare(store: RunStore, data: bytes = b"model", run: str = "cartpole-1") -> None:
    store.run(run).claim(None).prepare_output(data)


def test_file_is_moved_and_recorded_once(store: RunStore, run: RunFolder) -> None:
    prepare(store)
    assert written_by(store, PATH) is None
    path = publish_output(store, PATH, record())
    assert path == store.models_dir / PATH
    assert path.read_bytes() == b"model"
    assert written_by(store, PATH) == written_by(store, f"./{PATH}") == record()
    assert publish_output(store, PATH, record()) == path, "a repeated call, as after a lost answer"
    assert not (run.path / "output.zip").exists()
    path.unlink()
    assert written_by(store, PATH) is None
    with pytest.raises(FileNotFoundError):
        publish_output(store, PATH, record())


def test_file_of_another_run_is_not_taken_for_the_own(store: RunStore) -> None:
    prepare(store)
    publish_output(store, PATH, record())
    for other in (record("cartpole-2"), record(uid="u2")):
        with pytest.raises(FileNotFoundError):
            publish_output(store, PATH, other)
    prepare(store, b"newer", "cartpole-2")
    publish_output(store, PATH, record("cartpole-2"))
    assert (store.models_dir / PATH).read_bytes() == b"newer"
    assert written_by(store, PATH) == record("cartpole-2")


@pytest.mark.parametrize("kind", ["a link", "a pipe", "a folder", "a second name"])
def test_what_is_no_file_of_its_own_is_not_moved(store: RunStore, run: RunFolder, tmp_path: Path, kind: str) -> None:
    run.claim(None)
    secret, prepared = tmp_path / "secret", run.path / "output.zip"
    secret.write_bytes(b"secret")
    if kind == "a link":
        prepared.symlink_to(secret)
    elif kind == "a pipe":
        os.mkfifo(prepared)
    elif kind == "a folder":
        prepared.mkdir()
    else:
        os.link(secret, prepared)
    with pytest.raises(Damaged, match=r"output\.zip"):
        publish_output(store, PATH, record())
    assert not (store.models_dir / PATH).exists()
    assert written_by(store, PATH) is None


def test_path_that_leads_out_is_refused(store: RunStore, tmp_path: Path) -> None:
    prepare(store)
    (store.models_dir / "out").symlink_to(tmp_path)
    with pytest.raises(OutsideRoot):
        publish_output(store, "out/walker.zip", record())


def test_record_that_is_damaged_is_none(store: RunStore) -> None:
    prepare(store)
    publish_output(store, PATH, record())
    (one,) = (store.models_dir / "runs" / ".outputs").iterdir()
    for text in ("{", "[]", '{"run": "x"}'):
        one.write_text(text)
        assert written_by(store, PATH) is None
