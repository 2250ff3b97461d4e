"""A full disk leaves no half folder and nothing lost."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from aisandbox_model_store import DiskFull, RunFolder, Writer, write_atomically

needs_dev_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")


def good_checkpoint(folder: Path) -> None:
    (folder / "model.zip").write_bytes(b"good")


@needs_dev_full
def test_checkpoint_on_a_full_disk_leaves_the_older_one(run: RunFolder) -> None:
    writer = run.claim(1)
    good = writer.publish_checkpoint(100, good_checkpoint)

    def write(folder: Path) -> None:
        (folder / "model.zip").write_bytes(b"half")
        Path("/dev/full").write_bytes(b"x")

    with pytest.raises(DiskFull, match="no space left") as caught:
        writer.publish_checkpoint(200, write)
    assert caught.value.path == run.checkpoints_path
    assert isinstance(caught.value.__cause__, OSError)
    assert os.listdir(run.checkpoints_path) == ["100"]
    assert run.newest_checkpoint() == good


CALLS: list[Callable[[Writer], object]] = [
    lambda writer: writer.publish_model(200, {"policy.onnx": b"x"}),
    lambda writer: writer.publish_checkpoint(200, good_checkpoint),
    lambda writer: writer.point("latest", writer.run.models()[0]),
    lambda writer: writer.write_output("out.zip", b"x"),
    lambda writer: write_atomically(writer.run.record_path, b"x"),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_disk_full_at_the_flush_leaves_nothing(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[Writer], object], code: int
) -> None:
    writer = run.claim(1)
    writer.publish_model(100, {"policy.onnx": b"a"})

    def full(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull):
        call(writer)
    assert sorted(tmp_path.rglob("*")) == before


def test_error_of_the_writing_library_on_a_full_disk_is_named(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = run.claim(1)

    def write(folder: Path) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    with pytest.raises(RuntimeError):
        writer.publish_checkpoint(200, write)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
    with pytest.raises(DiskFull):
        writer.publish_checkpoint(200, write)
    assert os.listdir(run.checkpoints_path) == []


def test_other_errors_are_passed_on_and_leave_nothing(run: RunFolder) -> None:
    def write(folder: Path) -> None:
        (folder / "half").write_bytes(b"x")
        raise PermissionError("no")

    with pytest.raises(PermissionError):
        run.claim(1).publish_checkpoint(200, write)
    assert os.listdir(run.checkpoints_path) == []


def test_disk_is_checked_before_the_temporary_is_removed(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = run.claim(1)
    usage = namedtuple("usage", "total used free")

    def free(path: Path) -> object:
        filled = any(name.startswith(".tmp-") for name in os.listdir(path))
        return usage(1 << 30, 0, 0 if filled else 1 << 29)

    def write(folder: Path) -> None:
        raise RuntimeError("unexpected pos 5120 vs 5012")

    monkeypatch.setattr(shutil, "disk_usage", free)
    with pytest.raises(DiskFull):
        writer.publish_checkpoint(200, write)
