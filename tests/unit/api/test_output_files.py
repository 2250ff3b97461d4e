"""Who may write over the final model of a run that has ended, also when that run has been deleted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from aisandbox_access import OWNER_ANNOTATION
from aisandbox_api.errors import AttemptOver, FailedPrecondition
from aisandbox_api.output_files import OutputFiles
from aisandbox_crds import Algorithm, TrainingRun, TrainingRunSpec
from aisandbox_model_store import DiskFull, OutputRecord, RunStore, written_by

SPEC = TrainingRunSpec(Algorithm.PPO, 100, model_output_path="team/walker")


def run_of(owner: str, name: str = "second") -> TrainingRun:
    return TrainingRun(name, SPEC, annotations={OWNER_ANNOTATION: owner} if owner else {})


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path)


def write(store: RunStore, run: TrainingRun) -> None:
    store.run(run.name).claim(1).prepare_output(run.name.encode())
    OutputFiles(store, asks=True).publish(run, 1)


async def start(store: RunStore, run: TrainingRun, overwrite: str = "owner", *, asks: bool = True) -> None:
    async def is_root(record: OutputRecord) -> bool:
        return run.annotations.get(OWNER_ANNOTATION) == "root"

    await OutputFiles(store, overwrite, asks=asks).check_start(run, is_root)


@pytest.mark.parametrize(
    ("owner", "overwrite", "asks", "refusal"),
    [
        ("alice", "owner", True, ""),
        ("root", "owner", True, ""),
        ("bob", "owner", True, "of a run of another owner"),
        ("", "owner", True, "of a run of another owner"),
        ("bob", "owner", False, ""),
        ("alice", "never", True, "of the run 'first'"),
        ("alice", "never", False, "of the run 'first'"),
        ("root", "never", True, "of another run"),
    ],
)
async def test_start_that_would_write_over_a_file_is_refused_with_whose_it_is(
    store: RunStore, owner: str, overwrite: str, asks: bool, refusal: str
) -> None:
    write(store, run_of("alice", "first"))
    if not refusal:
        return await start(store, run_of(owner), overwrite, asks=asks)
    with pytest.raises(FailedPrecondition, match=rf"model_output_path: 'team/walker' is the output {refusal}"):
        await start(store, run_of(owner), overwrite, asks=asks)
    (store.models_dir / "team" / "walker.zip").unlink()
    return await start(store, run_of(owner), overwrite, asks=asks)


async def test_file_of_users_is_kept_only_if_nothing_is_overwritten(store: RunStore) -> None:
    (store.models_dir / "team").mkdir()
    (store.models_dir / "team" / "walker.zip").write_bytes(b"own")
    await start(store, run_of("bob"))
    with pytest.raises(FailedPrecondition, match="is a file that no run has written"):
        await start(store, run_of("bob"), "never")


def test_run_itself_may_write_its_file_again(store: RunStore) -> None:
    write(store, first := run_of("alice", "first"))
    OutputFiles(store, "never", asks=True).publish(first, 1)
    store.run("first").claim(2).prepare_output(b"again")
    OutputFiles(store, "never", asks=True).publish(first, 2)
    assert (store.models_dir / "team" / "walker.zip").read_bytes() == b"again"


def test_run_that_was_made_with_kubectl_does_not_write_over_the_file_of_an_owner(store: RunStore) -> None:
    write(store, run_of("alice", "first"))
    outputs = OutputFiles(store, asks=True)
    with pytest.raises(FailedPrecondition, match="of another owner"):
        outputs.check(run_of(""))
    store.run("second").claim(1).prepare_output(b"second")
    with pytest.raises(FailedPrecondition, match="of another owner"):
        outputs.publish(run_of(""), 1)
    assert (store.models_dir / "team" / "walker.zip").read_bytes() == b"first"
    found = written_by(store, "team/walker.zip")
    assert found is not None
    assert (found.run, found.owner) == ("first", "alice")


def test_attempt_that_was_replaced_writes_nothing(store: RunStore) -> None:
    store.run("second").claim(1).prepare_output(b"old")
    store.run("second").claim(2)
    with pytest.raises(AttemptOver):
        OutputFiles(store).publish(run_of("alice"), 1)


def test_run_without_a_prepared_file_is_told_so(store: RunStore) -> None:
    store.run("second").claim(1)
    with pytest.raises(FailedPrecondition, match="has prepared no file"):
        OutputFiles(store).publish(run_of("alice"), 1)
    OutputFiles(store).check(replace(run_of(""), spec=replace(SPEC, model_output_path="")))


def test_file_whose_record_found_no_space_is_written_once_there_is_some(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, outputs = run_of("alice"), OutputFiles(store, "never")
    store.run("second").claim(1).prepare_output(b"model")

    def refuse(path: Path, _data: bytes) -> None:
        raise DiskFull(path)

    with monkeypatch.context() as patch:
        patch.setattr("aisandbox_model_store.outputs.write_atomically", refuse)
        with pytest.raises(DiskFull):
            outputs.publish(run, 1)
    outputs.publish(run, 1)
    assert (store.models_dir / "team" / "walker.zip").read_bytes() == b"model"
