"""The code of a run reaches the files of its run, those it starts from only to read them, and no others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cluster import ENDLESS, MODELS, SHORT, Cluster, manifest_of
from waiting import wait_until

LOOK = """
import json, os, sys
runs, own, others = sys.argv[1] + "/runs", sys.argv[2], sys.argv[3:]
def attempt(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__ + ": " + os.strerror(error.errno)
    return "done"
def write(path):
    with open(path, "w") as file:
        file.write("mine")
def follow():
    link = f"{runs}/{own}/link"
    if not os.path.lexists(link):
        os.symlink(f"../{others[0]}", link)
    os.listdir(link)
print(json.dumps({
    "root": sorted(os.listdir(sys.argv[1])),
    "runs": sorted(os.listdir(runs)),
    "own": attempt(lambda: write(f"{runs}/{own}/written")),
    "beside": attempt(lambda: write(f"{runs}/written")),
    "link": attempt(follow),
    **{name: attempt(lambda: write(f"{runs}/{name}/models/latest")) for name in others},
    **{"read " + name: attempt(lambda: os.listdir(f"{runs}/{name}/checkpoints")) for name in others},
}))
"""


def look(cluster: Cluster, own: str, *others: str) -> dict[str, Any]:
    """What the code of the run ``own`` can do: what is where, and what becomes of writing and reading."""
    pod = cluster.pods(own)[-1].metadata.name
    command = ("exec", pod, "--container=trainer", "--", "python", "-c", LOOK, MODELS, own, *others)
    found: dict[str, Any] = json.loads(cluster.kubectl(*command))
    return found


@pytest.fixture
def runs(cluster: Cluster, run_name: Callable[[str], str]) -> tuple[str, str, str]:
    """A run that has ended, one that starts from it, and one that has nothing to do with them; these two train."""
    first, second, third = (run_name(name) for name in ("first", "second", "third"))
    cluster.kubectl.apply(manifest_of(first, **{**SHORT, "environment": ENDLESS["environment"]}))
    cluster.kubectl.apply(manifest_of(third, **ENDLESS))
    assert cluster.until_phase(first, "Succeeded", "Failed", seconds=300)["phase"] == "Succeeded"
    cluster.kubectl.apply(manifest_of(second, **{**ENDLESS, "startFrom": {"run": first}}))
    for name in (second, third):
        wait_until(lambda name=name: cluster.status(name).get("latestCheckpoint"), bool, seconds=300)  # type: ignore[misc]
    return first, second, third


def test_code_of_a_run_reaches_no_files_of_others(cluster: Cluster, runs: tuple[str, str, str]) -> None:
    first, second, third = runs
    found = look(cluster, third, first, second)
    assert found["runs"] == [third]
    assert found["root"] == ["runs"]
    assert found["own"] == "done"
    nothing = "FileNotFoundError: No such file or directory"
    assert {found[name] for name in (first, second, f"read {first}", f"read {second}", "link")} == {nothing}
    assert found["beside"] == "OSError: Read-only file system"

    found = look(cluster, second, first, third)
    assert found["runs"] == sorted((first, second))
    assert found[f"read {first}"] == "done"
    assert found[first] == "OSError: Read-only file system"
    assert found[third] == found[f"read {third}"] == nothing


def test_final_model_leaves_the_folder_by_the_service(cluster: Cluster, run_name: Callable[[str], str]) -> None:
    name = run_name("output")
    cluster.kubectl.apply(manifest_of(name, **{**SHORT, "modelOutputPath": f"team/{name}.zip"}))
    assert cluster.until_phase(name, "Succeeded", "Failed", seconds=300)["phase"] == "Succeeded"
    code = f"import os; print(os.path.getsize('{MODELS}/team/{name}.zip'), os.listdir('{MODELS}/runs/.outputs'))"
    size, _, records = cluster.kubectl("exec", "deployment/aisandbox-api", "--", "python", "-c", code).partition(" ")
    assert int(size) > 1000
    assert ".json" in records
    again = run_name("zip")
    cluster.kubectl.apply(manifest_of(again, **{**SHORT, "startFrom": {"zip": f"team/{name}.zip"}}))
    status = cluster.until_phase(again, "Succeeded", "Failed", seconds=300)
    assert status["phase"] == "Succeeded", status
    assert status["startedFrom"]["path"] == f"team/{name}.zip"
