"""Authentication of trainers by the tokens they report with.

Owns what a token must be bound to: the cluster reviews it (TokenReview), and then the pod is read that it is bound to.
The result is cached, shortly because a pod's token expires with the pod. Tokens are not kept, only their digests. Must
not know runs beyond their names and uids.

A pod's environment variable RUN_UID says which run it was created for: that distinguishes it from the trainer of a
deleted run of the same name, which may still be running.

Source: Kubernetes, "Managing Service Accounts", bound service account tokens: the review of such a token names its pod
in ``extra``.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from aisandbox_access import Answer, AuthUnavailable, ReviewCache, review_token
from aisandbox_crds import RUN_LABEL, TrainingRun
from aisandbox_kubernetes import Client, Json, NotFound

from aisandbox_api.errors import BackendUnavailable, ClusterRefused, NotAuthenticated, NotPermitted
from aisandbox_api.kubernetes.call_errors import api_errors

LONGEST_TOKEN = 16 * 1024
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"


@dataclass(frozen=True, slots=True)
class TrainerPod:
    """The pod of a Job that a token is bound to; ``run`` is its label, ``run_uid`` its trainer's RUN_UID."""

    name: str
    run: str
    job: str
    run_uid: str


class TokenReviewer:
    """Reviews tokens with ``audience`` of pods in ``namespace``. For one event loop."""

    def __init__(
        self, client: Client, namespace: str, audience: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._audience = audience
        self._pods: ReviewCache[TrainerPod] = ReviewCache(clock)

    async def check(self, token: str, run: TrainingRun) -> None:
        """Returns if the token is that of a trainer of ``run``.

        Raises NotAuthenticated, NotPermitted, BackendUnavailable.
        """
        if len(token) > LONGEST_TOKEN:
            raise NotAuthenticated("authorization: the token is too long to be one")
        key = hashlib.sha256(token.encode()).digest()
        try:
            answer = await self._pods.get(key, partial(self._ask, token))
        except AuthUnavailable as error:
            raise BackendUnavailable(str(error)) from error
        pod = answer.value
        if pod is None:
            raise NotAuthenticated(f"authorization: {answer.why}")
        if pod.run != run.name or pod.job != run.name:
            raise NotPermitted(f"the token is that of pod {pod.name!r}, which is not a trainer of run {run.name!r}")
        if pod.run_uid != run.files_uid:
            raise NotPermitted(f"pod {pod.name!r} trains another run of the name {run.name!r}, which has been deleted")

    async def _ask(self, token: str) -> Answer[TrainerPod]:
        try:
            with api_errors():
                found = await self._pod_of(token)
        except ClusterRefused as error:
            raise BackendUnavailable(f"the service may not check tokens: {error}") from error
        return Answer(None, found) if isinstance(found, str) else Answer(found)

    async def _pod_of(self, token: str) -> TrainerPod | str:
        """The pod, or why the token is not that of one."""
        user = await review_token(self._client, token, self._audience)
        if isinstance(user, str):
            return user
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
