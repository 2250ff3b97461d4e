"""Callers of a Kubernetes cluster: their tokens are reviewed by it (TokenReview), and so are their permissions
(SubjectAccessReview).

Owns the calls of the API server, which verbs and resources stand for the permissions, and how long answers are kept.
Tokens are not kept, only their digests. Must not know methods or runs.

Sources: kubernetes.io, "Authentication" (webhook token reviews) and "Authorization Overview".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from aisandbox_kubernetes import CallFailed, Client, ClientClosed, Json

from aisandbox_access.authorizers import Target
from aisandbox_access.caching_authenticator import CachingAuthenticator
from aisandbox_access.errors import AuthUnavailable
from aisandbox_access.permissions import Permission
from aisandbox_access.principals import Principal
from aisandbox_access.review_cache import Answer, ReviewCache

TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 -- a path
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
GROUP = "aisandbox.dev"
RESOURCE = "trainingruns"

_VERBS: Mapping[Permission, tuple[str, str, str]] = {
    Permission.VIEW: ("list", "get", ""),
    Permission.TRAIN: ("create", "patch", ""),
    Permission.ACT: ("create", "create", "act"),
    Permission.MODEL: ("get", "get", "model"),
    Permission.SIMULATE: ("create", "create", "simulate"),
    Permission.ADMINISTER: ("*", "*", ""),
}
"""The verb for the service as a whole, that for a run, and the subresource; of ``simulate`` the name is a pool's."""


async def review_token(client: Client, token: str, audience: str) -> Mapping[str, Any] | str:
    """The user of a token with ``audience`` (empty: the API server's), or why it is none. Raises CallFailed."""
    spec: Json = {"token": token, **({"audiences": [audience]} if audience else {})}
    answer = await client.create(
        TOKEN_REVIEWS, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    )
    status = answer.get("status") or {}
    is_meant = not audience or audience in (status.get("audiences") or ())
    if status.get("authenticated") is not True or not is_meant:
        return "the token is not valid for this service, or has expired"
    user: Mapping[str, Any] = status.get("user") or {}
    return user


class ClusterAuthenticator(CachingAuthenticator):
    """Says whose token it is, by asking the cluster; the client is its own. For one event loop."""

    def __init__(self, client: Client, audience: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(ReviewCache(clock))
        self._client = client
        self._audience = audience

    async def start(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Closes the client."""
        await self._client.close()

    async def _ask(self, token: str) -> Answer[Principal]:
        try:
            user = await review_token(self._client, token, self._audience)
        except (CallFailed, ClientClosed) as error:
            raise AuthUnavailable(f"the cluster could not verify the token: {error}") from error
        if isinstance(user, str):
            return Answer(None, user)
        extra = {str(key): tuple(map(str, values)) for key, values in (user.get("extra") or {}).items()}
        groups = tuple(map(str, user.get("groups") or ()))
        return Answer(
            Principal(str(user.get("username", "")), groups=groups, uid=str(user.get("uid", "")), extra=extra)
        )


class ClusterAuthorizer:
    """Asks the cluster about permissions in ``namespace``: RBAC decides, and nothing else. For one event loop."""

    by_name = True

    def __init__(self, client: Client, namespace: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._namespace = namespace
        self._answers: ReviewCache[bool] = ReviewCache(clock, size=65_536)

    def known(self, principal: Principal, permission: Permission, target: Target | None) -> bool | None:
        """See Authorizer."""
        for question in _questions(permission, target):
            answer = self._answers.known((principal, *question))
            if answer is None:
                return None
            if answer.value:
                return True
        return False

    async def allows(self, principal: Principal, permission: Permission, target: Target | None) -> bool:
        """See Authorizer. Who may do it with all runs may do it with each."""
        for question in _questions(permission, target):
            answer = await self._answers.get((principal, *question), partial(self._ask, principal, *question))
            if answer.value:
                return True
        return False

    async def _ask(self, principal: Principal, verb: str, subresource: str, name: str) -> Answer[bool]:
        attributes = {
            "namespace": self._namespace,
            "group": GROUP,
            "resource": RESOURCE,
            "verb": verb,
            **({"subresource": subresource} if subresource else {}),
            **({"name": name} if name else {}),
        }
        spec: Json = {"user": principal.name, "groups": list(principal.groups), "resourceAttributes": attributes}
        if principal.uid:
            spec["uid"] = principal.uid
        if principal.extra:
            spec["extra"] = {key: list(values) for key, values in principal.extra.items()}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        try:
            answer = await self._client.create(ACCESS_REVIEWS, review)
        except (CallFailed, ClientClosed) as error:
            raise AuthUnavailable(f"the cluster could not say what {principal.name!r} may do: {error}") from error
        allowed = (answer.get("status") or {}).get("allowed") is True
        return Answer(True if allowed else None)


def _questions(permission: Permission, target: Target | None) -> tuple[tuple[str, str, str], ...]:
    """Verb, subresource and name of what is asked about, in order; an empty name means all."""
    for_service, for_run, subresource = _VERBS[permission]
    if target is None:
        return ((for_service, subresource, ""),)
    return ((for_run, subresource, ""), (for_run, subresource, target.name))
