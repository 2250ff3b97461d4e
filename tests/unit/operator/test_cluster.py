"""The operator's calls against an HTTP server that answers as the test says."""

from collections.abc import AsyncIterator

import pytest
from aisandbox_kubernetes import Client
from aisandbox_operator.cluster import Cluster
from aisandbox_operator.events import Event
from operator_objects import run
from scripted_api import ScriptedApi, serving


@pytest.fixture
def api() -> ScriptedApi:
    return ScriptedApi()


@pytest.fixture
async def cluster(api: ScriptedApi) -> AsyncIterator[Cluster]:
    async with serving(api) as configuration:
        client = Client(configuration, "aisandbox-operator")
        yield Cluster(client, "sandbox", "operator-1")
        await client.close()


async def test_job_is_applied_and_not_forced(api: ScriptedApi, cluster: Cluster) -> None:
    await cluster.create_job({"metadata": {"name": "walk"}})
    ((method, path, query, body, kind),) = api.requests
    assert (method, path) == ("PATCH", "/apis/batch/v1/namespaces/sandbox/jobs/walk")
    assert query == {"fieldManager": "aisandbox-operator", "force": "false", "fieldValidation": "Strict"}
    assert kind == "application/apply-patch+yaml"
    assert body == {"metadata": {"name": "walk"}}


async def test_job_is_changed_and_deleted_by_its_uid(api: ScriptedApi, cluster: Cluster) -> None:
    await cluster.suspend_job("walk", "u1", suspended=True, annotations={"a": "b"})
    await cluster.delete_job("walk", "u1")
    (_, _, query, change, kind), (_, _, _, deletion, _) = api.requests
    assert kind == "application/merge-patch+json"
    assert query == {"fieldManager": "aisandbox-operator"}
    assert change == {"metadata": {"uid": "u1", "annotations": {"a": "b"}}, "spec": {"suspend": True}}
    assert deletion == {"preconditions": {"uid": "u1"}, "propagationPolicy": "Foreground"}


async def test_pod_is_marked_as_disrupted_by_one_condition(api: ScriptedApi, cluster: Cluster) -> None:
    await cluster.mark_disrupted("walk-abcde", "u1", "2026-03-01T12:00:00Z")
    ((_, path, _, body, kind),) = api.requests
    assert path.endswith("/pods/walk-abcde/status")
    assert kind == "application/strategic-merge-patch+json"
    assert body["metadata"] == {"uid": "u1"}
    assert [each["type"] for each in body["status"]["conditions"]] == ["DisruptionTarget"]


async def test_pod_is_ended_by_its_phase(api: ScriptedApi, cluster: Cluster) -> None:
    await cluster.end_pod("walk-abcde", "u1", "Succeeded")
    ((_, path, query, body, kind),) = api.requests
    assert path.endswith("/pods/walk-abcde/status")
    assert query == {"fieldManager": "aisandbox-operator"}
    assert kind == "application/strategic-merge-patch+json"
    annotations = {"aisandbox.dev/trainer-exited": "true"}
    assert (body["metadata"], body["status"]["phase"]) == ({"uid": "u1", "annotations": annotations}, "Succeeded")


async def test_events_about_refused_pods_are_those_of_the_job(api: ScriptedApi, cluster: Cluster) -> None:
    api.answers = [(200, {"items": [{"note": "quota"}]})]
    assert await cluster.refused_pods("u1") == [{"note": "quota"}]
    ((method, path, query, _, _),) = api.requests
    assert (method, path) == ("GET", "/apis/events.k8s.io/v1/namespaces/sandbox/events")
    assert query == {"limit": "500", "fieldSelector": "regarding.uid=u1,reason=FailedCreate"}


async def test_status_is_applied_over_the_version_that_was_read(api: ScriptedApi, cluster: Cluster) -> None:
    await cluster.apply_status(run(resource_version="17"), {"phase": "Running"})
    ((_, path, query, body, _),) = api.requests
    assert path.endswith("/trainingruns/walk/status")
    assert query["force"] == "true"
    assert body["metadata"] == {"name": "walk", "uid": "run-uid", "resourceVersion": "17"}


async def test_list_reads_all_pages(api: ScriptedApi, cluster: Cluster) -> None:
    api.answers = [
        (200, {"items": [{"n": 1}], "metadata": {"continue": "more"}}),
        (200, {"items": [{"n": 2}], "metadata": {}}),
    ]
    assert [pod["n"] for pod in await cluster.pods("walk")] == [1, 2]
    assert api.requests[1][2] == {"limit": "500", "labelSelector": "aisandbox.dev/run=walk", "continue": "more"}


async def test_object_that_does_not_exist_is_none_and_is_deleted(api: ScriptedApi, cluster: Cluster) -> None:
    api.answers = [(404, {"message": "not found"})]
    assert await cluster.run("walk") is None
    await cluster.delete_job("walk", "u1")


async def test_event_that_exists_already_is_not_an_error(api: ScriptedApi, cluster: Cluster) -> None:
    api.answers = [(409, {"message": "exists"})]
    await cluster.create_event(run(), Event("walk.1", "Suspended", "it is"), "2026-03-01T12:00:00.000000Z")
    ((_, path, _, body, _),) = api.requests
    assert path == "/apis/events.k8s.io/v1/namespaces/sandbox/events"
    assert body["metadata"]["name"] == "walk.1"
    assert body["regarding"]["uid"] == "run-uid"
