"""The installed system as the tests see it: a cluster, a namespace, the Services' addresses.

Nothing is installed here: scripts/e2e.py does that (``make e2e``), or whoever runs these tests against a cluster of
their own. Which cluster: ``--kube-context`` (default: the current one) and ``--namespace``.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from cluster import SHORT, Cluster, manifest_of
from cluster_report import collect
from guarded_installation import Guarded, guarded_installation
from kubectl import Kubectl
from pod_logs import PodLogs
from port_forward import PortForward

API = "aisandbox-api"
PORT = 50051
PULLING = "aisandbox-e2e-pull"
WITHOUT_TRAINER = ("test_trainingrun_resource", "test_manifests", "test_roles")
NOBODY = "nobody.invalid:50061"
SIMULATOR = Path(__file__).parents[2] / "deploy" / "samples" / "simulator"
# Quick ones and those that need no trainer first; what restarts the system's parts late; what reads their logs last.
ORDER = (
    "test_trainingrun_resource",
    "test_manifests",
    "test_roles",
    "test_training",
    "test_ways_of_learning",
    "test_api_server",
    "test_simulator_pools",
    "test_operator",
    "test_backup",
    "test_rollouts",
    "test_second_installation",
    "test_tls",
    "test_trouble",
    # These share one more installation, which stays from the first of them to the end.
    "test_callers",
    "test_admission",
    "test_quotas",
    "test_aftermath",
)
STUBBORN_CALLS = """{"methodConfig": [{"name": [{}], "waitForReady": true, "retryPolicy": {"maxAttempts": 5,
    "initialBackoff": "0.2s", "maxBackoff": "2s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}"""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cluster")
    group.addoption("--kube-context", default=os.environ.get("KUBE_CONTEXT", ""), help="default: the current one")
    group.addoption("--namespace", default="aisandbox", help="where the system is installed (default: aisandbox)")
    group.addoption("--logs", type=Path, default=Path("build/e2e-logs"), help="where to write what the pods said")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(600))
    names = {name: place for place, name in enumerate(ORDER)}
    items.sort(key=lambda item: names.get(item.path.stem, names["test_trouble"]))


@pytest.fixture(scope="session")
def namespace(pytestconfig: pytest.Config) -> str:
    """Of the installed system and its runs."""
    return str(pytestconfig.getoption("--namespace"))


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config, namespace: str) -> Cluster:
    return Cluster(str(pytestconfig.getoption("--kube-context")), namespace)


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster) -> Kubectl:
    return cluster.kubectl


@pytest.fixture(scope="session", autouse=True)
def pod_logs(pytestconfig: pytest.Config, request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[PodLogs]:
    """What all pods say during the tests; with a report of the cluster when a test has failed."""
    folder: Path = pytestconfig.getoption("--logs")
    with PodLogs(cluster.core, cluster.namespace, folder / "pods") as logs:
        yield logs
        if request.session.testsfailed:
            collect(cluster.kubectl, folder)
            print(f"\nWhat the cluster looked like: {folder}")


@pytest.fixture(scope="session")
def trainer_in_nodes(kubectl: Kubectl) -> None:
    """The trainer's image has been fetched, where scripts/e2e.py began to; elsewhere a pod waits for it."""
    chosen = ("--namespace=default", "pod", f"--selector=app={PULLING}")
    if kubectl("get", *chosen, "--output=name"):
        kubectl("wait", *chosen, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=900s", seconds=920)


@pytest.fixture(autouse=True)
def _trainer_where_it_is_needed(request: pytest.FixtureRequest) -> None:
    if request.path.stem not in WITHOUT_TRAINER:
        request.getfixturevalue("trainer_in_nodes")


@pytest.fixture
def replica_addresses(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Two api-servers, each called by itself: their addresses by the names of their pods."""
    cluster.kubectl("scale", f"deployment/{API}", "--replicas=2")
    try:
        cluster.until_rolled_out(API)
        pods = cluster.staying_pods(f"app.kubernetes.io/name={API}")
        assert len(pods) == 2, pods
        with ExitStack() as stack:
            forwards = {pod: PortForward(cluster.kubectl, f"pod/{pod}", PORT) for pod in pods}
            yield {pod: stack.enter_context(forward).address for pod, forward in forwards.items()}
    finally:
        cluster.kubectl("scale", f"deployment/{API}", "--replicas=1")
        cluster.until_rolled_out(API)


@pytest.fixture
def scratch_namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace that no operator watches, for tests of the resource alone."""
    name = f"scratch-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def simulator(cluster: Cluster) -> Iterator[str]:
    """The address of cart-poles in the cluster, as a trainer dials it: the sample, with the image that is installed."""
    objects = cluster.kubectl("kustomize", str(SIMULATOR))
    objects = re.sub(r"image: \S+/trainer:\S+", f"image: {cluster.trainer_image()}", objects)
    objects = objects.replace("namespace: aisandbox\n", f"namespace: {cluster.namespace}\n")
    cluster.kubectl.apply(objects)
    try:
        cluster.until_rolled_out("cart-pole")
        yield f"cart-pole.{cluster.namespace}.svc:50061"
    finally:
        cluster.kubectl("delete", "-f", "-", "--wait=false", manifest=objects)


@pytest.fixture(scope="session")
def unreachable_run(cluster: Cluster) -> Iterator[str]:
    """A run whose simulator never comes; it fails after SIMULATOR_PATIENCE_SECONDS: begun early, read late."""
    name = f"unreachable-{secrets.token_hex(3)}"
    environment = {"grpc": {"address": NOBODY}}
    cluster.kubectl.apply(
        manifest_of(name, algorithm="PPO", totalTimesteps=1000, backoffLimit=0, environment=environment)
    )
    yield name
    cluster.kubectl("delete", "trainingrun", name, "--wait=false")


@pytest.fixture(scope="session")
def trained_run(cluster: Cluster) -> Iterator[str]:
    """A small run that has succeeded; there is a final model."""
    name = f"trained-{secrets.token_hex(3)}"
    cluster.kubectl.apply(manifest_of(name, **SHORT))
    cluster.until_phase(name, "Succeeded", "Failed", seconds=240)
    yield name
    cluster.kubectl("delete", "trainingrun", name, "--wait=false")


@pytest.fixture(scope="session")
def guarded(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A second installation, which asks its callers who they are."""
    with guarded_installation(cluster, tmp_path_factory.mktemp("guarded")) as installation:
        yield installation


@pytest.fixture(scope="session")
def api_address(kubectl: Kubectl) -> Iterator[str]:
    """host:port here that leads to the Service aisandbox-api."""
    with PortForward(kubectl, "service/aisandbox-api", PORT) as forward:
        yield forward.address


@pytest.fixture(scope="session")
def inference_address(kubectl: Kubectl) -> Iterator[str]:
    """host:port here that leads to the Service aisandbox-inference."""
    with PortForward(kubectl, "service/aisandbox-inference", PORT) as forward:
        yield forward.address


def _connect(address: str) -> grpc.Channel:
    """A client as ours and others' are: it waits for a connection, and sends again what found none."""
    options = [
        ("grpc.service_config", STUBBORN_CALLS),
        ("grpc.enable_retries", 1),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    return grpc.insecure_channel(address, options=options)


@pytest.fixture(scope="session")
def service(api_address: str) -> Iterator[PolicyTrainerServiceStub]:
    """The service, as a client outside the cluster calls it."""
    with _connect(api_address) as channel:
        yield PolicyTrainerServiceStub(channel)


@pytest.fixture(scope="session")
def inference(inference_address: str) -> Iterator[PolicyTrainerServiceStub]:
    """The inference-server, as a client that counts microseconds calls it."""
    with _connect(inference_address) as channel:
        yield PolicyTrainerServiceStub(channel)


@pytest.fixture
def run_name(cluster: Cluster) -> Iterator[Callable[[str], str]]:
    """Makes names that no run has; the runs that got them are deleted when the test ends."""
    names: list[str] = []

    def name(prefix: str) -> str:
        names.append(f"{prefix}-{secrets.token_hex(3)}")
        return names[-1]

    yield name
    if names:
        cluster.kubectl("delete", "trainingruns", "--ignore-not-found", "--wait=false", *names)
