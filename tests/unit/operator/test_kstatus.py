"""What tools that know no TrainingRun make of one: Flux by kstatus' rules, Argo CD by the health check in deploy/."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from aisandbox_crds.status import TrainingRunStatus
from aisandbox_operator.observed_objects import ObservedJob, ObservedPod, ObservedRun
from aisandbox_operator.status_fields import own_fields
from kstatus import kstatus
from lupa.lua54 import LuaRuntime  # type: ignore[import-untyped]
from operator_objects import (
    QUEUE,
    RUNNING,
    SUCCEEDED,
    ended_pod,
    ending,
    job,
    planned,
    pod,
    reconciled,
    run,
    running_pod,
    spec,
)

ROOT = Path(__file__).parents[3]
ARGO = ROOT / "deploy" / "samples" / "gitops" / "argocd-health.yaml"
KSTATUS = ROOT / "tests" / "kstatus"


def resource(run_: ObservedRun, job_: ObservedJob | None = None, *pods: ObservedPod) -> dict[str, Any]:
    """The run once the operator has reconciled it, as the API server has it."""
    found, _ = reconciled(run_, job_, *pods)
    status = own_fields(found.status) if found.status.conditions else {}
    metadata = {"name": found.name, "namespace": "sandbox", "generation": found.generation}
    return {"apiVersion": "aisandbox.dev/v1alpha1", "kind": "TrainingRun", "metadata": metadata, "status": status}


DEFINITION = yaml.safe_load((ROOT / "crds" / "trainingrun.yaml").read_text())
(VERSION,) = DEFINITION["spec"]["versions"]
UNSEEN: dict[str, Any] = VERSION["schema"]["openAPIV3Schema"]["properties"]["status"]["default"]
"""The status that the API server gives a run until the operator writes one."""
STOPPED, ACTIVE = job(is_suspended=True), job(active=1)
FAILED = resource(run(RUNNING), job(end="Failed"), ended_pod(78, termination_message=ending(1, 78)))
ROWS = {
    "a run that waits for Kueue": (
        resource(run(of=spec(labels=QUEUE)), job(is_suspended=True, queue="gpus")),
        "InProgress",
        "Progressing",
    ),
    "a run whose pod cannot be created": (
        resource(run(), ACTIVE, pod(waits_for="ErrImagePull")),
        "InProgress",
        "Progressing",
    ),
    "a run that trains": (resource(run(RUNNING), ACTIVE, running_pod()), "InProgress", "Progressing"),
    "a run that is suspended": (resource(run(RUNNING, of=spec(suspend=True)), STOPPED), "Current", "Suspended"),
    "a run that has succeeded": (resource(run(RUNNING), job(end="Complete"), ended_pod(0)), "Current", "Healthy"),
    "a run that was cancelled": (resource(run(RUNNING, of=spec(cancel=True)), STOPPED), "Current", "Healthy"),
    "a run that has failed": (FAILED, "Failed", "Degraded"),
    "a run whose spec breaks a rule": (resource(run(problem="spec: no")), "Failed", "Degraded"),
    "a run that the operator has not seen": ({**FAILED, "status": UNSEEN}, "InProgress", "Progressing"),
    "a run whose spec was changed": (
        {**FAILED, "metadata": {**FAILED["metadata"], "generation": 2}},
        "InProgress",
        "Progressing",
    ),
}
Row = tuple[dict[str, Any], str, str]
each_row = pytest.mark.parametrize("row", ROWS.values(), ids=[name.replace(" ", "_") for name in ROWS])


@each_row
def test_status_by_the_rules_of_kstatus(row: Row) -> None:
    assert kstatus(row[0]) == row[1]


@each_row
def test_health_by_the_check_for_argo_cd(row: Row) -> None:
    assert argo_health(row[0])["status"] == row[2]


def test_health_of_a_failed_run_has_the_reason_and_the_message() -> None:
    failure = FAILED["status"]["failure"]
    assert argo_health(FAILED)["message"] == f"{failure['reason']}: {failure['message']}"


def test_run_that_the_operator_has_not_seen_is_progressing() -> None:
    assert argo_health({"metadata": {"generation": 1}})["status"] == "Progressing"


@pytest.mark.parametrize(
    ("status", "health", "message"),
    [
        ({"phase": "Succeeded"}, "Healthy", "Succeeded"),
        ({"phase": "Cancelled", "conditions": []}, "Healthy", "Cancelled"),
        ({"phase": "Failed", "failure": {"reason": "OOMKilled", "message": "m"}}, "Degraded", "OOMKilled: m"),
        ({"phase": "Failed"}, "Degraded", "Failed: "),
        ({"phase": "Running", "conditions": []}, "Progressing", "the operator has not seen the run yet"),
    ],
)
def test_health_of_a_run_of_a_version_without_the_condition_ready(
    status: dict[str, Any], health: str, message: str
) -> None:
    other = {"conditions": [{"type": "CheckpointsSaved", "status": "True", "reason": "Saved"}]}
    found = argo_health({"metadata": {"generation": 1}, "status": {"observedGeneration": 1, **other, **status}})
    assert found == {"status": health, "message": message}


def test_done_run_stays_current_when_its_spec_changes() -> None:
    step = planned(run(replace(SUCCEEDED, observed_generation=1), generation=2))
    assert isinstance(step.status, TrainingRunStatus)
    assert step.status == replace(SUCCEEDED, observed_generation=2)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go, to run kstatus itself")
def test_rules_are_those_of_kstatus_itself() -> None:
    if go("mod", "download").returncode:
        pytest.skip("kstatus cannot be downloaded here")
    done = go("run", ".", text=json.dumps([row[0] for row in ROWS.values()]))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [row[1] for row in ROWS.values()]


def go(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = ["go", *arguments]
    return subprocess.run(command, cwd=KSTATUS, input=text, capture_output=True, text=True, timeout=400, check=False)


def argo_health(object_: dict[str, Any]) -> dict[str, str]:
    """As Argo CD evaluates it: in Lua, with the object as ``obj``."""
    check = yaml.safe_load(ARGO.read_text())["data"]["resource.customizations.health.aisandbox.dev_TrainingRun"]
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(object_, recursive=True)
    return dict(lua.execute(check).items())
