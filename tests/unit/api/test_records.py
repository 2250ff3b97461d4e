import errno
from dataclasses import replace
from pathlib import Path

import pytest
from aisandbox_api.errors import ModelsDirInUse, ModelsDirNotWritable
from aisandbox_api.local.directory_lock import DirectoryLock
from aisandbox_api.local.records import RecordStore
from aisandbox_crds.trainingrun import TrainingRun
from aisandbox_model_store import DiskFull, RunStore


def test_record_survives_the_trip_to_the_disk(run: TrainingRun, tmp_path: Path) -> None:
    records = RecordStore(RunStore(tmp_path))
    records.write(run)
    assert list(records.load()) == [run]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"apiVersion": "aisandbox.dev/v1alpha1"}', b"\xff\xfe"])
def test_damaged_record_is_renamed_with_its_bytes(run: TrainingRun, tmp_path: Path, damage: bytes) -> None:
    records = RecordStore(RunStore(tmp_path))
    records.write(run)
    records.write(replace(run, name="other"))
    (tmp_path / "runs" / run.name / "trainingrun.json").write_bytes(damage)
    assert [record.name for record in records.load()] == ["other"]
    aside = records.damaged(run.name)
    assert aside is not None
    assert aside.read_bytes() == damage
    assert [record.name for record in records.load()] == ["other"]
    assert records.damaged("other") is None


def test_record_in_the_folder_of_another_run_is_renamed(run: TrainingRun, tmp_path: Path) -> None:
    records = RecordStore(RunStore(tmp_path))
    records.write(run)
    (tmp_path / "runs" / run.name).rename(tmp_path / "runs" / "copy")
    assert list(records.load()) == []
    assert records.damaged("copy") is not None


def test_folder_without_a_record_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "runs" / "only-files").mkdir(parents=True)
    assert list(RecordStore(RunStore(tmp_path)).load()) == []


def test_full_disk_leaves_the_record_as_it_was(
    run: TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = RecordStore(RunStore(tmp_path))
    records.write(run)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskFull):
        records.write(replace(run, uid="new"))
    assert list(records.load()) == [run]


def test_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()  # what even root cannot make a folder of
    with pytest.raises(ModelsDirNotWritable, match=rf"MODELS_DIR {tmp_path} cannot be written to: File exists"):
        DirectoryLock(tmp_path).acquire()


def test_folder_is_locked_until_it_is_released(tmp_path: Path) -> None:
    first, second = DirectoryLock(tmp_path), DirectoryLock(tmp_path)
    first.acquire()
    with pytest.raises(ModelsDirInUse, match=str(tmp_path)):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
