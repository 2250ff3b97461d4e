"""Callers of a cluster: what is asked of it, how often, and what RBAC's answers mean."""

from __future__ import annotations

import contextlib
from typing import Any, cast

import pytest
from aisandbox_access import (
    AccessControl,
    AuthUnavailable,
    ClusterAuthenticator,
    ClusterAuthorizer,
    NotAuthenticated,
    NotPermitted,
    Permission,
    Principal,
    Target,
)
from aisandbox_access.review_cache import ACCEPTED_SECONDS
from aisandbox_kubernetes import Client, Forbidden, Json

RUNS = "/aisandbox.v1.PolicyTrainerService/"
USER = {"username": "alice", "uid": "u1", "groups": ["rl"], "extra": {"scopes": ["a"]}}


class Api:
    """Knows the token "good", and allows what is in ``allowed``: (verb, subresource, name)."""

    def __init__(self, *allowed: tuple[str, str, str]) -> None:
        self.allowed = set(allowed)
        self.asked: list[Any] = []
        self.now = 0.0
        self.error: Exception | None = None

    async def create(self, path: str, body: Json) -> Json:
        spec = body["spec"]
        self.asked.append(spec)
        if self.error is not None:
            raise self.error
        if path.endswith("tokenreviews"):
            known = spec["token"] == "good"
            return {"status": {"authenticated": known, "user": USER, "audiences": spec.get("audiences", [])}}
        assert path == "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        assert (spec["user"], spec["uid"], spec["groups"], spec["extra"]) == ("alice", "u1", ["rl"], {"scopes": ["a"]})
        wanted = spec["resourceAttributes"]
        assert (wanted["namespace"], wanted["group"], wanted["resource"]) == (
            "sandbox",
            "aisandbox.dev",
            "trainingruns",
        )
        question = (wanted["verb"], wanted.get("subresource", ""), wanted.get("name", ""))
        return {"status": {"allowed": question in self.allowed}}

    async def close(self) -> None: ...

    def access_control(self) -> AccessControl:
        client = cast(Client, self)
        return AccessControl(
            ClusterAuthenticator(client, "api", lambda: self.now),
            ClusterAuthorizer(client, "sandbox", lambda: self.now),
        )


def metadata(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_token_is_that_of_its_user_and_is_reviewed_once_a_minute() -> None:
    api = Api(("list", "", ""))
    access_control = api.access_control()
    for _ in range(2):
        caller = await access_control.admit(f"{RUNS}ListTrainingRuns", metadata("good"))
        assert caller.name == "alice"
    assert len(api.asked) == 2, "one review of the token, one of the permission"
    assert access_control.admit_now(f"{RUNS}ListTrainingRuns", metadata("good")) == caller
    api.now = 60.0
    assert access_control.admit_now(f"{RUNS}ListTrainingRuns", metadata("good")) is None
    await access_control.admit(f"{RUNS}ListTrainingRuns", metadata("good"))
    assert len(api.asked) == 4


async def test_token_that_the_cluster_does_not_know_is_refused() -> None:
    with pytest.raises(NotAuthenticated, match="not valid for this service"):
        await Api().access_control().admit(f"{RUNS}Act", metadata("bad"))


async def test_permission_to_one_run_does_not_reach_another() -> None:
    access_control = Api(("create", "act", "mine")).access_control()
    caller = await access_control.admit(f"{RUNS}Act", metadata("good"))
    assert await access_control.may(caller, Permission.ACT, Target("mine"))
    assert not await access_control.may(caller, Permission.ACT, Target("theirs"))
    assert access_control.may_now(caller, Permission.ACT, Target("mine"))
    with pytest.raises(NotPermitted, match="'alice' lacks the permission 'act' for run 'theirs'"):
        await access_control.check(caller, Permission.ACT, Target("theirs"), "ipv4:127.0.0.1:1")


async def test_permission_to_start_is_no_permission_to_change_what_others_have_started() -> None:
    access_control = Api(("create", "", "")).access_control()
    caller = await access_control.admit(f"{RUNS}StartTraining", metadata("good"))
    assert not await access_control.may(caller, Permission.TRAIN, Target("theirs"))


@pytest.mark.parametrize(
    ("permission", "of_service", "of_target"),
    [
        (Permission.VIEW, ("list", "", ""), ("get", "", "it")),
        (Permission.TRAIN, ("create", "", ""), ("patch", "", "it")),
        (Permission.ACT, ("create", "act", ""), ("create", "act", "it")),
        (Permission.MODEL, ("get", "model", ""), ("get", "model", "it")),
        (Permission.SIMULATE, ("create", "simulate", ""), ("create", "simulate", "it")),
    ],
)
async def test_permission_is_a_verb_on_a_resource(permission: Permission, of_service: Any, of_target: Any) -> None:
    principal = Principal("alice", groups=("rl",), uid="u1", extra={"scopes": ("a",)})
    for question, target in ((of_service, None), (of_target, Target("it"))):
        authorizer = ClusterAuthorizer(cast(Client, Api(question)), "sandbox")
        assert await authorizer.allows(principal, permission, target)
        assert not await authorizer.allows(principal, Permission.ADMINISTER, target)


async def test_method_of_the_service_needs_the_permission_for_all() -> None:
    with pytest.raises(NotPermitted, match="'alice' lacks the permission 'view'"):
        await Api(("get", "", "mine")).access_control().admit(f"{RUNS}ListTrainingRuns", metadata("good"))


async def test_cluster_that_does_not_answer_admits_nobody() -> None:
    api = Api()
    api.error = Forbidden("create", "no", status=403)
    with pytest.raises(AuthUnavailable, match="could not verify the token"):
        await api.access_control().admit(f"{RUNS}Act", metadata("good"))


async def test_many_bad_tokens_do_not_keep_out_those_that_were_good_before() -> None:
    api = Api()
    authenticator = ClusterAuthenticator(cast(Client, api), clock=lambda: api.now)
    assert (await authenticator.identify("good")).name == "alice"
    api.now = ACCEPTED_SECONDS + 1
    with pytest.raises(AuthUnavailable, match="too many callers"):  # noqa: PT012 -- at some number
        for number in range(1000):
            with contextlib.suppress(NotAuthenticated):
                await authenticator.identify(f"bad-{number}")
    assert (await authenticator.identify("good")).name == "alice"
