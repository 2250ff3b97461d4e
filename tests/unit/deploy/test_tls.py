"""What the component with TLS installs fits together: files, names, probes, and who gets the key."""

from __future__ import annotations

from typing import Any

import pytest
from aisandbox_operator.job_manifest import job_manifest
from aisandbox_operator.settings import Settings
from manifests import DEPLOY, LOADER, Manifests
from operator_objects import RUN_UID, spec

SERVERS = ("aisandbox-api", "aisandbox-inference")


@pytest.fixture(scope="module")
def manifests() -> Manifests:
    return Manifests.of("overlays/kind-tls")


def _secret(manifests: Manifests, name: str) -> str:
    (volume,) = (
        volume
        for deployment, pod, _ in manifests.containers()
        if deployment == name
        for volume in pod["volumes"]
        if "secret" in volume
    )
    return str(volume["secret"]["secretName"])


@pytest.mark.parametrize("name", SERVERS)
def test_files_are_in_the_secret_of_the_server(manifests: Manifests, name: str) -> None:
    (container,) = (each for deployment, _, each in manifests.containers() if deployment == name)
    (folder,) = (each["mountPath"] for each in container["volumeMounts"] if each["name"] == "tls")
    files = {key: value for key, value in manifests.environ(name).items() if key.startswith("TLS_")}
    assert {value.rpartition("/")[0] for value in files.values()} == {folder}
    assert {value.rpartition("/")[2] for value in files.values()} <= {"tls.crt", "tls.key", "ca.crt"}
    assert _secret(manifests, name) == f"{name}-tls"


@pytest.mark.parametrize("name", SERVERS)
def test_probes_do_not_need_tls(manifests: Manifests, name: str) -> None:
    (container,) = (each for deployment, _, each in manifests.containers() if deployment == name)
    assert "METRICS_PORT" in manifests.environ(name)
    for probe, path in (("startupProbe", "/livez"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
        assert "grpc" not in container[probe]
        assert container[probe]["httpGet"] == {"path": path, "port": "metrics"}


def test_services_name_the_protocol(manifests: Manifests) -> None:
    for service in manifests.all("Service"):
        protocols = {port["name"]: port.get("appProtocol") for port in service["spec"]["ports"]}
        assert {protocols[name] for name in ("grpc", "trainers") if name in protocols} <= {"https"}


def test_trainers_get_the_authority_of_the_api_server_only(manifests: Manifests) -> None:
    settings = Settings.from_environ(manifests.environ("aisandbox-operator"))
    assert settings.progress_ca_secret == _secret(manifests, "aisandbox-api")
    job = job_manifest("walk", RUN_UID, spec(), settings, 0, False)
    volumes = job["spec"]["template"]["spec"]["volumes"]
    secrets = [source["secret"] for each in volumes for source in each.get("projected", {}).get("sources", [])[1:]]
    assert [[item["key"] for item in secret["items"]] for secret in secrets] == [["ca.crt"]]


def test_sample_certificates_are_for_the_names_that_are_dialled(manifests: Manifests) -> None:
    import yaml

    objects: list[Any] = list(yaml.load_all((DEPLOY / "samples/tls/certificates.yaml").read_text(), Loader=LOADER))
    names = {
        each["spec"]["secretName"]: each["spec"].get("dnsNames") for each in objects if "secretName" in each["spec"]
    }
    for name in SERVERS:
        assert {name, f"{name}.aisandbox.svc"} <= set(names[_secret(manifests, name)])
    host, _, _ = manifests.environ("aisandbox-operator")["PROGRESS_ADDRESS"].partition(":")
    assert host in names[_secret(manifests, "aisandbox-api")]
