"""The overlay with TLS: a run trains, reports and acts while certificates and their authority are renewed."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from aisandbox_environment import Attachment, list_simulators
from aisandbox_process.grpc_tls import open_channel
from aisandbox_process.tls import ChannelSecurity
from attached_simulators import SIMULATION
from cluster import ENDLESS, Cluster, manifest_of
from installed_images import replacements
from port_forward import PortForward
from tls_secrets import API, INFERENCE, TlsSecrets
from waiting import wait_until

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "e2e" / "tls"
NAMESPACE = "aisandbox-tls"
SERVERS = ("aisandbox-operator", "aisandbox-api", "aisandbox-inference")
PORT = 50051
RUN = "by-tls"


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[Cluster]:
    """A namespace of its own."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    yield Cluster(cluster.kubectl.context, NAMESPACE)
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    cluster.kubectl("delete", "clusterrolebinding", NAMESPACE, "--ignore-not-found")


@pytest.fixture(scope="module")
def made(place: Cluster, tmp_path_factory: pytest.TempPathFactory) -> TlsSecrets:
    return TlsSecrets(place, tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def installed(cluster: Cluster, place: Cluster, made: TlsSecrets) -> Cluster:
    """The overlay kind-tls there, with the images that are installed."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": ["../../../deploy/overlays/kind-tls"],
        "images": replacements(cluster, SERVERS),
    }
    (FOLDER / "kustomization.yaml").write_text(json.dumps(overlay))
    place.kubectl("apply", "-k", str(FOLDER))
    for name in SERVERS:
        place.until_rolled_out(name)
    return place


@contextmanager
def calling(address: str, security: ChannelSecurity) -> Iterator[Any]:
    """A connection of its own to the service."""
    with open_channel(address, security, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield PolicyTrainerServiceStub(channel)


def steps(address: str, security: ChannelSecurity) -> int:
    with calling(address, security) as stub:
        status = stub.GetTrainingStatus(pb.StatusRequest(run_id=RUN), timeout=30, wait_for_ready=True)
    return int(status.timesteps_done)


def acts(address: str, security: ChannelSecurity) -> bool:
    with calling(address, security) as stub:
        try:
            stub.Act(pb.ActRequest(run_id=RUN, observation=[0.0] * 4), timeout=30)
        except grpc.RpcError:
            return False
    return True


def certificate_at(address: str) -> str:
    host, _, port = address.partition(":")
    try:
        return ssl.get_server_certificate((host, int(port)), timeout=10)
    except OSError:
        return ""


def test_run_trains_and_acts_while_certificates_are_renewed(installed: Cluster, made: TlsSecrets) -> None:
    security = ChannelSecurity(tls=True, ca_file=made.api.ca, server_name=API)
    installed.kubectl.apply(manifest_of(RUN, **ENDLESS))
    with PortForward(installed.kubectl, f"service/{API}", PORT) as forward:
        address = forward.address
        before = wait_until(lambda: steps(address, security), seconds=240)
        wait_until(lambda: acts(address, security), seconds=240)
        served = certificate_at(address)
        with _attached(address, security):
            wait_until(lambda: list_simulators(address, security=security), seconds=60)

        made.renew()
        wait_until(lambda: certificate_at(address), lambda found: found not in ("", served), seconds=240)
        made.api.ca.write_bytes(made.api.authority.cert_pem.bytes())  # of the client here: the new one only
        wait_until(lambda: steps(address, security), lambda now: now > before, seconds=240)

        # New pods have no connection of before.
        for name in (INFERENCE, API):
            installed.restart(name)
        now = wait_until(lambda: steps(address, security), seconds=240)
        wait_until(lambda: steps(address, security), lambda later: later > now, seconds=240)
        wait_until(lambda: acts(address, security), seconds=240)
    installed.kubectl("delete", "trainingrun", RUN, "--wait=false")


@contextmanager
def _attached(address: str, security: ChannelSecurity) -> Iterator[None]:
    attachment = Attachment(SIMULATION, address, "arena", security=security)
    thread = threading.Thread(target=attachment.run)
    thread.start()
    try:
        yield
    finally:
        attachment.stop()
        thread.join(60)
