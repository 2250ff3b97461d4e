"""What a run learns from: the bytes that are read are those whose digest is recorded."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from aisandbox_crds import DemonstrationSettings, StartFrom
from aisandbox_environment import make_spec
from aisandbox_model_store import RunStore, StartingPoint, starting_points
from aisandbox_trainer.checkpoints.weights import read_zip
from aisandbox_trainer.errors import CannotStartFrom, InvalidDemonstrations, StopRequested
from aisandbox_trainer.run import source
from aisandbox_trainer.run.source import find_demonstrations, find_source, read_source
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_wire import box, discrete
from demonstration_files import write_demonstrations

SPEC = make_spec(box((2,)), discrete(2))
LARGEST = 1 << 20


def test_file_that_replaces_another_after_its_digest_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_demonstrations(tmp_path / "a.parquet", SPEC, lambda leaves: 0, (3,))
    other = write_demonstrations(tmp_path / "b.parquet", SPEC, lambda leaves: 0, (5,))
    digest = f"sha256:{hashlib.sha256(first.read_bytes()).hexdigest()}"
    recorded: list[bytes] = []

    def found(*fields: Any) -> StartingPoint:
        os.replace(other, first)
        return StartingPoint(*fields)

    monkeypatch.setattr(starting_points, "StartingPoint", found)
    writer: Any = SimpleNamespace(
        run=SimpleNamespace(demonstrations_path=tmp_path / "none"), record_demonstrations=recorded.append
    )
    file = find_demonstrations(RunStore(tmp_path, tmp_path), DemonstrationSettings("a.parquet"), writer, lambda: None)
    assert json.loads(recorded[0])["digest"] == digest
    assert file.steps == 3


def test_file_that_a_run_starts_from_is_read_as_it_was_found(tmp_path: Path) -> None:
    path: Path = tmp_path / "a.zip"
    recorded: list[Any] = []
    save_weights(path, 1.0)
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    writer: Any = SimpleNamespace(
        run=SimpleNamespace(source_path=tmp_path / "none"), record_source=lambda data: recorded.append(json.loads(data))
    )

    found = find_source(RunStore(tmp_path, tmp_path), StartFrom(zip="a.zip"), writer, lambda: None)
    assert recorded[0]["digest"] == digest
    os.utime(path, (1, 1))
    assert float(read_source(found, (), LARGEST, ()).weights.policy["weight"]) == 1.0, "only its time has changed"
    for change in (lambda: save_weights(path, 2.0), lambda: path.write_bytes(b"no zip")):
        change()
        with pytest.raises(CannotStartFrom, match=r"'a\.zip' cannot be used: it was changed while the run began"):
            read_source(found, (), LARGEST, ())
    path.unlink()
    with pytest.raises(CannotStartFrom, match=r"the file 'a\.zip' was deleted: it must stay"):
        read_source(found, (), LARGEST, ())


def test_file_that_is_written_to_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.zip"
    save_weights(path, 1.0)
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    times = path.stat()

    def change_and_read(*arguments: Any) -> Any:
        save_weights(path, 2.0)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        return read_zip(*arguments)

    monkeypatch.setattr(source, "read_zip", change_and_read)
    found = StartingPoint("the file 'a.zip'", path, "a.zip", 0, digest)
    with pytest.raises(CannotStartFrom, match="it was changed while the run began"):
        read_source(found, (), LARGEST, ())


def save_weights(path: Path, weight: float) -> None:
    data = io.BytesIO()
    torch.save({"weight": torch.tensor(weight)}, data)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("policy.pth", data.getvalue())


def test_stop_is_followed_while_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(bytes(3 << 20))
    writer: Any = SimpleNamespace(
        run=SimpleNamespace(demonstrations_path=tmp_path / "none", source_path=tmp_path / "none")
    )
    store, stop = RunStore(tmp_path, tmp_path), Stop()
    stop.request()
    with pytest.raises(StopRequested):
        find_source(store, StartFrom(zip="a.zip"), writer, stop.check)
    with pytest.raises(StopRequested):
        find_demonstrations(store, DemonstrationSettings("a.zip"), writer, stop.check)


def test_path_below_a_file_is_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"0")
    writer: Any = SimpleNamespace(
        run=SimpleNamespace(demonstrations_path=tmp_path / "none", source_path=tmp_path / "none")
    )
    store = RunStore(tmp_path, tmp_path)
    with pytest.raises(CannotStartFrom, match="is not in MODELS_DIR"):
        find_source(store, StartFrom(zip="a.zip/b.zip"), writer, lambda: None)
    with pytest.raises(InvalidDemonstrations, match="is not in MODELS_DIR"):
        find_demonstrations(store, DemonstrationSettings("a.zip/b"), writer, lambda: None)
