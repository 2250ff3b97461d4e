"""The simulators of samples/ in other languages, held to the compliance suite, where their toolchain is found.

Each is built in a copy, as a user would build it: its folder, with proto/ where the sample expects it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aisandbox_environment import check_simulator
from members import ROOT
from pool_service import PoolService

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BUILDS = {
    "go": [["go", "mod", "download"], ["go", "generate"], ["go", "build", "-o", "cartpole", "."]],
    "node": [["npm", "ci", "--prefer-offline", "--no-audit", "--no-fund"]],
}
PROGRAMS = {"go": ["./cartpole"], "node": ["node", "main.js"]}


@pytest.fixture(scope="module", params=sorted(BUILDS))
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The name of a sample, and the folder in which it was built."""
    name = str(request.param)
    first, *others = BUILDS[name]
    if shutil.which(first[0]) is None:
        pytest.skip(f"samples/{name} needs {first[0]} on the PATH")
    folder = tmp_path_factory.mktemp(name)
    (folder / "proto").symlink_to(ROOT / "proto")
    built = folder / "samples" / name
    shutil.copytree(ROOT / "samples" / name, built, ignore=shutil.ignore_patterns("node_modules", "gen", "cartpole"))
    if _run(first, built).returncode:
        pytest.skip(f"what samples/{name} depends on cannot be downloaded here")
    for command in others:
        done = _run(command, built)
        assert done.returncode == 0, done.stderr
    return name, built


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    # buf was installed beside this Python.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture
def pool_service() -> Iterator[PoolService]:
    """The service's pools, for simulators that attach."""
    service = PoolService()
    service.start()
    yield service
    service.stop()


@contextmanager
def _program(sample: tuple[str, Path], *arguments: str, says: str) -> Iterator[str]:
    """Runs the program; the rest of its first line, which begins with ``says``."""
    name, folder = sample
    process = subprocess.Popen([*PROGRAMS[name], *arguments], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(says), line
        yield line.removeprefix(says).strip()
    finally:
        process.kill()
        process.wait()


def test_sample_follows_the_rules_of_simulators(sample: tuple[str, Path]) -> None:
    with _program(sample, "--listen", "127.0.0.1:0", says="listening on ") as address:
        results = check_simulator(address, timeout=30)
        options = check_simulator(address, {"gravity": 3.7}, timeout=30)
    assert len(results) > 25
    assert [result for result in [*results, *options] if not result.ok] == []


def test_sample_follows_the_rules_when_it_is_attached_to_a_pool(
    sample: tuple[str, Path], pool_service: PoolService
) -> None:
    name, _ = sample
    attach = ("--attach", pool_service.address, "--pool", name, "--environments", "3")
    with _program(sample, *attach, says=f"attached to pool {name}"):
        results = check_simulator(pool_service.address, pool=name, timeout=30)
    assert len(results) > 25
    assert [result for result in results if not result.ok] == []


def test_sample_attaches_again_after_the_service_was_restarted(
    sample: tuple[str, Path], pool_service: PoolService
) -> None:
    name, _ = sample
    attach = ("--attach", pool_service.address, "--pool", name, "--environments", "3")
    with _program(sample, *attach, says=f"attached to pool {name}"):
        pool_service.stop()
        pool_service.start()
        pool_service.wait_for(3, name)


def test_sample_refuses_an_option_of_the_wrong_type(sample: tuple[str, Path]) -> None:
    with _program(sample, "--listen", "127.0.0.1:0", says="listening on ") as address:
        failed = [result for result in check_simulator(address, {"gravity": "low"}, timeout=30) if not result.ok]
    assert "open.options.gravity: must be a number above 0" in failed[0].message
