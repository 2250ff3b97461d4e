"""The roles for people: what the cluster says of them, as ``kubectl auth can-i`` explains it, and who may give them."""

from __future__ import annotations

from functools import partial

import pytest
from cluster import Cluster
from granted_permissions import PEOPLE, QUESTIONS
from kubectl import Kubectl
from waiting import wait_until


def user_with(role: str) -> str:
    return f"somebody-with-{role}"


def may(cluster: Cluster, role: str, question: str, namespace: str) -> bool:
    verb, resource = question.split()
    return cluster.may(user_with(role), verb, resource, namespace)


@pytest.fixture
def scratch(cluster: Cluster, scratch_namespace: str) -> Kubectl:
    """kubectl for a namespace where somebody is bound to each role."""
    kubectl = Kubectl(cluster.kubectl.context, scratch_namespace)
    for role, permissions in PEOPLE.items():
        kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={user_with(role)}")
        look = partial(may, cluster, role, min(permissions), scratch_namespace)
        wait_until(look)  # a controller puts the roles of every cluster together
    return kubectl


def explained(kubectl: Kubectl, user: str, verb: str, resource: str) -> str:
    kind, _, part = resource.partition("/")
    chosen = [f"--subresource={part}"] if part else []
    return kubectl.attempt("auth", "can-i", verb, kind, *chosen, f"--as={user}").stdout.strip()


def test_roles_let_people_do_what_the_table_says(cluster: Cluster, scratch: Kubectl) -> None:
    for role, permissions in PEOPLE.items():
        assert {each for each in QUESTIONS if may(cluster, role, each, scratch.namespace)} == permissions, role
        assert not [each for each in QUESTIONS if may(cluster, role, each, "default")], role


def test_kubectl_explains_what_only_the_service_asks_for(scratch: Kubectl) -> None:
    for role, permissions in PEOPLE.items():
        for verb, resource in (("create", "act"), ("get", "model"), ("create", "simulate")):
            what = f"trainingruns/{resource}"
            expected = "yes" if f"{verb} {what}" in permissions else "no"
            assert explained(scratch, user_with(role), verb, what) == expected, (role, what)


def test_simulator_may_be_bound_to_one_pool(scratch: Kubectl) -> None:
    chosen = ("--resource=trainingruns.aisandbox.dev/simulate", "--verb=create", "--resource-name=arena")
    scratch("create", "role", "arena", *chosen)
    scratch("create", "rolebinding", "arena", "--role=arena", "--user=plant-7")

    def may_join(pool: str) -> str:
        what = ("auth", "can-i", "create", f"trainingruns.aisandbox.dev/{pool}", "--subresource=simulate")
        return scratch.attempt(*what, "--as=plant-7").stdout.strip()

    wait_until(lambda: may_join("arena"), lambda answer: answer == "yes")
    assert may_join("other") == "no"


def test_administrator_of_a_namespace_may_give_the_roles_to_others(scratch: Kubectl) -> None:
    """The cluster lets people give away only what they have: its role ``admin`` has all of ours."""
    for role in PEOPLE:
        given = ("create", "rolebinding", f"guest-{role}", f"--clusterrole={role}", "--user=guest")
        scratch(*given, f"--as={user_with('admin')}")
