"""Which tokens are accepted, a row a rule, and how long the result is cached."""

import copy
from collections.abc import Callable
from typing import Any, cast

import pytest
from aisandbox_access.review_cache import ACCEPTED_SECONDS, ASKED_AT_ONCE, REJECTED_SECONDS
from aisandbox_api.errors import BackendUnavailable, NotAuthenticated, NotPermitted
from aisandbox_api.kubernetes.token_reviewer import LONGEST_TOKEN, TokenReviewer
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_crds.trainingrun import TrainingRun
from aisandbox_kubernetes import Client, Forbidden, Json, NotFound

RUN = TrainingRun("walk", TrainingRunSpec(Algorithm.PPO, total_timesteps=1000), uid="run-uid")
STATUS: Json = {
    "authenticated": True,
    "audiences": ["aisandbox-progress"],
    "user": {
        "username": "system:serviceaccount:sandbox:aisandbox-trainer",
        "extra": {
            "authentication.kubernetes.io/pod-name": ["walk-abcde"],
            "authentication.kubernetes.io/pod-uid": ["pod-uid"],
        },
    },
}
POD: Json = {
    "metadata": {
        "name": "walk-abcde",
        "uid": "pod-uid",
        "labels": {"aisandbox.dev/run": "walk"},
        "ownerReferences": [{"kind": "Job", "name": "walk", "controller": True}],
    },
    "spec": {"containers": [{"name": "trainer", "env": [{"name": "RUN_UID", "value": "run-uid"}]}]},
}


class Api:
    """Answers a TokenReview and the read of a pod, and counts the reviews."""

    def __init__(self) -> None:
        self.status, self.pod, self.reviews = copy.deepcopy(STATUS), copy.deepcopy(POD), 0
        self.error: Exception | None = None
        self.now = 0.0

    async def create(self, path: str, body: Json) -> Json:
        assert path == "/apis/authentication.k8s.io/v1/tokenreviews"
        self.reviews += 1
        if self.error is not None:
            raise self.error
        return {**body, "status": self.status}

    async def get(self, path: str) -> Json:
        assert path == "/api/v1/namespaces/sandbox/pods/walk-abcde"
        if self.pod is None:
            raise NotFound("get", "not found", status=404)
        return self.pod

    def reviewer(self) -> TokenReviewer:
        return TokenReviewer(cast(Client, self), "sandbox", "aisandbox-progress", lambda: self.now)


async def test_token_of_the_runs_trainer_is_accepted() -> None:
    await Api().reviewer().check("token", RUN)


def user(username: str) -> Callable[[Api], None]:
    return lambda api: api.status["user"].update(username=username)


def pod_names(*names: str) -> Callable[[Api], None]:
    return lambda api: api.status["user"]["extra"].update({"authentication.kubernetes.io/pod-name": list(names)})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(lambda api: api.status.update(authenticated=False), "not valid", id="not authenticated"),
        pytest.param(lambda api: api.status.update(authenticated="true"), "not valid", id="not a truth value"),
        pytest.param(lambda api: api.status.update(audiences=["other"]), "not valid", id="another audience"),
        pytest.param(user("system:serviceaccount:other:aisandbox-trainer"), "this namespace", id="another namespace"),
        pytest.param(user("system:serviceaccount:sandbox2:aisandbox-trainer"), "this namespace", id="a longer name"),
        pytest.param(user("walker"), "this namespace", id="a person"),
        pytest.param(pod_names(), "not bound to a pod", id="no pod"),
        pytest.param(pod_names("walk-abcde", "other"), "not bound to a pod", id="two pods"),
        pytest.param(lambda api: api.pod["metadata"].update(uid="new"), "earlier pod", id="an earlier pod"),
        pytest.param(lambda api: setattr(api, "pod", None), "does not exist", id="a pod that was deleted"),
    ],
)
async def test_token_is_rejected(change: Callable[[Api], Any], why: str) -> None:
    api = Api()
    change(api)
    with pytest.raises(NotAuthenticated, match=why):
        await api.reviewer().check("token", RUN)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(lambda pod: pod["metadata"]["labels"].clear(), "not a trainer", id="a pod without the label"),
        pytest.param(lambda pod: pod["metadata"]["ownerReferences"].clear(), "not a trainer", id="a pod of no Job"),
        pytest.param(
            lambda pod: pod["metadata"]["ownerReferences"][0].update(name="other"), "not a trainer", id="another Job"
        ),
        pytest.param(
            lambda pod: pod["spec"]["containers"][0]["env"][0].update(value="old"), "deleted", id="a deleted run"
        ),
    ],
)
async def test_token_of_another_pod_is_not_permitted(change: Callable[[Json], Any], why: str) -> None:
    api = Api()
    change(api.pod)
    with pytest.raises(NotPermitted, match=why):
        await api.reviewer().check("token", RUN)


async def test_result_is_cached_for_a_while() -> None:
    api = Api()
    reviewer = api.reviewer()
    await reviewer.check("token", RUN)
    api.now = ACCEPTED_SECONDS - 0.1
    await reviewer.check("token", RUN)
    assert api.reviews == 1
    api.now, api.status["authenticated"] = ACCEPTED_SECONDS, False
    for _ in range(2):
        with pytest.raises(NotAuthenticated):
            await reviewer.check("token", RUN)
    assert api.reviews == 2
    api.now, api.status["authenticated"] = api.now + REJECTED_SECONDS, True
    await reviewer.check("token", RUN)
    assert api.reviews == 3


async def test_reviews_are_limited_by_a_token_bucket() -> None:
    api = Api()
    reviewer = api.reviewer()
    for number in range(int(ASKED_AT_ONCE)):
        await reviewer.check(f"token {number}", RUN)
    with pytest.raises(BackendUnavailable, match="too many callers"):
        await reviewer.check("one more", RUN)
    await reviewer.check("token 0", RUN)
    api.now = 1.0
    await reviewer.check("one more", RUN)


async def test_service_that_may_not_review_tokens_is_unavailable() -> None:
    api = Api()
    api.error = Forbidden("create", "no", status=403)
    with pytest.raises(BackendUnavailable, match="may not check tokens"):
        await api.reviewer().check("token", RUN)


async def test_too_long_a_token_is_not_reviewed() -> None:
    api = Api()
    with pytest.raises(NotAuthenticated, match="too long"):
        await api.reviewer().check("x" * (LONGEST_TOKEN + 1), RUN)
    assert api.reviews == 0
