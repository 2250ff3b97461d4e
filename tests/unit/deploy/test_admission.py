"""The policies and their limits fit together, and what the operator refuses; tests/e2e has what they refuse."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from aisandbox_access import OWNER_ANNOTATION
from aisandbox_operator.pod_template_limits import EVERY_TAINT, RESERVED, RESERVED_DOMAINS
from manifests import DEPLOY, Manifest, Manifests, rendered

LIMIT = re.compile(r"limits[.]aisandbox[.]dev/[a-z-]+[a-z]")


@pytest.fixture(scope="module")
def policies() -> Manifests:
    return Manifests.of("policies")


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """That of an overlay with the component."""
    folder = tmp_path_factory.mktemp("overlay").resolve()
    base, component = (os.path.relpath(DEPLOY / each, folder) for each in ("base", "components/admission"))
    (folder / "kustomization.yaml").write_text(f"namespace: team-b\nresources: [{base}]\ncomponents: [{component}]\n")
    return Manifests(tuple(rendered(Path(folder)))).one("Namespace", "team-b")


def _expressions(policies: Manifests, name: str) -> str:
    spec = policies.one("ValidatingAdmissionPolicy", name)["spec"]
    parts = [*spec["variables"], *spec["validations"]]
    return "\n".join(each[key] for each in parts for key in ("expression", "messageExpression") if key in each)


def test_policies_are_bound_to_the_namespaces_that_ask_for_them(policies: Manifests, namespace: Manifest) -> None:
    assert policies.names("ValidatingAdmissionPolicy") == policies.names("ValidatingAdmissionPolicyBinding")
    for each in policies.all("ValidatingAdmissionPolicyBinding"):
        assert each["spec"]["policyName"] == each["metadata"]["name"]
        assert each["spec"]["validationActions"] == ["Deny"]
        labels = each["spec"]["matchResources"]["namespaceSelector"]["matchLabels"]
        assert labels.items() <= namespace["metadata"]["labels"].items()
    for each in policies.all("ValidatingAdmissionPolicy"):
        assert each["spec"]["failurePolicy"] == "Fail"


def test_limits_are_those_that_the_policy_reads(policies: Manifests, namespace: Manifest) -> None:
    policy = _expressions(policies, "aisandbox-run-limits")
    read = {each for each in LIMIT.findall(policy) if not each.endswith("/max")}
    computed = {f"limits.aisandbox.dev/max-{name}" for name in ("cpu", "memory", "devices")}
    assert {each for each in namespace["metadata"]["annotations"] if LIMIT.match(each)} == read | computed


def test_what_is_reserved_is_what_the_operator_reserves(policies: Manifests, namespace: Manifest) -> None:
    domains = namespace["metadata"]["annotations"]["limits.aisandbox.dev/refused-labels"].split(", ")
    assert tuple(domains) == RESERVED_DOMAINS
    policy = _expressions(policies, "aisandbox-run-limits")
    (taints,) = re.findall(r"key[.]matches[(]'(.+?)'[)]", policy)
    for taint in RESERVED["tolerations"]:
        assert re.match(taints, taint) or taint == EVERY_TAINT, taint
    assert f"'{EVERY_TAINT}'" in policy
    for name in RESERVED["priorityClasses"]:
        assert f"'{name}'" in policy


def test_owner_is_the_annotation_that_the_service_writes(policies: Manifests) -> None:
    assert f"'{OWNER_ANNOTATION}'" in _expressions(policies, "aisandbox-run-owner")
