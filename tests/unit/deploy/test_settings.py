"""The variables of the containers are those that the programs read, with values they take."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aisandbox_api.endpoints import parse_service_address
from aisandbox_api.settings import Settings as ApiSettings
from aisandbox_inference.settings import Settings as InferenceSettings
from aisandbox_operator.settings import Settings as OperatorSettings
from manifests import Manifests

READERS: dict[str, Callable[[Mapping[str, str]], Any]] = {
    "aisandbox-operator": OperatorSettings.from_environ,
    "aisandbox-api": ApiSettings.from_environ,
    "aisandbox-inference": InferenceSettings.from_environ,
}


class Watched(Mapping[str, str]):
    """Variables that remember which of them were asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values_ = values
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self.values_[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


@pytest.fixture(params=["overlays/kind", "overlays/kind-tls-auth", "overlays/production"])
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return Manifests.of(request.param)


def _environ(manifests: Manifests, deployment: str, models: Path) -> dict[str, str]:
    environ = manifests.environ(deployment)
    if "MODELS_DIR" in environ:
        environ["MODELS_DIR"] = str(models)  # the mount point is not here
    return environ


@pytest.mark.parametrize("deployment", READERS)
def test_variables_are_read_and_taken(manifests: Manifests, deployment: str, tmp_path: Path) -> None:
    watched = Watched(_environ(manifests, deployment, tmp_path))
    READERS[deployment](watched)
    assert set(watched) - watched.asked == {"HOME", "TMPDIR"}, "these are Python's"


def test_ports_are_those_of_the_containers(manifests: Manifests) -> None:
    variables = {"grpc": "GRPC_PORT", "http": "HTTP_PORT", "metrics": "METRICS_PORT", "probes": "PROBE_PORT"}
    for name, _, container in manifests.containers():
        environ = manifests.environ(name)
        ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
        numbers = {port: environ[variable] for port, variable in variables.items() if variable in environ}
        if "TRAINER_ADDRESS" in environ:
            numbers["trainers"] = environ["TRAINER_ADDRESS"].rpartition(":")[2]
        assert ports == numbers, name


def test_files_are_where_the_volume_is(manifests: Manifests) -> None:
    for name, _, container in manifests.containers():
        mounts = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", [])}
        assert manifests.environ(name).get("MODELS_DIR") == mounts.get("models"), name


def test_addresses_name_services_and_their_ports(manifests: Manifests) -> None:
    host, _, port = manifests.environ("aisandbox-operator")["PROGRESS_ADDRESS"].partition(":")
    name, namespace, kind = host.split(".")
    service = manifests.one("Service", name)
    assert (service["metadata"]["namespace"], kind) == (namespace, "svc")
    (found,) = [each["name"] for each in service["spec"]["ports"] if each["port"] == int(port)]
    assert found == "trainers"


@pytest.mark.parametrize("variable", ["INFERENCE_ADDRESS", "REPLICAS_ADDRESS"])
def test_api_server_follows_the_pods_of_a_service_by_a_port_that_it_has(manifests: Manifests, variable: str) -> None:
    pods = parse_service_address(manifests.environ("aisandbox-api")[variable])
    assert pods is not None
    assert pods.port in [each["name"] for each in manifests.one("Service", pods.service)["spec"]["ports"]]


def test_operator_names_what_there_is(manifests: Manifests) -> None:
    environ = manifests.environ("aisandbox-operator")
    assert environ["TRAINER_SERVICE_ACCOUNT"] in manifests.names("ServiceAccount")
    assert environ["MODELS_CLAIM"] in manifests.names("PersistentVolumeClaim")


def test_both_ends_agree_about_the_audience(manifests: Manifests) -> None:
    ends = [manifests.environ(name)["PROGRESS_AUDIENCE"] for name in ("aisandbox-operator", "aisandbox-api")]
    assert ends[0] == ends[1]


def test_trainers_have_requests_and_a_limit_of_memory(manifests: Manifests) -> None:
    resources = json.loads(manifests.environ("aisandbox-operator")["TRAINER_RESOURCES"])
    assert {name: set(amounts) for name, amounts in resources.items()} == {
        "requests": {"cpu", "memory"},
        "limits": {"memory"},
    }
