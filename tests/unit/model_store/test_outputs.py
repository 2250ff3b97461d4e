"""Final models outside of runs' folders: moved there by who owns the volume, with a record of who has written them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aisandbox_model_store import (
    Damaged,
    DiskFull,
    OutputRecord,
    OutsideRoot,
    RunFolder,
    RunStore,
    publish_output,
    written_by,
)

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


class Killed(BaseException):
    """The end of the process: nothing catches it, and nothing is cleaned up after it."""


def fail(monkeypatch: pytest.MonkeyPatch, step: str, error: Callable[[], BaseException]) -> None:
    """The next call of ``step`` of a publication fails."""
    module = "aisandbox_model_store.outputs"

    def failing(*_: object) -> None:
        raise error()

    name = {"record": "write_atomically", "move": "os.replace", "flush": "sync_folder"}[step]
    if step != "move":
        monkeypatch.setattr(f"{module}.{name}", failing)
        return
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: failing() if Path(b).name == "walker.zip" else real(a, b))


@pytest.mark.parametrize("step", ["record", "move", "flush"])
@pytest.mark.parametrize(
    "error",
    [Killed, lambda: PermissionError(13, "denied"), lambda: DiskFull(Path("models"))],
    ids=["kill", "13", "full"],
)
def test_file_is_moved_by_the_next_call_whatever_ended_the_one_before(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, step: str, error: Callable[[], BaseException]
) -> None:
    prepare(store)
    for _ in range(2):
        with monkeypatch.context() as patch:
            fail(patch, step, error)
            with pytest.raises(type(error())):
                publish_output(store, PATH, record())
        found = store.models_dir / PATH
        assert not found.exists() or written_by(store, PATH) == record(), "no file without a record"
    publish_output(store, PATH, record())
    assert found.read_bytes() == b"model"
    assert written_by(store, PATH) == record()
    assert [each.suffix for each in (store.models_dir / "runs" / ".outputs").iterdir()] == [".json"]


@pytest.mark.parametrize("step", ["record", "move", "flush"])
def test_call_during_another_one_of_the_run_succeeds(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    prepare(store)
    outcomes: list[Path] = []

    def second() -> BaseException:
        patch.undo()
        outcomes.append(publish_output(store, PATH, record()))
        return FileNotFoundError(2, "moved by the other call")

    with monkeypatch.context() as patch:
        fail(patch, step, second)
        if step == "flush":
            with pytest.raises(FileNotFoundError):
                publish_output(store, PATH, record())
        else:
            outcomes.append(publish_output(store, PATH, record()))
    assert set(outcomes) == {store.models_dir / PATH}
    assert outcomes[0].read_bytes() == b"model"


def test_newer_file_of_the_run_replaces_what_was_taken_before(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(store, b"old")
    with monkeypatch.context() as patch:
        fail(patch, "move", Killed)
        with pytest.raises(Killed):
            publish_output(store, PATH, record())
    prepare(store, b"new")
    assert publish_output(store, PATH, record()).read_bytes() == b"new"


def test_file_that_nobody_asks_for_any_more_is_removed(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(store)
    with monkeypatch.context() as patch:
        fail(patch, "move", Killed)
        with pytest.raises(Killed):
            publish_output(store, PATH, record())
    other = record("cartpole-2")
    prepare(store, run="cartpole-2")
    taken = set((store.models_dir / "runs" / ".outputs").glob(".tmp-*"))
    publish_output(store, PATH, other)
    assert set((store.models_dir / "runs" / ".outputs").glob(".tmp-*")) == taken
    publish_output(store, PATH, other, lambda: time.time() + 100_000)
    assert set((store.models_dir / "runs" / ".outputs").glob(".tmp-*")) == set()


def test_spellings_of_one_file_have_one_record_only_where_case_is_ignored(store: RunStore) -> None:
    prepare(store)
    publish_output(store, "Team/W.zip", record())
    users = store.models_dir / "team" / "w.zip"
    users.parent.mkdir()
    users.write_bytes(b"on a file system that ignores case this is Team/W.zip")
    assert written_by(store, "team/w.zip") is None
    (store.models_dir / "RUNS").symlink_to("runs")  # as if it were one
    prepare(store)
    publish_output(store, "Team/W.zip", record(owner="bob"))
    assert written_by(store, "team/w.zip") == written_by(store, "Team/W.zip") == record(owner="bob")
