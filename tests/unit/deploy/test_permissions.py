"""Each part may do what it does, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from aisandbox_access import ROLES, ClusterAuthorizer, Permission, Principal
from granted_permissions import CLUSTER, NAMESPACED, PEOPLE, PERMISSIONS, QUESTIONS, WITH_AUTH
from manifests import DEPLOY, Manifest, Manifests, rendered

OVERLAYS = ("overlays/kind", "overlays/kind-tls-auth", "overlays/production")


def _granted(manifests: Manifests) -> Iterator[tuple[str, str, str, str, str]]:
    """What the bindings give: account, scope, group, resource, verb."""
    for kind, scope in (("RoleBinding", NAMESPACED), ("ClusterRoleBinding", CLUSTER)):
        for binding in manifests.all(kind):
            reference = binding["roleRef"]
            role = manifests.one(reference["kind"], reference["name"])
            for subject in binding["subjects"]:
                assert subject["kind"] == "ServiceAccount"
                for rule in role["rules"]:
                    yield from _permissions(subject["name"], scope, rule)


def _permissions(account: str, scope: str, rule: Manifest) -> Iterator[tuple[str, str, str, str, str]]:
    assert rule.keys() <= {"apiGroups", "resources", "verbs", "resourceNames"}
    named = [f"{one}:{name}" for one in rule["resources"] for name in rule.get("resourceNames", ())]
    for group in rule["apiGroups"]:
        for resource in named or rule["resources"]:
            for verb in rule["verbs"]:
                yield account, scope, group, resource, verb


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_permissions_are_those_of_the_table(overlay: str) -> None:
    granted = list(_granted(Manifests.of(overlay)))
    permissions = (*PERMISSIONS, *(WITH_AUTH if overlay.endswith("auth") else ()))
    assert sorted(granted) == sorted(each for permission in permissions for each in permission.each())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_permissions_have_no_wildcard(overlay: str) -> None:
    manifests = Manifests.of(overlay)
    for kind in ("Role", "ClusterRole"):
        for role in manifests.all(kind):
            for rule in role["rules"]:
                values = [value for key in ("apiGroups", "resources", "verbs") for value in rule[key]]
                of_admin = role["metadata"]["name"] == "aisandbox-admin" and rule["verbs"] == ["*"]
                assert [value for value in values if "*" in value] == ["*"] * of_admin, role["metadata"]["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_roles_are_bound_to_accounts_that_are_used(overlay: str) -> None:
    manifests = Manifests.of(overlay)
    bound = {
        binding["roleRef"]["name"] for kind in ("RoleBinding", "ClusterRoleBinding") for binding in manifests.all(kind)
    }
    for_people = {role["metadata"]["name"] for role in manifests.all("ClusterRole") if _aggregates_to(role)} | {*PEOPLE}
    assert bound == (manifests.names("Role") | manifests.names("ClusterRole")) - for_people
    accounts = {pod["serviceAccountName"] for _, pod, _ in manifests.containers()}
    assert {account for account, *_ in _granted(manifests)} <= accounts


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_tokens_are_mounted_only_for_those_with_permissions(overlay: str) -> None:
    manifests = Manifests.of(overlay)
    for account in manifests.all("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False, account["metadata"]["name"]
    with_permissions = {account for account, *_ in _granted(manifests)}
    for name, pod, _ in manifests.containers():
        assert pod["automountServiceAccountToken"] is (pod["serviceAccountName"] in with_permissions), name


def _aggregates_to(role: Manifest) -> set[str]:
    """The roles of every cluster that take this one up."""
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    labels = role["metadata"].get("labels", {})
    return {key.removeprefix(prefix) for key, value in labels.items() if key.startswith(prefix) and value == "true"}


def _rules_of(role: str) -> list[Manifest]:
    """Those of a role of ours, or of one of every cluster with what it takes up."""
    roles = Manifests.of("overlays/kind").all("ClusterRole")
    return [
        rule for each in roles for rule in each["rules"] if role in {each["metadata"]["name"], *_aggregates_to(each)}
    ]


def _gives(rules: list[Manifest], verb: str, resource: str) -> bool:
    return any(
        rule["apiGroups"] == ["aisandbox.dev"] and resource in rule["resources"] and {verb, "*"} & {*rule["verbs"]}
        for rule in rules
    )


@pytest.mark.parametrize("role", PEOPLE)
def test_people_have_the_permissions_of_their_role(role: str) -> None:
    rules = _rules_of(role)
    assert {each for each in QUESTIONS if _gives(rules, *each.split())} == PEOPLE[role]


class Cluster:
    """Answers SubjectAccessReviews by these rules."""

    def __init__(self, rules: list[Manifest]) -> None:
        self._rules = rules

    async def create(self, path: str, review: Any) -> Any:
        asked = review["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        return {"status": {"allowed": _gives(self._rules, asked["verb"], resource)}}


@pytest.mark.parametrize("role", ROLES)
async def test_role_of_the_cluster_has_the_permissions_of_the_role_of_the_same_name(role: str) -> None:
    """As the service asks for them with AUTH=kubernetes, and has them itself with others."""
    authorizer = ClusterAuthorizer(cast(Any, Cluster(_rules_of(f"aisandbox-{role}"))), "aisandbox")
    found = {
        permission for permission in Permission if await authorizer.allows(Principal("somebody"), permission, None)
    }
    assert found == ROLES[role]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_second_installation_has_a_binding_of_its_own_for_its_own_account(overlay: str, tmp_path: Path) -> None:
    """By the book: an overlay with another namespace, and nothing else."""
    (tmp_path / "kustomization.yaml").write_text(
        f"namespace: team-b\nresources: [{os.path.relpath(DEPLOY / overlay, tmp_path.resolve())}]\n"
    )
    second, first = Manifests(tuple(rendered(tmp_path))), Manifests.of(overlay)
    for manifests, namespace in ((first, "aisandbox"), (second, "team-b")):
        (binding,) = manifests.all("ClusterRoleBinding")
        assert {each["namespace"] for each in binding["subjects"]} == {namespace}
        assert binding["metadata"]["name"] == namespace
        assert manifests.one("ClusterRole", binding["roleRef"]["name"])
        for each in manifests.all("RoleBinding"):
            assert {subject.get("namespace", namespace) for subject in each["subjects"]} == {namespace}
    shared = ("CustomResourceDefinition", "ClusterRole")
    for kind in shared:
        assert second.all(kind) == first.all(kind), "one installation would undo the other's"
    assert "aisandbox" not in {each["metadata"].get("namespace") for each in second.objects}
