"""The command line without PyTorch, installed by the one command that docs/other-languages.md has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from aisandbox_cli.processes import Children
from members import ROOT

UV = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv/bin/uv")
COMMAND = "uv tool install ./cli"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the command line as `uv tool` has built and installed it, with the lock file's versions."""
    if not Path(UV).exists():
        pytest.skip("uv is not installed here")
    folder = tmp_path_factory.mktemp("light")
    environ = os.environ | {"UV_TOOL_DIR": str(folder / "tools"), "UV_TOOL_BIN_DIR": str(folder / "bin")}
    locked = str(folder / "locked.txt")
    export = [UV, "export", "--quiet", "--locked", "--package", "aisandbox", "--no-emit-workspace", "--no-hashes"]
    subprocess.run([*export, "--output-file", locked], cwd=ROOT, stdout=subprocess.DEVNULL, check=True, timeout=300)
    install = [UV, *COMMAND.split()[1:], "--constraints", locked]
    subprocess.run(install, cwd=ROOT, env=environ, check=True, timeout=500)
    return folder


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a simulator, which is hosted by the full installation."""
    with Children(tmp_path_factory.mktemp("simulator")) as children:
        yield str(children.start("host-gymnasium", "CartPole-v1", "--port", "0").wait_until_ready()["address"])


def _run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(installed / "bin" / "aisandbox"), *arguments]
    return subprocess.run(command, cwd=installed, capture_output=True, text=True, timeout=120, check=False)


def test_light_install_is_what_the_document_says_and_has_no_pytorch(installed: Path) -> None:
    assert f"`{COMMAND}`" in (ROOT / "docs/other-languages.md").read_text(encoding="utf-8")
    versions = json.loads(_run(installed, "version", "--json").stdout)
    assert versions["aisandbox"]
    assert [versions[name] for name in ("torch", "stable-baselines3", "aisandbox-trainer")] == [None, None, None]


def test_light_install_checks_a_simulator_and_says_what_it_left_out(installed: Path, simulator: str) -> None:
    done = _run(installed, "check-simulator", simulator, "--timeout", "30", "--json")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(results) > 25
    assert next(each for each in results if each["check"] == "an algorithm takes the spaces")["message"]
    dry_run = next(each for each in results if each["check"] == "a model can be trained on the spaces")
    assert dry_run["skipped"]
    assert "the trainer is not installed here" in dry_run["message"]


def test_light_install_says_how_it_can_host_gymnasium(installed: Path) -> None:
    done = _run(installed, "host-gymnasium", "CartPole-v1", "--port", "0")
    assert done.returncode == 1
    assert done.stderr.startswith("error: gymnasium is not installed here\n")
    assert "uv tool install './cli[train]'" in done.stderr
