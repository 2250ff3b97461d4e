"""The calls against an HTTP server that answers as the test says."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aisandbox_operator.announcements import Announcement
from aisandbox_operator.cluster import Cluster
from aisandbox_operator.errors import ClusterError, Conflict, Forbidden, Invalid, Refused, Unavailable
from aisandbox_operator.metrics import Metrics
from kubernetes.aio.client import Configuration
from operator_views import run


@dataclass
class Api:
    """Answers with ``answers``, the last one for ever; keeps what was asked."""

    answers: list[tuple[int, Any]] = field(default_factory=lambda: [(200, {})])
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str], Any, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        kind = request.content_type if request.can_read_body else ""
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, request.path, dict(request.query), body, kind))
        status, said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status == 0:
            assert request.transport is not None
            request.transport.close()
        return web.json_response(said, status=status or 200, headers=self.headers)


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
async def cluster(api: Api) -> AsyncIterator[Cluster]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
    configuration.api_key["BearerToken"] = "Bearer secret"
    made = Cluster(configuration, "sandbox", "operator-1", Metrics())
    yield made
    await made.close()
    await runner.cleanup()


async def test_job_is_applied_and_not_forced(api: Api, cluster: Cluster) -> None:
    await cluster.create_job({"metadata": {"name": "walk"}})
    ((method, path, query, body, kind),) = api.requests
    assert (method, path) == ("PATCH", "/apis/batch/v1/namespaces/sandbox/jobs/walk")
    assert query == {"fieldManager": "aisandbox-operator", "force": "false", "fieldValidation": "Strict"}
    assert kind == "application/apply-patch+yaml"
    assert body == {"metadata": {"name": "walk"}}


async def test_job_is_changed_and_deleted_by_its_uid(api: Api, cluster: Cluster) -> None:
    await cluster.suspend_job("walk", "u1", suspended=True)
    await cluster.delete_job("walk", "u1")
    (_, _, _, change, kind), (_, _, _, deletion, _) = api.requests
    assert kind == "application/merge-patch+json"
    assert change == {"metadata": {"uid": "u1"}, "spec": {"suspend": True}}
    assert deletion == {"preconditions": {"uid": "u1"}, "propagationPolicy": "Foreground"}


async def test_pod_is_marked_by_a_condition_beside_the_others(api: Api, cluster: Cluster) -> None:
    await cluster.mark_disrupted("walk-abcde", "u1", "2026-03-01T12:00:00Z")
    ((_, path, _, body, kind),) = api.requests
    assert path.endswith("/pods/walk-abcde/status")
    assert kind == "application/strategic-merge-patch+json"
    assert body["metadata"] == {"uid": "u1"}
    assert [each["type"] for each in body["status"]["conditions"]] == ["DisruptionTarget"]


async def test_status_is_applied_over_the_version_that_was_read(api: Api, cluster: Cluster) -> None:
    await cluster.apply_status(run(resource_version="17"), {"phase": "Running"})
    ((_, path, query, body, _),) = api.requests
    assert path.endswith("/trainingruns/walk/status")
    assert query["force"] == "true"
    assert body["metadata"] == {"name": "walk", "uid": "run-uid", "resourceVersion": "17"}


async def test_list_reads_all_pages(api: Api, cluster: Cluster) -> None:
    api.answers = [
        (200, {"items": [{"n": 1}], "metadata": {"continue": "more"}}),
        (200, {"items": [{"n": 2}], "metadata": {}}),
    ]
    assert [pod["n"] for pod in await cluster.pods("walk")] == [1, 2]
    assert api.requests[1][2] == {"limit": "500", "labelSelector": "aisandbox.dev/run=walk", "continue": "more"}


async def test_what_is_not_there_is_none_and_deleting_it_is_done(api: Api, cluster: Cluster) -> None:
    api.answers = [(404, {"message": "not found"})]
    assert await cluster.run("walk") is None
    await cluster.delete_job("walk", "u1")


async def test_event_that_is_there_already_is_fine(api: Api, cluster: Cluster) -> None:
    api.answers = [(409, {"message": "exists"})]
    await cluster.announce(run(), Announcement("walk.1", "Suspended", "it is"), "2026-03-01T12:00:00.000000Z")
    ((_, path, _, body, _),) = api.requests
    assert path == "/apis/events.k8s.io/v1/namespaces/sandbox/events"
    assert body["metadata"]["name"] == "walk.1"
    assert body["regarding"]["uid"] == "run-uid"


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (0, "", Unavailable),
        (401, "expired", Unavailable),
        (403, "no", Forbidden),
        (404, "gone", Conflict),
        (405, "what", Refused),
        (409, "changed", Conflict),
        (410, "old", Unavailable),
        (422, "spec.x: Invalid value", Invalid),
        (422, "spec.template: field is immutable", Conflict),
        (429, "slow down", Unavailable),
        (500, "oh", Unavailable),
        (504, "late", Unavailable),
    ],
)
async def test_status_means_what_to_do_next(
    api: Api, cluster: Cluster, status: int, message: str, kind: type[ClusterError]
) -> None:
    api.answers = [(status, {"message": message})]
    with pytest.raises(ClusterError) as caught:
        await cluster.suspend_job("walk", "u1", suspended=True)
    assert type(caught.value) is kind
    assert message in str(caught.value)


async def test_pause_the_api_server_asks_for_is_passed_on(api: Api, cluster: Cluster) -> None:
    api.answers, api.headers = [(429, {"message": "slow down"})], {"Retry-After": "7"}
    with pytest.raises(Unavailable) as caught:
        await cluster.all_runs()
    assert caught.value.retry_after == 7.0
