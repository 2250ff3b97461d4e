"""The PowerShell scripts: each is the twin of a target of the Makefile, and is run by PowerShell.

All but clean.ps1 are run with programs that write down their arguments in place of the real ones.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from workspace import ROOT

SCRIPTS = sorted((ROOT / "scripts").glob("*.ps1"))
PWSH = shutil.which("pwsh") or shutil.which("powershell") or ""
with_powershell = pytest.mark.skipif(
    not PWSH and not os.environ.get("REQUIRE_DOTNET"), reason="PowerShell is not installed"
)
PARSE = """
$bad = 0
foreach ($file in $args) {
    $errors = $null
    [System.Management.Automation.Language.Parser]::ParseFile($file, [ref]$null, [ref]$errors) | Out-Null
    foreach ($each in $errors) { Write-Output "${file}: $each"; $bad = 1 }
}
exit $bad
"""


def _powershell(*arguments: str | Path) -> str:
    command = [PWSH, "-NoProfile", "-NonInteractive", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_is_the_twin_of_a_target(script: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (target,) = re.findall(r"\(the twin of `make ([a-z-]+)`", script.read_text(encoding="utf-8"))
    assert script.stem == target
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@with_powershell
@pytest.mark.timeout(120)
def test_scripts_parse(tmp_path: Path) -> None:
    parse = tmp_path / "parse.ps1"
    parse.write_text(PARSE)
    _powershell("-File", parse, *SCRIPTS)


@with_powershell
@pytest.mark.timeout(120)
def test_clean_removes_what_was_generated_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "clean.ps1", tmp_path / "scripts")
    for folder in ("dist", ".mypy_cache", "operator/src/__pycache__", ".venv/__pycache__", "models"):
        (tmp_path / folder).mkdir(parents=True)
    for file in (".coverage", ".coverage.host.1", "README.md"):
        (tmp_path / file).touch()
    _powershell("-File", tmp_path / "scripts" / "clean.ps1")
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {
        "scripts",
        "scripts/clean.ps1",
        "operator",
        "operator/src",
        ".venv",
        ".venv/__pycache__",
        "models",
        "README.md",
    }


PROGRAMS = (
    "aisandbox.exe",
    "coverage.exe",
    "pytest.exe",
    "pytest",
    "python",
    "ruff",
    "mypy",
    "typos",
    "lint-imports",
    "buf",
)
DOTNET = ["dotnet build", "dotnet format", "python ", "dotnet test", "python ", "dotnet pack", "pytest "]
CHECKS = ["ruff format", "ruff check", "typos", "mypy ", "lint-imports", "buf format", "buf lint", "buf breaking"]
GENERATED = ["python proto/generate.py --check", "python -m aisandbox_crds.generate --check"]
TESTS = ["coverage.exe erase", "pytest.exe -n auto", "coverage.exe report"]
SETUP = "uv sync --locked --compile-bytecode"
RUNS: dict[str, tuple[list[str], list[str], str]] = {
    "setup": ([], [SETUP], "uv"),
    "demo": (["--help"], [SETUP, "aisandbox.exe demo --help"], "aisandbox.exe"),
    "serve": (["--port", "1"], [SETUP, "aisandbox.exe up --port 1"], "aisandbox.exe"),
    "docs": ([], [SETUP, "uv run --locked --group docs mkdocs build"], "uv"),
    "proto": ([], [SETUP, "buf format -w", "python proto/generate.py"], "buf"),
    "test": (["tests/unit"], [SETUP, *TESTS], "pytest.exe"),
    "dotnet": ([], [SETUP, *DOTNET], "dotnet"),
    "check": (
        [],
        [SETUP, *CHECKS, *GENERATED, SETUP, *TESTS, "pytest -n auto --dist worksteal -m slow", SETUP, *DOTNET],
        "mypy",
    ),
}
"""For each script its arguments, the beginnings of the commands that it runs, and one whose failure is its own."""


class Tree:
    """A copy of the scripts in which every program writes its arguments into a file; ``failing`` exits with 3."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._log = root / "commands"
        shutil.copytree(ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        for folder in ("proto/src/aisandbox_wire", "clients/dotnet", "cli/src", "bin", ".venv/Scripts"):
            (root / folder).mkdir(parents=True)
        for name in (".venv/Scripts/" + program for program in PROGRAMS):
            self._write(name)
        for name in ("bin/uv", "bin/dotnet"):
            self._write(name)

    def _write(self, name: str) -> None:
        program = self.root / name
        program.write_text(
            f'#!/bin/sh\nn=$(basename "$0"); echo "$n $*" >>{self._log}; [ "$n" != "$FAILING" ] || exit 3\n'
        )
        program.chmod(0o755)

    def run(self, script: str, *arguments: str, failing: str = "") -> tuple[int, list[str]]:
        """The exit status, and the commands that were run."""
        self._log.write_text("")
        command = [PWSH, "-NoProfile", "-NonInteractive", "-File", str(self.root / "scripts" / f"{script}.ps1")]
        environ = os.environ | {"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}", "FAILING": failing}
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=120, env=environ, cwd=self.root
        )
        return done.returncode, self._log.read_text().splitlines()


def test_every_script_is_run() -> None:
    assert {script.stem for script in SCRIPTS} == RUNS.keys() | {"clean"}


@with_powershell
@pytest.mark.skipif(os.name == "nt", reason="the programs are shell scripts")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("script", RUNS)
def test_script_runs_its_commands_and_fails_with_them(script: str, tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    arguments, expected, failing = RUNS[script]
    status, commands = tree.run(script, *arguments)
    assert [command for command, begin in zip(commands, expected, strict=True) if not command.startswith(begin)] == []
    assert status == 0
    assert tree.run(script, *arguments, failing=failing)[0] != 0
