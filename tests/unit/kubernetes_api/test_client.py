"""The client against an HTTP server that answers as the test says."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from aisandbox_kubernetes import (
    Call,
    CallFailed,
    Cause,
    Client,
    ClientClosed,
    Conflict,
    Denied,
    Expired,
    Forbidden,
    Invalid,
    NotConfigured,
    NotFound,
    Refused,
    Retry,
    Unauthorized,
    Unavailable,
    WebhookUnavailable,
    load_configuration,
)
from scripted_api import ScriptedApi, serving

JOB = "/apis/batch/v1/namespaces/sandbox/jobs/walk"
PODS = "/api/v1/namespaces/sandbox/pods"


@pytest.fixture
def api() -> ScriptedApi:
    return ScriptedApi()


@pytest.fixture
def calls() -> list[Call]:
    return []


@pytest.fixture
async def client(api: ScriptedApi, calls: list[Call]) -> AsyncIterator[Client]:
    async with serving(api) as configuration:
        client = Client(configuration, "tester", retry=Retry(tries=3, first_pause_seconds=0.001), observe=calls.append)
        yield client
        await client.close()


async def watched(client: Client) -> list[Any]:
    async with aclosing(client.watch(PODS, "17", 30)) as events:
        return [event async for event in events]


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (0, "", Unavailable),
        (400, "what", Invalid),
        (401, "expired", Unauthorized),
        (403, "no", Forbidden),
        (403, 'admission webhook "jobs.example.com" denied the request: no owner', Denied),
        (400, 'admission webhook "validate.kyverno.svc-fail" denied the request: no owner', Denied),
        (422, "ValidatingAdmissionPolicy 'owners' with binding 'owners' denied request: no owner", Denied),
        (404, "gone", NotFound),
        (405, "what", Refused),
        (408, "late", Unavailable),
        (409, "changed", Conflict),
        (410, "old", Expired),
        (422, "spec.x: Invalid value", Invalid),
        (422, "spec.template: field is immutable", Conflict),
        (429, "slow down", Unavailable),
        (500, "oh", Unavailable),
        (500, 'Internal error occurred: failed calling webhook "jobs.example.com": refused', WebhookUnavailable),
        (504, "late", Unavailable),
    ],
)
async def test_status_means_a_type_of_error(
    api: ScriptedApi, client: Client, status: int, message: str, kind: type[CallFailed]
) -> None:
    api.answers = [(status, {"message": message})]
    with pytest.raises(CallFailed) as caught:
        await client.merge_patch(JOB, {})
    assert type(caught.value) is kind
    assert caught.value.status == (status or None)
    assert message in str(caught.value)
    assert str(caught.value).startswith("patch batch/v1/namespaces/sandbox/jobs/walk: ")


async def test_error_has_what_the_status_object_says(api: ScriptedApi, client: Client) -> None:
    details = {"causes": [{"field": "spec.seed", "message": "too large"}]}
    api.answers = [(422, {"reason": "Invalid", "message": "no", "details": details})]
    with pytest.raises(Invalid) as caught:
        await client.create(PODS, {})
    assert caught.value.reason == "Invalid"
    assert caught.value.causes == (Cause("spec.seed", "too large"),)
    assert caught.value.why == "422: no"


async def test_retry_after_is_passed_on(api: ScriptedApi, client: Client) -> None:
    api.answers, api.headers = [(429, {"message": "slow down"})], {"Retry-After": "7"}
    with pytest.raises(Unavailable) as caught:
        await client.get(JOB)
    assert caught.value.retry_after == 7.0


async def test_only_what_is_unavailable_is_retried(api: ScriptedApi, client: Client) -> None:
    api.answers = [(0, {}), (503, {}), (200, {"n": 1})]
    assert await client.get(JOB) == {"n": 1}
    api.requests.clear()
    api.answers = [(409, {})]
    with pytest.raises(Conflict):
        await client.create(PODS, {})
    assert len(api.requests) == 1


async def test_tries_are_bounded_and_an_apply_has_one(api: ScriptedApi, client: Client) -> None:
    api.answers = [(500, {})]
    with pytest.raises(Unavailable):
        await client.get(JOB)
    assert len(api.requests) == 3
    with pytest.raises(Unavailable):
        await client.apply(JOB, {}, "me")
    assert len(api.requests) == 4


async def test_answer_that_is_not_json_is_unavailable(api: ScriptedApi, client: Client) -> None:
    api.answers = [(200, "<html>")]
    with pytest.raises(Unavailable, match="not JSON"):
        await client.get(JOB)


async def test_all_pages_of_a_list_are_read(api: ScriptedApi, client: Client) -> None:
    api.answers = [
        (200, {"items": [1], "metadata": {"continue": "more"}}),
        (200, {"items": [2], "metadata": {}}),
    ]
    assert [page["items"] async for page in client.pages(PODS, "app=walk")] == [[1], [2]]
    queries = [query for _, _, query, _, _ in api.requests]
    assert queries == [
        {"limit": "500", "labelSelector": "app=walk"},
        {"limit": "500", "labelSelector": "app=walk", "continue": "more"},
    ]


async def test_what_is_created_and_patched_names_its_manager(api: ScriptedApi, client: Client) -> None:
    await client.create(PODS, {})
    await client.merge_patch(JOB, {})
    await client.strategic_merge_patch(JOB, {})
    await client.apply(JOB, {})
    assert [query["fieldManager"] for _, _, query, _, _ in api.requests] == ["tester"] * 4


async def test_apply_names_its_manager(api: ScriptedApi, client: Client) -> None:
    await client.apply(JOB, {"kind": "Job"}, "me", force=False, is_strict=True)
    ((method, path, query, body, kind),) = api.requests
    assert (method, path, body) == ("PATCH", JOB, {"kind": "Job"})
    assert query == {"fieldManager": "me", "force": "false", "fieldValidation": "Strict"}
    assert kind == "application/apply-patch+yaml"


async def test_every_try_is_observed(api: ScriptedApi, client: Client, calls: list[Call]) -> None:
    api.answers = [(0, {}), (200, {})]
    await client.merge_patch(f"{JOB}/status", {})  # aiohttp itself repeats a GET whose connection broke
    assert [(call.verb, call.resource, call.is_answered) for call in calls] == [
        ("patch", "jobs/status", False),
        ("patch", "jobs/status", True),
    ]
    assert calls[1].outcome == "200"


async def test_watch_opens_then_yields_events_then_ends(api: ScriptedApi, client: Client) -> None:
    api.answers = [(200, '{"type": "ADDED", "object": {"n": 1}}\n')]
    seen = await watched(client)
    assert [event["type"] for event in seen] == ["BOOKMARK", "ADDED"]
    assert seen[0]["object"]["metadata"]["resourceVersion"] == "17"
    ((_, _, query, _, _),) = api.requests
    assert query["resourceVersion"] == "17"
    assert query["timeoutSeconds"] == "30"


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (200, '{"type": "ERROR", "object": {"code": 410, "message": "too old"}}\n', Expired),
        (200, "no event\n", Unavailable),
        (410, "{}", Expired),
        (403, "{}", Forbidden),
        (0, "", Unavailable),
    ],
)
async def test_watch_that_cannot_continue_raises(
    api: ScriptedApi, client: Client, status: int, text: str, kind: type[CallFailed]
) -> None:
    api.answers = [(status, text)]
    with pytest.raises(CallFailed) as caught:
        await watched(client)
    assert type(caught.value) is kind


async def test_closed_client_raises_an_error(client: Client) -> None:
    await client.close()
    with pytest.raises(ClientClosed):
        await client.get(JOB)


async def test_without_a_cluster_the_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured):
        await load_configuration("nowhere", {})


async def test_context_of_the_kubeconfig_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"name": "one", "context": {"cluster": "one", "user": "me"}}
    two = {"name": "two", "context": {"cluster": "two", "user": "me"}}
    clusters = [{"name": name, "cluster": {"server": f"http://{name}:1"}} for name in ("one", "two")]
    config: dict[str, Any] = {"contexts": [one, two], "clusters": clusters, "current-context": "one"}
    config["users"] = [{"name": "me", "user": {"token": "secret"}}]
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    assert (await load_configuration("", {})).host == "http://one:1"
    assert (await load_configuration("two", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})).host == "http://two:1"
