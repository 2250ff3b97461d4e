"""Runs every example as its README says. The constants E2E_* of an example say what it needs and what it prints."""

from __future__ import annotations

import ast
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aisandbox_cli.processes import Children
from waiting import wait_until

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/example.py"))
CONSTANTS = {"E2E_SERVICE": False, "E2E_BEFORE": [], "E2E_WHILE_RUNNING": [], "E2E_OUTPUT": []}


def _constants(example: Path) -> dict[str, Any]:
    """The constants of the example, with defaults for those that it does not have."""
    found = dict(CONSTANTS)
    for node in ast.parse(example.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id.startswith("E2E_"):
            assert target.id in CONSTANTS
            found[target.id] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service."""
    folder = tmp_path_factory.mktemp("service")
    with Children(folder) as children:
        child = children.start("up", "--port", "0", "--models-dir", str(folder / "models"))
        yield str(child.wait_until_ready()["address"])


def _run_command(line: str, environ: dict[str, str]) -> None:
    program, *arguments = shlex.split(line)
    assert program == "aisandbox"
    command = [sys.executable, "-m", "aisandbox_cli", *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("example", EXAMPLES, ids=[path.parent.name for path in EXAMPLES])
def test_example_runs(example: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    constants, port = _constants(example), _free_port()
    environ = {
        **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        "http_proxy": "http://127.0.0.1:1",  # nothing listens there
        "PORT": str(port),
        "GRPC_PORT": str(port),
        "MODELS_DIR": str(tmp_path / "models"),
        "AISANDBOX_ADDRESS": request.getfixturevalue("service") if constants["E2E_SERVICE"] else "127.0.0.1:1",
    }
    for line in constants["E2E_BEFORE"]:
        _run_command(line, environ)
    log = tmp_path / "example.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, str(example)], env=environ, stdout=output, stderr=output, cwd=tmp_path
        )
    try:
        if constants["E2E_WHILE_RUNNING"]:  # a server

            def is_ready() -> bool:
                said = all(re.search(pattern, log.read_text(), re.M) for pattern in constants["E2E_OUTPUT"])
                return said if constants["E2E_SERVICE"] else _listens(port)

            wait_until(lambda: process.poll() is not None or is_ready(), seconds=60, every=0.05)
            for line in constants["E2E_WHILE_RUNNING"]:
                _run_command(line.format(port=port), environ)
            assert process.poll() is None, log.read_text()
        else:
            assert process.wait(120) == 0, log.read_text()
    finally:
        process.terminate()
        process.wait(60)
    assert "onnxruntime" not in log.read_text(), "a warning of ONNX Runtime on the user's console"
    for pattern in constants["E2E_OUTPUT"]:
        assert re.search(pattern, log.read_text(), re.M), f"{pattern!r} is not in: {log.read_text()}"


def test_examples_are_numbered_and_listed() -> None:
    names = [example.parent.name for example in EXAMPLES]
    assert [name[:3] for name in names] == [f"{number:02d}-" for number in range(1, len(names) + 1)]
    index = (EXAMPLES[0].parents[1] / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[([\w-]+)\]", index, re.M) == names
    for example in EXAMPLES:
        assert f"python examples/{example.parent.name}/example.py" in (example.parent / "README.md").read_text("utf-8")
