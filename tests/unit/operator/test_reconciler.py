"""Reconciles against a cluster whose admission, quota and other controllers are in the way."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any, cast

import pytest
from aisandbox_crds import InstallationSecret
from aisandbox_kubernetes import Conflict, Denied, Forbidden, KubernetesError, WebhookUnavailable
from aisandbox_operator.cluster import Cluster
from aisandbox_operator.events import Event
from aisandbox_operator.metrics import Metrics
from aisandbox_operator.observed_objects import ObservedRun
from aisandbox_operator.reconciler import Reconciler
from aisandbox_operator.run_keys import RunKeys
from aisandbox_operator.watch_cache import WatchCache
from job_world import World
from operator_objects import SETTINGS

WEBHOOK = 'Internal error occurred: failed calling webhook "jobs.example.com": connection refused'
Json = dict[str, Any]


class Hindered(World):
    """A cluster in which calls fail as long as ``error`` says; its events are kept whole."""

    def __init__(self) -> None:
        super().__init__(Random(1))
        self.error: KubernetesError | None = None
        self.refusals: list[Json] | KubernetesError = []
        self.notes: dict[str, Event] = {}

    async def pods_labelled(self, name: str) -> list[Json]:
        return await super().pods_labelled(name)

    async def create_job(self, manifest: Json) -> None:
        self._fail()
        await super().create_job(manifest)

    async def suspend_job(self, name: str, uid: str, suspended: bool, annotations: Mapping[str, str]) -> None:
        self._fail()
        await super().suspend_job(name, uid, suspended, annotations)

    async def refused_pods(self, job_uid: str) -> list[Json]:
        if isinstance(self.refusals, KubernetesError):
            raise self.refusals
        return self.refusals

    async def create_event(self, run: ObservedRun, event: Event, time: str) -> None:
        self.notes[event.name] = event

    def condition(self, kind: str = "Running") -> Json:
        return next(each for each in self.runs["walk"]["status"]["conditions"] if each["type"] == kind)

    def reasons(self) -> list[str]:
        return [event.reason for event in self.notes.values() if event.is_warning]

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


class Calls:
    """The cluster as the operator's client."""

    def __init__(self, world: Hindered) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, "pods_labelled" if name == "pods" else name)


@pytest.fixture
def world() -> Hindered:
    hindered = Hindered()
    hindered.create("walk", [-1], backoffLimit=0)
    return hindered


@pytest.fixture
def reconciler(world: Hindered) -> Reconciler:
    return Reconciler(cast(Cluster, Calls(world)), SETTINGS, WatchCache(), Metrics(), lambda: world.now)


async def test_webhook_that_does_not_answer_is_in_the_status_and_an_event(
    world: Hindered, reconciler: Reconciler
) -> None:
    world.error = WebhookUnavailable("apply jobs/walk", WEBHOOK, status=500)
    for _ in range(3):
        assert await reconciler.reconcile("walk") == 10.0
    assert world.runs["walk"]["status"]["phase"] == "Pending"
    assert world.condition()["reason"] == "AdmissionWebhookUnavailable"
    assert 'webhook "jobs.example.com": connection refused' in world.condition()["message"]
    assert world.reasons() == ["AdmissionWebhookUnavailable"]
    world.error = None
    await reconciler.reconcile("walk")
    assert "walk" in world.jobs
    assert world.runs["walk"]["status"]["phase"] == "Starting"


async def test_webhook_that_is_down_when_a_run_is_suspended_is_an_event(
    world: Hindered, reconciler: Reconciler
) -> None:
    await reconciler.reconcile("walk")
    world.change_spec("walk", suspend=True)
    world.error = WebhookUnavailable("patch jobs/walk", WEBHOOK, status=500)
    for _ in range(3):
        with pytest.raises(WebhookUnavailable):
            await reconciler.reconcile("walk")
    assert world.reasons() == ["AdmissionWebhookUnavailable"]


@pytest.mark.parametrize("error", [Denied, Forbidden])
async def test_job_that_a_policy_or_quota_refuses_waits(
    world: Hindered, reconciler: Reconciler, error: type[Forbidden]
) -> None:
    world.error = error("apply jobs/walk", "the namespace has too many Jobs", status=403)
    assert await reconciler.reconcile("walk") == 30.0
    assert (world.condition()["reason"], world.runs["walk"]["status"]["phase"]) == ("JobForbidden", "Pending")
    assert "too many Jobs" in world.condition()["message"]


class FullOfSecrets:
    """A namespace with the installation's Secret, whose quota has no place for another one until ``is_full`` ends."""

    def __init__(self) -> None:
        self.is_full = True
        text = InstallationSecret.create(datetime(2026, 1, 1, tzinfo=UTC)).to_text()
        self._installation = {"data": {"secret": base64.b64encode(text.encode()).decode()}}

    async def secret(self, name: str) -> Json | None:
        return self._installation

    async def create_secret(self, manifest: Json) -> None:
        if self.is_full:
            raise Forbidden("create secrets", "exceeded quota: count/secrets", status=403)


async def test_run_whose_secret_is_refused_waits_instead_of_training_without_a_key(world: Hindered) -> None:
    secrets = FullOfSecrets()
    keys = RunKeys(secrets, lambda: world.now)
    reconciler = Reconciler(cast(Cluster, Calls(world)), SETTINGS, WatchCache(), Metrics(), lambda: world.now, keys)
    assert await reconciler.reconcile("walk") == 30.0
    assert (world.condition()["reason"], world.runs["walk"]["status"]["phase"]) == ("JobForbidden", "Pending")
    assert "count/secrets" in world.condition()["message"]
    assert "walk" not in world.jobs
    secrets.is_full = False
    await reconciler.reconcile("walk")
    assert "walk" in world.jobs


async def test_reason_why_a_pod_is_refused_is_in_the_status(world: Hindered, reconciler: Reconciler) -> None:
    await reconciler.reconcile("walk")
    world.refusals = [{"note": 'Error creating: pods "walk-abcde" is forbidden: no PriorityClass with name fast'}]
    while world.runs["walk"]["status"]["conditions"][1]["reason"] != "NoPod":
        world.now += world.now.resolution * 10**6
        await reconciler.reconcile("walk")
    assert world.condition()["message"].endswith("the pod is forbidden: no PriorityClass with name fast")
    assert world.reasons() == ["NoPod"]


async def test_events_that_cannot_be_read_do_not_stop_the_reconcile(world: Hindered, reconciler: Reconciler) -> None:
    await reconciler.reconcile("walk")
    world.refusals = Forbidden("list events", "no permission", status=403)
    while world.runs["walk"]["status"]["conditions"][1]["reason"] != "NoPod":
        world.now += world.now.resolution * 10**6
        await reconciler.reconcile("walk")
    assert "kubectl describe job walk" in world.condition()["message"]


async def test_controller_that_suspends_the_job_wins_after_one_resume(world: Hindered, reconciler: Reconciler) -> None:
    await reconciler.reconcile("walk")
    job = world.jobs["walk"]
    flips = 0
    for _ in range(40):
        flips += job["spec"]["suspend"] is False
        job["spec"]["suspend"] = True  # whatever was resumed is suspended again
        world.step()
        await reconciler.reconcile("walk")
    assert flips <= 2
    assert world.condition()["reason"] == "JobSuspended"
    assert world.condition("Suspended")["status"] == "True"
    assert world.reasons() == ["JobSuspended"]
    job["spec"]["suspend"] = False
    for _ in range(10):
        world.step()
        await reconciler.reconcile("walk")
    assert world.condition()["reason"] == "TrainerRunning"


async def test_run_that_is_suspended_and_resumed_gets_its_job_back(world: Hindered, reconciler: Reconciler) -> None:
    await reconciler.reconcile("walk")
    for suspend in (True, False):
        world.jobs["walk"]["spec"]["suspend"] = True
        world.change_spec("walk", suspend=suspend)
        for _ in range(10):
            world.step()
            try:
                await reconciler.reconcile("walk")
            except Conflict:
                continue
    assert world.condition()["reason"] == "TrainerRunning"


async def test_done_run_says_that_it_has_seen_a_later_spec(world: Hindered, reconciler: Reconciler) -> None:
    world.create("walk", [0], backoffLimit=0)
    for _ in range(30):
        world.step()
        await reconciler.reconcile("walk")
    before = world.runs["walk"]["status"]
    assert (before["phase"], before["observedGeneration"]) == ("Succeeded", 1)
    world.change_spec("walk", ttlSecondsAfterFinished=5)
    await reconciler.reconcile("walk")
    assert world.runs["walk"]["status"] == {**before, "observedGeneration": 2}
