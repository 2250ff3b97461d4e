"""The PowerShell scripts: each is the twin of a target of the Makefile and parses; clean.ps1 is run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from workspace import ROOT

SCRIPTS = sorted((ROOT / "scripts").glob("*.ps1"))
PWSH = shutil.which("pwsh") or shutil.which("powershell") or ""
with_powershell = pytest.mark.skipif(not PWSH, reason="PowerShell is not installed")
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
