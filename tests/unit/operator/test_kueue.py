"""A run that Kueue admits. Kueue is simulated: it sets ``spec.suspend`` of Jobs with its label, and of no others."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from aisandbox_crds.trainingrun import QUEUE_LABEL
from job_world import World
from job_world_operator import reconcile, reconciler_of

PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
METADATA, SPEC = "metadata", "spec"


def world_with(place: str, labels: dict[str, str]) -> World:
    """A world that admits nothing yet, with one run whose trainer does not end."""
    world = World(Random(1))
    world.admits = False
    world.create("walk", [-1], **({"labels": labels} if place == SPEC else {}))
    if place == METADATA:
        world.runs["walk"]["metadata"]["labels"] = labels
    return world


async def at_rest(world: World) -> dict[str, Any]:
    """The status once the cluster and the operator have had time to do all they want."""
    reconciler = reconciler_of(world)
    for _ in range(40):
        world.step()
        assert await reconcile(reconciler, "walk")
    status: dict[str, Any] = world.runs["walk"]["status"]
    return status


def running(status: dict[str, Any]) -> tuple[str, str]:
    (condition,) = (each for each in status["conditions"] if each["type"] == "Running")
    return status["phase"], condition["reason"]


@pytest.mark.parametrize("place", [METADATA, SPEC])
async def test_run_with_a_queue_waits_for_its_admission_and_says_so(place: str) -> None:
    world = world_with(place, {QUEUE_LABEL: "gpus", PRIORITY_LABEL: "night"})
    waiting = await at_rest(world)
    assert running(waiting) == ("Pending", "Queued")
    assert "queue 'gpus'" in next(each["message"] for each in waiting["conditions"] if each["type"] == "Running")
    job = world.jobs["walk"]
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"].items() >= {QUEUE_LABEL: "gpus", PRIORITY_LABEL: "night"}.items()
    assert not world.pods
    world.admits = True
    assert running(await at_rest(world)) == ("Running", "TrainerRunning")


@pytest.mark.parametrize("place", [METADATA, SPEC])
async def test_run_that_kueue_preempts_waits_again_and_is_not_resumed_by_the_operator(place: str) -> None:
    world = world_with(place, {QUEUE_LABEL: "gpus"})
    world.admits = True
    assert running(await at_rest(world)) == ("Running", "TrainerRunning")
    world.admits = False
    assert running(await at_rest(world)) == ("Pending", "Queued")
    assert world.calls["suspend"] == 0, "the operator and Kueue change the same field"


async def test_run_without_a_queue_starts_at_once() -> None:
    world = world_with(METADATA, {"team": "a"})
    assert running(await at_rest(world)) == ("Running", "TrainerRunning")


async def test_run_that_waits_follows_its_label_to_another_queue() -> None:
    world = world_with(METADATA, {QUEUE_LABEL: "day"})
    await at_rest(world)
    world.runs["walk"]["metadata"]["labels"] = {QUEUE_LABEL: "night"}
    assert running(await at_rest(world)) == ("Pending", "Queued")
    assert world.jobs["walk"]["metadata"]["labels"][QUEUE_LABEL] == "night"
    world.admits = True
    assert running(await at_rest(world)) == ("Running", "TrainerRunning")


async def test_label_that_a_running_run_gets_does_not_stop_it() -> None:
    world = world_with(METADATA, {})
    await at_rest(world)
    world.runs["walk"]["metadata"]["labels"] = {QUEUE_LABEL: "gpus"}
    assert running(await at_rest(world)) == ("Running", "TrainerRunning")
