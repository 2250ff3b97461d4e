"""Authentication of trainers by the tokens they report with.

Owns the calls of the API server (TokenReview, then the pod that the token is bound to) and the cache of their results,
which is short-lived because a pod's token expires with the pod. Tokens are not kept, only their digests. Must not know
runs beyond their names and uids.

A pod's environment variable RUN_UID says which run it was created for: that distinguishes it from the trainer of a
deleted run of the same name, which may still be running.

Source: Kubernetes, "Managing Service Accounts", bound service account tokens: the review of such a token names its pod
in ``extra``.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from aisandbox_crds import RUN_LABEL, TrainingRun
from aisandbox_kubernetes import Client, Json, NotFound
from aisandbox_process import TokenBucket

from aisandbox_api.errors import BackendUnavailable, ClusterRefused, NotAuthenticated, NotPermitted
from aisandbox_api.kubernetes.call_errors import api_errors

ACCEPTED_SECONDS = 60.0
"""How long an accepted token is cached."""
REJECTED_SECONDS = 10.0
CACHE_SIZE = 4096
LONGEST_TOKEN = 16 * 1024
REVIEWS_A_SECOND = 50.0
REVIEWS_AT_ONCE = 200.0
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"


@dataclass(frozen=True, slots=True)
class TrainerPod:
    """The pod of a Job that a token is bound to; ``run`` is its label, ``run_uid`` its trainer's RUN_UID."""

    name: str
    run: str
    job: str
    run_uid: str


@dataclass(frozen=True, slots=True)
class _Review:
    """The result for a token; ``pod`` None: rejected, ``why`` says why."""

    expires: float
    pod: TrainerPod | None
    why: str


class TokenReviewer:
    """Reviews tokens with ``audience`` of pods in ``namespace``. For one event loop."""

    def __init__(
        self, client: Client, namespace: str, audience: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._audience = audience
        self._clock = clock
        self._cache: OrderedDict[bytes, _Review] = OrderedDict()
        self._pending: dict[bytes, asyncio.Task[_Review]] = {}
        self._bucket = TokenBucket(REVIEWS_A_SECOND, REVIEWS_AT_ONCE, clock)

    async def check(self, token: str, run: TrainingRun) -> None:
        """Returns if the token is that of a trainer of ``run``.

        Raises NotAuthenticated, NotPermitted, BackendUnavailable.
        """
        if len(token) > LONGEST_TOKEN:
            raise NotAuthenticated("authorization: the token is too long to be one")
        review = await self._review(token)
        if review.pod is None:
            raise NotAuthenticated(f"authorization: {review.why}")
        pod = review.pod
        if pod.run != run.name or pod.job != run.name:
            raise NotPermitted(f"the token is that of pod {pod.name!r}, which is not a trainer of run {run.name!r}")
        if pod.run_uid != run.files_uid:
            raise NotPermitted(f"pod {pod.name!r} trains another run of the name {run.name!r}, which has been deleted")

    async def _review(self, token: str) -> _Review:
        key = hashlib.sha256(token.encode()).digest()
        review = self._cache.get(key)
        if review is not None and review.expires > self._clock():
            return review
        pending = self._pending.get(key)
        if pending is None:
            if not self._bucket.take():
                raise BackendUnavailable("too many tokens to review: report again in a moment")
            pending = self._pending[key] = asyncio.create_task(self._call(token))
            pending.add_done_callback(lambda task: self._finish(key, task))
        return await asyncio.shield(pending)

    def _finish(self, key: bytes, task: asyncio.Task[_Review]) -> None:
        del self._pending[key]
        if task.cancelled() or task.exception() is not None:
            return
        self._cache[key] = task.result()
        self._cache.move_to_end(key)
        while len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)

    async def _call(self, token: str) -> _Review:
        try:
            with api_errors():
                found = await self._pod_of(token)
        except ClusterRefused as error:
            raise BackendUnavailable(f"the service may not check tokens: {error}") from error
        is_accepted = isinstance(found, TrainerPod)
        expires = self._clock() + (ACCEPTED_SECONDS if is_accepted else REJECTED_SECONDS)
        return _Review(expires, found if isinstance(found, TrainerPod) else None, "" if is_accepted else str(found))

    async def _pod_of(self, token: str) -> TrainerPod | str:
        """The pod, or why the token is not that of one."""
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        answer = await self._client.create("/apis/authentication.k8s.io/v1/tokenreviews", review)
        status = answer.get("status") or {}
        if status.get("authenticated") is not True or self._audience not in (status.get("audiences") or ()):
            return "the token is not valid for this service, or has expired"
        user = status.get("user") or {}
        extra = user.get("extra") or {}
        names, uids = list(extra.get(_POD_NAME) or ()), list(extra.get(_POD_UID) or ())
        of_namespace = str(user.get("username", "")).startswith(f"system:serviceaccount:{self._namespace}:")
        if len(names) != 1 or len(uids) != 1 or not of_namespace:
            return "the token is not bound to a pod of this namespace"
        try:
            pod = await self._client.get(f"/api/v1/namespaces/{self._namespace}/pods/{names[0]}")
        except NotFound:
            return f"pod {names[0]!r} does not exist any more"
        metadata = pod.get("metadata") or {}
        if metadata.get("uid") != uids[0]:
            return f"the token is that of an earlier pod {names[0]!r}"
        return _trainer_pod(metadata, pod.get("spec") or {})


def _trainer_pod(metadata: Json, spec: Json) -> TrainerPod:
    owners = [owner for owner in metadata.get("ownerReferences") or () if owner.get("controller")]
    job = str(owners[0].get("name")) if owners and owners[0].get("kind") == "Job" else ""
    labels = metadata.get("labels") or {}
    variables = (one for container in spec.get("containers") or () for one in container.get("env") or ())
    run_uid = next((one.get("value") for one in variables if one.get("name") == "RUN_UID"), "")
    return TrainerPod(str(metadata.get("name")), str(labels.get(RUN_LABEL, "")), job, str(run_uid))
