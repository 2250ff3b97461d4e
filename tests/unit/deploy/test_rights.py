"""Each part may do what it does, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from manifests import DEPLOY, Manifest, Manifests, rendered
from rights import CLUSTER, NAMESPACED, RIGHTS, USERS

OVERLAYS = ("overlays/kind", "overlays/production")


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
    assert rule.keys() == {"apiGroups", "resources", "verbs"}
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                yield account, scope, group, resource, verb


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_rights_are_those_of_the_table(overlay: str) -> None:
    granted = list(_granted(Manifests.of(overlay)))
    assert sorted(granted) == sorted(each for right in RIGHTS for each in right.each())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_rights_have_no_wildcard(overlay: str) -> None:
    manifests = Manifests.of(overlay)
    for kind in ("Role", "ClusterRole"):
        for role in manifests.all(kind):
            for rule in role["rules"]:
                values = [value for key in ("apiGroups", "resources", "verbs") for value in rule[key]]
                assert not [value for value in values if "*" in value], role["metadata"]["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_roles_are_bound_to_accounts_that_are_used(overlay: str) -> None:
    manifests = Manifests.of(overlay)
    bound = {
        binding["roleRef"]["name"] for kind in ("RoleBinding", "ClusterRoleBinding") for binding in manifests.all(kind)
    }
    aggregated = {role["metadata"]["name"] for role in manifests.all("ClusterRole") if _aggregates_to(role)}
    assert bound == (manifests.names("Role") | manifests.names("ClusterRole")) - aggregated
    accounts = {pod["serviceAccountName"] for _, pod, _ in manifests.containers()}
    assert {account for account, *_ in _granted(manifests)} <= accounts


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_tokens_are_mounted_only_for_those_with_rights(overlay: str) -> None:
    manifests = Manifests.of(overlay)
    for account in manifests.all("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False, account["metadata"]["name"]
    with_rights = {account for account, *_ in _granted(manifests)}
    for name, pod, _ in manifests.containers():
        assert pod["automountServiceAccountToken"] is (pod["serviceAccountName"] in with_rights), name


def _aggregates_to(role: Manifest) -> set[str]:
    """The roles of every cluster that take this one up."""
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    labels = role["metadata"].get("labels", {})
    return {key.removeprefix(prefix) for key, value in labels.items() if key.startswith(prefix) and value == "true"}


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("role", USERS)
def test_users_of_a_namespace_have_the_rights_of_their_role(overlay: str, role: str) -> None:
    given: dict[str, set[str]] = {}
    for each in Manifests.of(overlay).all("ClusterRole"):
        for rule in each["rules"] if role in _aggregates_to(each) else ():
            assert rule["apiGroups"] == ["aisandbox.dev"]
            for resource in rule["resources"]:
                given.setdefault(resource, set()).update(rule["verbs"])
    assert given == {"trainingruns": set(USERS[role]), "trainingruns/status": {"get", "list", "watch"}}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_second_installation_has_a_binding_of_its_own_for_its_own_account(overlay: str, tmp_path: Path) -> None:
    """By the book: an overlay with another namespace, and nothing else."""
    (tmp_path / "kustomization.yaml").write_text(
        f"namespace: team-b\nresources: [{os.path.relpath(DEPLOY / overlay, tmp_path.resolve())}]\n"
    )
    second, first = Manifests(tuple(rendered(tmp_path))), Manifests.of(overlay)
    for manifests, namespace in ((first, "aisandbox"), (second, "team-b")):
        (binding,) = manifests.all("ClusterRoleBinding")
        assert [each["namespace"] for each in binding["subjects"]] == [namespace]
        assert binding["metadata"]["name"] == namespace
        assert manifests.one("ClusterRole", binding["roleRef"]["name"])
        for each in manifests.all("RoleBinding"):
            assert {subject.get("namespace", namespace) for subject in each["subjects"]} == {namespace}
    shared = ("CustomResourceDefinition", "ClusterRole")
    for kind in shared:
        assert second.all(kind) == first.all(kind), "one installation would undo the other's"
    assert "aisandbox" not in {each["metadata"].get("namespace") for each in second.objects}
