"""A release: one version everywhere, a section of the changelog, and workflows that run targets of the Makefile."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pins import unpinned, with_commits
from release import notes, versions
from workspace import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CHANGELOG = """# Changelog

## [Unreleased]

## [1.1.0] - 2026-01-02

### Added

- A thing.

## [1.0.0]
"""


def test_every_file_has_the_same_version() -> None:
    assert len({version for _, version in versions()}) == 1, list(versions())


def test_notes_are_the_section_of_the_version() -> None:
    assert notes(CHANGELOG, "1.1.0") == "### Added\n\n- A thing."
    assert notes(CHANGELOG, "1.0.0") == ""
    with pytest.raises(LookupError, match=r"\[1.0\]"):
        notes(CHANGELOG, "1.0")


def _jobs(workflow: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values())


def _commands(job: dict[str, Any]) -> str:
    """All that a job runs, once for each entry of its matrix."""
    text = "\n".join(step.get("run", "") for step in job["steps"])
    matrix = dict(job.get("strategy", {}).get("matrix", {}))
    entries = matrix.pop("include", []) + [{key: value} for key, values in matrix.items() for value in values]
    return "\n".join(
        re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda found: entry.get(found[1], found[0]), text)  # noqa: B023
        for entry in entries or [{}]
    )


def _exists(target: str) -> bool:
    names = [target, f"{target.partition('-')[0]}-%"]
    return any(re.search(rf"^{re.escape(name)}:", MAKEFILE, re.MULTILINE) for name in names)


def _targets(workflow: Path) -> set[str]:
    commands = "\n".join(map(_commands, _jobs(workflow)))
    return {word for words in re.findall(r"\bmake ((?:[a-z][a-z0-9-]* ?)+)", commands) for word in words.split()}


def test_ci_runs_all_of_make_check_and_what_is_not_in_it() -> None:
    found = re.search(r"^check: ([a-z0-9 -]+) ##", MAKEFILE, re.MULTILINE)
    assert found is not None
    expected = {*found[1].split(), "test-fallbacks", "e2e"}
    assert expected - _targets(ROOT / ".github" / "workflows" / "ci.yml") == set()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_runs_targets_that_exist(workflow: Path) -> None:
    targets = _targets(workflow)
    assert targets
    assert [target for target in targets if not _exists(target)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_pins_its_actions_and_has_no_right_it_does_not_name(workflow: Path) -> None:
    text = workflow.read_text(encoding="utf-8")
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    actions = [step["uses"] for job in _jobs(workflow) for step in job["steps"] if "uses" in step]
    assert [action for action in actions if not re.search(r"@((release/)?v\d|[0-9a-f]{40}$)", action)] == []


def test_pins_are_written_and_missed() -> None:
    workflow = "      - uses: a/b@v1\n      - uses: c/d/e@release/v2\n      - uses: ./local\n"
    commits = {("a/b", "v1"): "1" * 40, ("c/d", "release/v2"): "2" * 40}
    pinned = with_commits(workflow, lambda *action: commits[action])
    assert pinned == (
        f"      - uses: a/b@{'1' * 40} # v1\n      - uses: c/d/e@{'2' * 40} # release/v2\n      - uses: ./local\n"
    )
    renewed = with_commits(pinned, lambda *_: "3" * 40)
    assert f"a/b@{'3' * 40} # v1\n" in renewed
    dockerfile, lock = "ARG BASE=python:3\n", f"# a comment\npython:3 sha256:{'0' * 64}\n"
    assert list(unpinned(dockerfile, lock, {"ci.yml": pinned})) == []
    assert list(unpinned(dockerfile, "# python:3\n", {"ci.yml": workflow})) == [
        "deploy/images.lock has no digest of python:3",
        "ci.yml: a/b@v1 is not a commit",
        "ci.yml: c/d/e@release/v2 is not a commit",
    ]


def test_release_stops_where_something_is_not_pinned_and_attests_what_it_publishes() -> None:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    build, images = (yaml.safe_load(text)["jobs"][name] for name in ("build", "images"))
    commands = [step.get("run", "") for step in build["steps"]]
    assert commands.index("python scripts/pins.py check") < commands.index("make dist")
    for job in (build, images):
        assert job["permissions"]["attestations"] == job["permissions"]["id-token"] == "write"
        assert any(step.get("uses", "").startswith("actions/attest-build-provenance@") for step in job["steps"])
    assert 'BASE="$(python3 scripts/pins.py base)"' in _commands(images)


def test_build_tools_have_versions_and_hashes() -> None:
    wanted = re.findall(r"^\w+==\S+$", (ROOT / "scripts" / "build_tools.in").read_text(encoding="utf-8"), re.MULTILINE)
    locked = (ROOT / "scripts" / "build_tools.txt").read_text(encoding="utf-8")
    assert {name.partition("==")[0] for name in wanted} == {"hatchling", "uv"}
    assert [name for name in wanted if f"{name} \\\n    --hash=sha256:" not in locked] == []


def test_pre_commit_has_the_versions_of_the_lock_file() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    revisions = {repository["repo"].rpartition("/")[2]: repository["rev"].removeprefix("v") for repository in hooks}
    lock = (ROOT / "uv.lock").read_text(encoding="utf-8")
    locked = dict(re.findall(r'^name = "(ruff|buf-bin|typos)"\nversion = "([^"]+)"', lock, re.MULTILINE))
    assert revisions == {"ruff-pre-commit": locked["ruff"], "buf": locked["buf-bin"], "typos": locked["typos"]}
