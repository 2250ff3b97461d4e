"""Child processes that end with their parent. The children run a script instead of ``aisandbox_cli``."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from aisandbox_cli.errors import Failed
from aisandbox_cli.processes import Children

SERVER = """
import signal, sys, threading
from aisandbox_cli.processes import stop_when_stdin_ends, terminate
def stop(*_):
    open({mark!r}, "w").write("stopped gracefully")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
stop_when_stdin_ends(terminate)
print('{{"address": "127.0.0.1:1"}}', flush=True)
while True:
    threading.Event().wait()
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the children run."""
    package = tmp_path / "fake"
    package.mkdir()
    main = package / "main.py"
    popen = subprocess.Popen

    def start(arguments: list[str], **options: object) -> object:
        return popen([sys.executable, str(main)], **options)  # type: ignore[call-overload]

    monkeypatch.setattr("aisandbox_cli.processes.subprocess.Popen", start)
    return main


def test_children_are_stopped_gracefully_with_the_context(script: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script.write_text(SERVER.format(mark=str(mark)))
    with Children(tmp_path) as children:
        child = children.start("up")
        assert child.wait_until_ready() == {"address": "127.0.0.1:1"}
        child.check_alive()
    assert mark.read_text() == "stopped gracefully"
    with pytest.raises(Failed, match="up ended with exit code 0"):
        child.check_alive()


def test_children_are_stopped_when_the_command_fails(script: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script.write_text(SERVER.format(mark=str(mark)))

    def command() -> None:
        with Children(tmp_path) as children:
            children.start("up").wait_until_ready()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        command()
    assert mark.read_text() == "stopped gracefully"


def test_child_that_does_not_start_raises_with_the_end_of_its_log(script: Path, tmp_path: Path) -> None:
    script.write_text("import sys; sys.exit('port 50051 is in use')")
    with Children(tmp_path) as children, pytest.raises(Failed, match="up did not start: port 50051 is in use"):
        children.start("up").wait_until_ready()


def test_child_that_prints_nothing_times_out(script: Path, tmp_path: Path) -> None:
    script.write_text("import time; time.sleep(60)")
    with Children(tmp_path) as children:
        child = children.start("up")
        with pytest.raises(Failed, match="did not start"):
            child.wait_until_ready(timeout=0.2)
        child.stop(timeout=0.2)
        with pytest.raises(Failed, match="ended with"):
            child.check_alive()


def test_child_stops_when_its_parent_is_killed(tmp_path: Path) -> None:
    """The parent cannot clean up; the closed pipe is the only signal."""
    mark = tmp_path / "mark"
    child = tmp_path / "child.py"
    child.write_text(SERVER.format(mark=str(mark)))
    parent = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, {str(child)!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print("started", flush=True)
child.wait()
"""
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"started"
    process.kill()
    process.wait(10)
    process.stdout.close()
    deadline = time.monotonic() + 10
    while not (mark.exists() and mark.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert mark.read_text() == "stopped gracefully"
