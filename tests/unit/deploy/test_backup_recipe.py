"""The script of docs/kubernetes.md that restores runs, under a plain POSIX shell, with a kubectl that keeps files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from workspace import ROOT

SHELL = shutil.which("dash") or shutil.which("sh")
pytestmark = pytest.mark.skipif(SHELL is None or shutil.which("jq") is None, reason="needs sh and jq")
KUBECTL = """#!/bin/sh
shift 2  # -n aisandbox
case "$1" in
scale) echo "$3" >> scaled ;;
apply) jq -c . > new && mv new "$(jq -r .metadata.name new).json" ;;
patch) test "$3" != "$REFUSED" && for last; do :; done && printf '%s\\n' "$last" | jq -c . > "$3.status" ;;
get) for file in *.status; do jq -c --arg name "${file%.status}" '{metadata: {name: $name}} + .' "$file"; done |
  jq -s '{items: .}' ;;
esac
"""
RUNS: list[dict[str, Any]] = [
    {
        "metadata": {"name": name, "uid": "old", "annotations": {"note": 'two\nlines "quoted" \\n \\c'}},
        "spec": {"algorithm": "PPO"},
        "status": {"phase": "Failed", "failure": {"message": "first\nsecond \\t\\0"}},
    }
    for name in ("lander", "walker")
]


def restore(folder: Path, refused: str = "", text: str = "") -> int:
    """The exit code of the script, run in ``folder``; ``refused``: the run whose status the API server refuses."""
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    (script,) = (each for each in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "runs.json" in each)
    kubectl = folder / "bin" / "kubectl"
    kubectl.parent.mkdir()
    kubectl.write_text(KUBECTL, encoding="utf-8")
    kubectl.chmod(0o755)
    (folder / "runs.json").write_text(text or json.dumps({"items": RUNS}), encoding="utf-8")
    environ = {"PATH": f"{kubectl.parent}{os.pathsep}{os.environ['PATH']}", "REFUSED": refused}
    assert SHELL is not None
    return subprocess.run([SHELL, "-c", script], cwd=folder, env=environ, timeout=120, check=False).returncode


def scaled(folder: Path) -> list[str]:
    return (folder / "scaled").read_text(encoding="utf-8").split()


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_runs_are_restored_with_their_status_before_the_operator_starts(tmp_path: Path) -> None:
    assert restore(tmp_path) == 0
    for run in RUNS:
        name = run["metadata"]["name"]
        created = {"metadata": {"name": name, "annotations": run["metadata"]["annotations"]}, "spec": run["spec"]}
        assert read(tmp_path / f"{name}.json") == created
        assert read(tmp_path / f"{name}.status") == {"status": run["status"]}
    assert scaled(tmp_path) == ["--replicas=0", "--replicas=1"]


@pytest.mark.parametrize("refused", ["lander", "walker"])
def test_operator_is_not_started_after_a_refusal(tmp_path: Path, refused: str) -> None:
    assert restore(tmp_path, refused) != 0
    assert scaled(tmp_path) == ["--replicas=0"]


def test_operator_is_not_started_if_the_backup_is_cut_off(tmp_path: Path) -> None:
    assert restore(tmp_path, text=json.dumps({"items": RUNS})[:-20]) != 0
    assert scaled(tmp_path) == ["--replicas=0"]
