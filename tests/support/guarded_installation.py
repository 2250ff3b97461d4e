"""An installation that asks its callers who they are, and admits what runs may say, with an account for each role."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from aisandbox_process.grpc_tls import open_channel
from aisandbox_process.tls import ChannelSecurity
from cluster import Cluster
from installed_images import replacements
from port_forward import PortForward
from tls_secrets import API, INFERENCE, TlsSecrets

ROOT = Path(__file__).parents[2]
POLICIES = ROOT / "deploy" / "policies"
FOLDER = ROOT / "build" / "e2e" / "guarded"
NAMESPACE = "aisandbox-guarded"
OPERATOR = "aisandbox-operator"
PORT = 50051
AUDIENCE = "aisandbox"
ROLES = ("viewer", "actor", "trainer", "simulator", "admin")
NOBODY = "nobody"
"""An account without a role."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """``place``: its namespace. ``api``, ``inference``: host:port here of both servers, with certificates of ``ca``."""

    place: Cluster
    api: str
    inference: str
    ca: Path

    def user(self, account: str) -> str:
        """The name of an account as the cluster and the service have it."""
        return f"system:serviceaccount:{self.place.namespace}:{account}"

    def token(self, account: str, audience: str = AUDIENCE, *more: str) -> str:
        """A token of the account; ``more``: arguments of ``kubectl create token``."""
        chosen = [f"--audience={audience}"] if audience else []
        return self.place.kubectl("create", "token", account, *chosen, *more).strip()

    def security(self, token: str, server: str = API) -> ChannelSecurity:
        """Of a client with the token."""
        return ChannelSecurity(tls=True, ca_file=self.ca, server_name=server, token=token)

    @contextmanager
    def channel(self, token: str, server: str = API) -> Iterator[Any]:
        """A connection of its own to one of the servers."""
        address = self.api if server == API else self.inference
        options = [("grpc.use_local_subchannel_pool", 1)]
        with open_channel(address, self.security(token, server), options) as channel:
            yield channel

    @contextmanager
    def calling(self, token: str, server: str = API) -> Iterator[Any]:
        """The service as a client with the token calls it."""
        with self.channel(token, server) as channel:
            yield PolicyTrainerServiceStub(channel)


@contextmanager
def guarded_installation(cluster: Cluster, folder: Path) -> Iterator[Guarded]:
    """Installs it in a namespace of its own, with the images that are installed, and removes it."""
    place = Cluster(cluster.kubectl.context, NAMESPACE)
    had_policies = cluster.kubectl("get", "-k", str(POLICIES), "--ignore-not-found", "-o", "name") != ""
    cluster.kubectl("create", "namespace", NAMESPACE)
    try:
        secrets = TlsSecrets(place, folder)
        _install(cluster, place)
        for account in (*ROLES, NOBODY):
            place.kubectl("create", "serviceaccount", account)
        for role in ROLES:
            subject = f"--serviceaccount={NAMESPACE}:{role}"
            place.kubectl("create", "rolebinding", role, f"--clusterrole=aisandbox-{role}", subject)
        with ExitStack() as stack:
            forwards = [PortForward(place.kubectl, f"service/{name}", PORT) for name in (API, INFERENCE)]
            api, inference = (stack.enter_context(each).address for each in forwards)
            yield Guarded(place, api, inference, secrets.api.ca)
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
        cluster.kubectl("delete", "clusterrolebinding", NAMESPACE, "--ignore-not-found")
        if not had_policies:
            cluster.kubectl("delete", "-k", str(POLICIES), "--ignore-not-found")


def _install(cluster: Cluster, place: Cluster) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    servers = (OPERATOR, API, INFERENCE)
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": ["../../../deploy/overlays/kind-tls-auth"],
        "components": ["../../../deploy/components/admission"],
        "images": replacements(cluster, servers),
    }
    (FOLDER / "kustomization.yaml").write_text(json.dumps(overlay))
    cluster.kubectl("apply", "-k", str(POLICIES))
    place.kubectl("apply", "-k", str(FOLDER))
    for name in servers:
        place.until_rolled_out(name)
