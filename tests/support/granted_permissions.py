"""What each part of the system does to the cluster, and so may do: the manifests and the cluster must match it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

NAMESPACED = "namespace"
CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class GrantedPermission:
    """Verbs on one resource, or the object KIND:NAME, and what for."""

    account: str
    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    scope: str = NAMESPACED

    def __str__(self) -> str:
        return f"{self.account} {' '.join(self.verbs)} {self.resource}"

    def each(self) -> Iterator[tuple[str, str, str, str, str]]:
        """Every single permission: account, scope, group, resource, verb."""
        for verb in self.verbs:
            yield self.account, self.scope, self.group, self.resource, verb


PERMISSIONS = (
    GrantedPermission("aisandbox-operator", "aisandbox.dev", "trainingruns", ("list", "watch"), "which runs there are"),
    GrantedPermission(
        "aisandbox-operator", "aisandbox.dev", "trainingruns", ("get",), "the newest state before it acts"
    ),
    GrantedPermission(
        "aisandbox-operator", "aisandbox.dev", "trainingruns/status", ("patch",), "phase, conditions, the end"
    ),
    GrantedPermission(
        "aisandbox-operator", "aisandbox.dev", "trainingruns/finalizers", ("update",), "Jobs that block deletion"
    ),
    GrantedPermission("aisandbox-operator", "batch", "jobs", ("get", "list", "watch"), "the state of the Jobs"),
    GrantedPermission("aisandbox-operator", "batch", "jobs", ("create", "patch"), "server-side apply of a run's Job"),
    GrantedPermission(
        "aisandbox-operator", "batch", "jobs", ("delete",), "cancel, and a finished Job after its time to live"
    ),
    GrantedPermission(
        "aisandbox-operator", "", "pods", ("list", "watch"), "why a trainer does not start, how it ended"
    ),
    GrantedPermission(
        "aisandbox-operator", "", "pods/status", ("patch",), "a pod that is deleted is no failure of its trainer"
    ),
    GrantedPermission("aisandbox-operator", "", "secrets", ("create",), "the keys of runs"),
    GrantedPermission(
        "aisandbox-operator", "", "secrets:aisandbox-checkpoint-secret", ("get",), "what keys are derived from"
    ),
    GrantedPermission(
        "aisandbox-operator", "events.k8s.io", "events", ("create",), "transitions, for kubectl describe"
    ),
    GrantedPermission("aisandbox-operator", "events.k8s.io", "events", ("list",), "why no pod of a Job can be created"),
    GrantedPermission(
        "aisandbox-api", "aisandbox.dev", "trainingruns", ("list", "watch"), "the cache that answers all calls"
    ),
    GrantedPermission("aisandbox-api", "aisandbox.dev", "trainingruns", ("get",), "what the cache has not seen yet"),
    GrantedPermission("aisandbox-api", "aisandbox.dev", "trainingruns", ("create",), "StartTraining..."),
    GrantedPermission("aisandbox-api", "aisandbox.dev", "trainingruns", ("patch",), "suspend, resume, cancel"),
    GrantedPermission("aisandbox-api", "aisandbox.dev", "trainingruns/status", ("patch",), "progress"),
    GrantedPermission("aisandbox-api", "", "pods", ("get",), "whether a token's pod is the run's"),
    GrantedPermission(
        "aisandbox-api",
        "discovery.k8s.io",
        "endpointslices",
        ("list",),
        "where other servers and replicas are",
    ),
    GrantedPermission(
        "aisandbox-api",
        "authentication.k8s.io",
        "tokenreviews",
        ("create",),
        "whose token a report of progress has, or a call with AUTH=kubernetes",
        CLUSTER,
    ),
    GrantedPermission(
        "aisandbox-api",
        "authorization.k8s.io",
        "subjectaccessreviews",
        ("create",),
        "what the maker of a call may do, with AUTH=kubernetes",
        CLUSTER,
    ),
)

WITH_AUTH = (
    GrantedPermission(
        "aisandbox-api", "aisandbox.dev", "trainingruns/act", ("create",), "Act at the inference-servers"
    ),
    GrantedPermission(
        "aisandbox-api", "aisandbox.dev", "trainingruns/model", ("get",), "GetModel at the inference-servers"
    ),
    GrantedPermission(
        "aisandbox-inference",
        "authentication.k8s.io",
        "tokenreviews",
        ("create",),
        "whose token a call has",
        CLUSTER,
    ),
    GrantedPermission(
        "aisandbox-inference",
        "authorization.k8s.io",
        "subjectaccessreviews",
        ("create",),
        "what the maker of a call may do",
        CLUSTER,
    ),
)
"""What components/auth-kubernetes adds."""

SEES = ("get trainingruns", "list trainingruns", "watch trainingruns", "get trainingruns/status")
ACTS = ("create trainingruns/act", "get trainingruns/model")
STARTS = ("create trainingruns", "update trainingruns", "patch trainingruns")
DELETES = ("delete trainingruns", "deletecollection trainingruns")
SIMULATES = ("create trainingruns/simulate",)
PEOPLE = {
    "aisandbox-viewer": {*SEES},
    "aisandbox-actor": {*SEES, *ACTS},
    "aisandbox-trainer": {*SEES, *ACTS, *STARTS},
    "aisandbox-simulator": {*SIMULATES},
    "aisandbox-admin": {*SEES, *ACTS, *STARTS, *DELETES, *SIMULATES, "* trainingruns"},
    "view": {*SEES},
    "edit": {*SEES, *ACTS, *STARTS, *DELETES, *SIMULATES},
    "admin": {*SEES, *ACTS, *STARTS, *DELETES, *SIMULATES, "* trainingruns"},
}
"""What each role lets people do: "VERB RESOURCE". The last three are those of every cluster."""
QUESTIONS = (*sorted(PEOPLE["admin"]), "patch trainingruns/status", "update trainingruns/status")

REFUSED = (
    ("aisandbox-operator", "secrets", "get", "it reads its own only"),
    ("aisandbox-operator", "pods", "create", "Jobs do that"),
    ("aisandbox-operator", "pods", "delete", "Jobs do that"),
    ("aisandbox-operator", "trainingruns.aisandbox.dev", "patch", "the spec is the user's"),
    ("aisandbox-operator", "trainingruns.aisandbox.dev", "delete", "a run is the user's"),
    ("aisandbox-api", "jobs.batch", "get", "Jobs are the operator's"),
    ("aisandbox-api", "pods", "list", "the token names the pod"),
    ("aisandbox-api", "secrets", "get", "it needs none"),
    ("aisandbox-api", "trainingruns.aisandbox.dev", "delete", "cancel keeps the run"),
    ("aisandbox-inference", "trainingruns.aisandbox.dev", "get", "it knows files only"),
    ("aisandbox-trainer", "trainingruns.aisandbox.dev", "get", "it gets its spec with the Job"),
    ("aisandbox-trainer", "pods", "get", "it knows nothing of the cluster"),
)
"""Account, resource, verb, and why not."""
