"""`aisandbox demo`, and that it stops its processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def _start(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "aisandbox_cli", "demo", "--dir", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _children(output: str) -> list[int]:
    return [int(number) for number in re.findall(r"\(process (\d+)\)", output)]


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_demo_that_did_not_learn_fails_with_a_message(tmp_path: Path) -> None:
    demo = _start(tmp_path, "--timesteps", "256", "--episodes", "2")
    output, _ = demo.communicate(timeout=150)
    assert demo.returncode == 1, output
    assert re.search(r"mean return [\d.]+ of 500 over 2 episodes", output)
    assert "the policy did not learn" in output
    assert list((tmp_path / "models" / "runs").glob("demo-*/models/final"))
    assert len(_children(output)) == 2
    assert all(_gone(pid) for pid in _children(output))


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_interrupted_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    demo = _start(tmp_path)
    assert demo.stdout is not None
    output = ""
    for line in demo.stdout:
        output += line
        if "Running" in line:
            break
    demo.send_signal(signal.SIGINT)
    output += demo.communicate(timeout=60)[0]
    assert demo.returncode == 130, output
    assert "Stopped" in output
    assert len(_children(output)) == 2
    assert all(_gone(pid) for pid in _children(output))


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_killed_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    demo = _start(tmp_path)
    assert demo.stdout is not None
    output = ""
    for line in demo.stdout:
        output += line
        if "Running" in line:
            break
    demo.kill()
    demo.wait(10)
    demo.stdout.close()
    assert len(_children(output)) == 2
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not all(_gone(pid) for pid in _children(output)):
        time.sleep(0.1)
    assert all(_gone(pid) for pid in _children(output))


def test_demo_reports_a_folder_that_it_cannot_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    demo = _start(tmp_path / "file" / "folder")
    output, _ = demo.communicate(timeout=30)
    assert demo.returncode == 1
    assert output.startswith("error: --dir ")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_demo_learns_to_balance_the_pole(tmp_path: Path) -> None:
    demo = _start(tmp_path)
    output, _ = demo.communicate(timeout=580)
    assert demo.returncode == 0, output
    assert re.search(r"mean return (4[789]\d|500)[\d.]* of 500 over 20 episodes", output)
