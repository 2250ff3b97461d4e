"""The Tiltfile's own tables and its restart script.

What Tilt checks when it reads the file (workloads, ports, arguments) is left to `tilt up`.
"""

from __future__ import annotations

import ast
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from workspace import ROOT, folders, needed_by

TEXT = (ROOT / "Tiltfile").read_text(encoding="utf-8")
# The signal is blocked: one that came between the handler's last chance and a pause would be waited for again.
PROGRAM = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("old", flush=True)
signal.sigwait({signal.SIGTERM})
print("drained", flush=True)
"""


def _value(name: str) -> Any:
    """A constant of the Tiltfile; Starlark's literals are Python's."""
    (assigned,) = (each for each in ast.parse(TEXT).body if isinstance(each, ast.Assign) and name in ast.dump(each))
    return ast.literal_eval(assigned.value)


def test_tiltfile_builds_each_image_from_the_members_it_needs() -> None:
    images = _value("IMAGES")
    members = {name: f"aisandbox-{name.removesuffix('-server')}" for name in images}
    expected = {
        name: {folders()[each] for each in needed_by(member) & folders().keys()} for name, member in members.items()
    }
    assert {name: set(used) for name, used in images.items()} == expected
    targets = set(
        re.findall(r"^FROM runtime AS (\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert targets == set(images)


def test_tiltfile_starts_the_programs_of_the_images() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    programs = dict(
        re.findall(r'^FROM runtime AS (\S+)\n(?:.*\n)*?ENTRYPOINT \["python", "-m", "(\w+)"\]', text, re.MULTILINE)
    )
    programs.pop("trainer")  # its Job is started with the image's own entry point
    assert _value("SERVERS") == programs


@pytest.mark.skipif(sys.platform == "win32", reason="the script of a container")
@pytest.mark.timeout(60)
def test_restart_script_takes_up_a_changed_file_when_killed_and_ends_with_its_program(tmp_path: Path) -> None:
    (tmp_path / "app" / "__pycache__").mkdir(parents=True)
    program = tmp_path / "app" / "program.py"
    program.write_text(PROGRAM)
    script = _value("RESTART").replace("/dev/shm/", f"{tmp_path}/live-").replace(" /app", f" {tmp_path}/app")
    with subprocess.Popen(
        ["sh", "-c", script, "restart", sys.executable, "-B", "-m", "program"], cwd="/", stdout=-1
    ) as shell:
        try:
            assert shell.stdout is not None
            assert shell.stdout.readline() == b"old\n"
            assert not (tmp_path / "live-app" / "__pycache__").exists()
            (tmp_path / "live-app" / "program.py").write_text(PROGRAM.replace("old", "new"))
            subprocess.run(["sh", "-c", f"kill $(cat {tmp_path}/live-program.pid)"], check=True)
            assert shell.stdout.readline() == b"drained\n"
            assert shell.stdout.readline() == b"new\n"
            shell.send_signal(signal.SIGTERM)
            assert shell.stdout.readline() == b"drained\n"
            assert shell.wait(10) == 0
        finally:
            shell.kill()
