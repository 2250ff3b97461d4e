"""Each part may do what it does, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from manifests import Manifest, Manifests
from rights import CLUSTER, NAMESPACED, RIGHTS

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
    assert bound == manifests.names("Role") | manifests.names("ClusterRole")
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
