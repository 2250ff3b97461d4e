"""Whose token a trainer reports with.

Owns the question to the API (TokenReview, then the pod that the token is bound to) and the memory of its answers, which
is short because a pod's token dies with the pod. Tokens themselves are kept nowhere, only their digests. Must not know
runs beyond their names and uids.

A pod says in its environment which run it was made for, as to its trainer: that tells it from the trainer of a deleted
run of the same name, which may still be alive.

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

from aisandbox_crds.trainingrun import RUN_LABEL, TrainingRun
from aisandbox_kubernetes import Client, Json, NotFound

from aisandbox_api.errors import BackendUnavailable, ClusterRefused, NotAuthenticated, NotPermitted
from aisandbox_api.kubernetes.allowance import Allowance
from aisandbox_api.kubernetes.call_errors import api_errors

TRUSTED_SECONDS = 60.0
DISTRUSTED_SECONDS = 10.0
MOST_VERDICTS = 4096
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
class _Verdict:
    until: float
    pod: TrainerPod | None
    why: str


class TokenVerdicts:
    """Asks the API server about tokens with ``audience`` of pods in ``namespace``. For one event loop."""

    def __init__(
        self, client: Client, namespace: str, audience: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._audience = audience
        self._clock = clock
        self._verdicts: OrderedDict[bytes, _Verdict] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[_Verdict]] = {}
        self._allowance = Allowance(REVIEWS_A_SECOND, REVIEWS_AT_ONCE, clock)

    async def check(self, token: str, run: TrainingRun) -> None:
        """Passes if the token is that of a trainer of ``run``.

        Raises NotAuthenticated, NotPermitted, BackendUnavailable.
        """
        if len(token) > LONGEST_TOKEN:
            raise NotAuthenticated("authorization: the token is too long to be one")
        verdict = await self._verdict(token)
        if verdict.pod is None:
            raise NotAuthenticated(f"authorization: {verdict.why}")
        pod = verdict.pod
        if pod.run != run.name or pod.job != run.name:
            raise NotPermitted(f"the token is that of pod {pod.name!r}, which is not a trainer of run {run.name!r}")
        if pod.run_uid != run.uid:
            raise NotPermitted(f"pod {pod.name!r} trains another run of the name {run.name!r}, which has been deleted")

    async def _verdict(self, token: str) -> _Verdict:
        key = hashlib.sha256(token.encode()).digest()
        verdict = self._verdicts.get(key)
        if verdict is not None and verdict.until > self._clock():
            return verdict
        asking = self._asking.get(key)
        if asking is None:
            if not self._allowance.take():
                raise BackendUnavailable("more tokens than can be checked: report again in a moment")
            asking = self._asking[key] = asyncio.create_task(self._ask(token))
            asking.add_done_callback(lambda task: self._answered(key, task))
        return await asyncio.shield(asking)

    def _answered(self, key: bytes, task: asyncio.Task[_Verdict]) -> None:
        del self._asking[key]
        if task.cancelled() or task.exception() is not None:
            return
        self._verdicts[key] = task.result()
        self._verdicts.move_to_end(key)
        while len(self._verdicts) > MOST_VERDICTS:
            self._verdicts.popitem(last=False)

    async def _ask(self, token: str) -> _Verdict:
        try:
            with api_errors():
                found = await self._pod_of(token)
        except ClusterRefused as error:
            raise BackendUnavailable(f"the service may not check tokens: {error}") from error
        trusted = isinstance(found, TrainerPod)
        until = self._clock() + (TRUSTED_SECONDS if trusted else DISTRUSTED_SECONDS)
        return _Verdict(until, found if isinstance(found, TrainerPod) else None, "" if trusted else str(found))

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
            return f"pod {names[0]!r} is gone"
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
