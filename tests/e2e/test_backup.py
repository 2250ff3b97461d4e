"""Runs that are restored from a backup as docs/kubernetes.md says: created, then given their status."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cluster import ENDLESS, SHORT, Cluster, manifest_of
from waiting import wait_until

OF_THE_SERVER = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")


def _backup(cluster: Cluster, name: str) -> dict[str, Any]:
    """The run with its status, deleted with all that belongs to it but its files."""
    saved: dict[str, Any] = cluster.kubectl.json("get", "trainingrun", name)
    cluster.kubectl("delete", "trainingrun", name)
    cluster.until_gone(name, seconds=180)
    return saved


def _create(cluster: Cluster, saved: dict[str, Any]) -> None:
    metadata = {key: value for key, value in saved["metadata"].items() if key not in OF_THE_SERVER}
    run = {key: value for key, value in saved.items() if key != "status"} | {"metadata": metadata}
    cluster.kubectl("create", "-f", "-", manifest=run)


def _give_status(cluster: Cluster, saved: dict[str, Any]) -> None:
    patch = json.dumps({"status": saved["status"]})
    name = saved["metadata"]["name"]
    cluster.kubectl("patch", "trainingrun", name, "--subresource=status", "--type=merge", f"--patch={patch}")


def _pod_waits(cluster: Cluster, name: str) -> bool:
    """Whether the run's pod waits, before its trainer, for the run to get a status that says whose files these are."""
    return any(
        status.name == "prepare" and status.state.running is not None
        for pod in cluster.pods(name)
        for status in pod.status.init_container_statuses or []
    )


def _models(cluster: Cluster, name: str) -> list[str]:
    return [file for file in cluster.files(name) if file.startswith("models/")]


@pytest.mark.timeout(900)
def test_finished_run_keeps_its_models_when_its_status_comes_after_its_pod_has_started(
    cluster: Cluster, run_name: Callable[[str], str]
) -> None:
    name, deleted = run_name("restored"), run_name("forgotten")
    for each in (name, deleted):
        cluster.kubectl.apply(manifest_of(each, **SHORT))
    for each in (name, deleted):
        assert cluster.until_phase(each, "Succeeded", "Failed", seconds=300)["phase"] == "Succeeded"
    models = _models(cluster, name)
    saved = _backup(cluster, name)
    _create(cluster, saved)
    wait_until(lambda: _pod_waits(cluster, name), seconds=180)
    _give_status(cluster, saved)
    wait_until(lambda: cluster.job(name) is None and not cluster.pods(name), seconds=180)
    cluster.kubectl("delete", "trainingrun", deleted)
    wait_until(lambda: cluster.files(deleted), lambda files: not files, seconds=300)  # the retention time has passed
    assert len(models) > 1
    assert _models(cluster, name) == models
    status = cluster.status(name)
    assert (status["phase"], status["latestModel"]) == ("Succeeded", saved["status"]["latestModel"])


@pytest.mark.timeout(900)
def test_unfinished_run_continues_from_its_checkpoint_when_it_is_restored(
    cluster: Cluster, run_name: Callable[[str], str]
) -> None:
    name = run_name("moved")
    cluster.kubectl.apply(manifest_of(name, **ENDLESS))
    wait_until(lambda: cluster.status(name).get("latestCheckpoint"), seconds=240)
    before = cluster.run(name)
    assert before is not None
    saved = _backup(cluster, name)
    _create(cluster, saved)
    wait_until(lambda: _pod_waits(cluster, name), seconds=180)
    _give_status(cluster, saved)
    status = wait_until(
        lambda: cluster.status(name),
        lambda status: status.get("resumedFrom") is not None and status["attempt"] > saved["status"].get("attempt", 0),
        seconds=240,
    )
    assert status["filesUid"] == before["metadata"]["uid"]
    assert status["resumedFrom"]["timesteps"] >= saved["status"]["latestCheckpoint"]["timesteps"]
