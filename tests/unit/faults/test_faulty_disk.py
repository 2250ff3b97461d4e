"""The disk with planned faults, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from faulty_disk import Plan, operations

SUPPORT = Path(__file__).parents[2] / "support"
PROGRAM = """
import os, shutil, sys
from pathlib import Path
import faulty_disk
os.setpgid(0, 0)
faulty_disk.install()
root = Path(sys.argv[1])
(root / "a").mkdir()
with (root / "a" / "file").open("wb") as file:
    file.write(b"0123456789")
    file.flush()
    os.fsync(file.fileno())
(root / "a" / "text").write_text("hello")
shutil.copyfile(root / "a" / "text", root / "copy")
os.replace(root / "copy", root / "a" / "copy")
shutil.rmtree(root / "a")
(root / "logs").mkdir()
(root / "logs" / "x").write_text("not counted")
"""
KINDS = ["mkdir", "open", "write", "fsync", "open", "write", "open", "write", "write", "rename"]
"""The copy is written in two calls, of which the second finds that nothing is left."""
FALLS_BACK = 7
"""Where shutil copies in another way."""


def run(folder: Path, **plan: Any) -> subprocess.CompletedProcess[str]:
    (folder / "root").mkdir()
    planned = Plan(root=str(folder / "root"), log=str(folder / "log"), **plan)
    environ = {**os.environ, "PYTHONPATH": str(SUPPORT), **planned.to_environ()}
    command = [sys.executable, "-c", PROGRAM, str(folder / "root")]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)


def test_every_change_is_counted_and_done(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    seen = [operation.kind for operation in operations(tmp_path / "log") if "/logs" not in operation.path]
    assert seen[: len(KINDS)] == KINDS
    assert sorted(seen[len(KINDS) :]) == ["rmdir", "unlink", "unlink", "unlink"]
    assert (tmp_path / "root" / "logs" / "x").exists()
    assert not (tmp_path / "root" / "a").exists()


@pytest.mark.parametrize(("when", "held"), [("before", b""), ("torn", b"01234"), ("after", b"0123456789")])
def test_process_is_killed_around_a_write(tmp_path: Path, when: str, held: bytes) -> None:
    assert run(tmp_path, at=2, when=when).returncode == -signal.SIGKILL
    assert (tmp_path / "root" / "a" / "file").read_bytes() == held


@pytest.mark.parametrize("at", [at for at in range(len(KINDS)) if at != FALLS_BACK])
def test_call_fails_as_the_disk_would(tmp_path: Path, at: int) -> None:
    done = run(tmp_path, at=at, action="EIO")
    assert done.returncode == 1
    assert "[Errno 5] Input/output error" in done.stderr


def test_full_disk_lets_what_is_there_be_removed(tmp_path: Path) -> None:
    done = run(tmp_path, at=len(KINDS), action="ENOSPC", times=1000)
    assert not (tmp_path / "root" / "a").exists()
    assert done.stderr.strip().endswith(f"No space left on device: '{tmp_path / 'root' / 'logs'}'")
