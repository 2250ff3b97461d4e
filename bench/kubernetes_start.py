"""How long a cluster takes from StartTrainingPPO to the first environment step, and where the time goes.

Beside it ``kubectl create job`` of the same image that imports what a trainer imports. Both are measured in one way:
Jobs and pods by a watch of the API server, the processes by the times of their logs, the first step by the log of a
simulator in the cluster. They take turns, and medians are compared. The node's clock has to be this machine's, as it is
with kind.

Needs the installed system (``E2E_KEEP=1 make e2e`` leaves one). What is made is deleted; the runs' few files stay
on the volume until the api-server removes those of deleted runs.

    python bench/kubernetes_start.py [--repetitions 5] [--kube-context C] [--namespace aisandbox]
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import grpc
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from cluster import Cluster
from kubectl import Manifest
from port_forward import PortForward
from sightings import Sightings, logged, until, watching

Stages = dict[str, float]

PORT = 50061
SIMULATOR = f"""
from aisandbox_environment.adapter_host import AdapterSimulation
from aisandbox_environment.adapters import FakeExternalEnvAdapter
from aisandbox_environment.server import create_environment_server
class Noting(FakeExternalEnvAdapter):
    stepped = False
    def step(self, action):
        if not self.stepped:
            self.stepped = True
            print("first step", flush=True)
        return super().step(action)
server = create_environment_server(AdapterSimulation(Noting), host="0.0.0.0", port={PORT})
server.start()
print("serving", flush=True)
server.wait()
"""
IMPORTS = """
print("interpreter", flush=True)
import torch
print("torch", flush=True)
import aisandbox_trainer.run.attempt
print("imports", flush=True)
"""


@contextmanager
def scratch_namespace(cluster: Cluster) -> Iterator[str]:
    """For what a user makes by hand; the system's own namespace refuses such pods (Pod Security "restricted").

    Pods get the resources of trainers there: without, they would be the last to get a processor.
    """
    name = f"bench-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", name)
    try:
        resources = trainer_resources(cluster)
        limits = {"type": "Container", "defaultRequest": resources["requests"], "default": resources["limits"]}
        metadata = {"name": "as-trainers", "namespace": name}
        like_trainers = {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": [limits]}}
        cluster.core.create_namespaced_limit_range(name, like_trainers)
        yield name
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")


def trainer_resources(cluster: Cluster) -> Manifest:
    """The operator's default for trainers."""
    pod = cluster.kubectl.json("get", "deployment", "aisandbox-operator")["spec"]["template"]["spec"]
    settings = cluster.kubectl.json("get", "configmap", pod["containers"][0]["envFrom"][0]["configMapRef"]["name"])
    resources: Manifest = json.loads(settings["data"]["TRAINER_RESOURCES"])
    return resources


@contextmanager
def simulator(cluster: Cluster, namespace: str) -> Iterator[str]:
    """A pod whose simulator logs the first step of each session; yields the pod's name."""
    container = {"name": "simulator", "image": cluster.trainer_image(), "command": ["python", "-c", SIMULATOR]}
    metadata = {"name": "simulator", "namespace": namespace}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
    cluster.core.create_namespaced_pod(namespace, pod)
    until(lambda: "serving" in [line for _, line in logged(cluster, namespace, "simulator")], "the simulator")
    yield "simulator"


def start_run(cluster: Cluster, service: PolicyTrainerServiceStub, namespace: str, pod: str, seen: Sightings) -> Stages:
    """One run until its first step arrives at the simulator's pod; seconds since the call began."""
    address = f"{cluster.core.read_namespaced_pod(pod, namespace).status.pod_ip}:{PORT}"
    before = len(logged(cluster, namespace, pod))
    environment = pb.Environment(grpc=pb.GrpcEnvironment(address=address))
    request = pb.TrainingRequest(experiment_id="bench", total_timesteps=10**9, environment=environment)
    began = time.time()
    run = service.StartTrainingPPO(request, timeout=60).run_id
    times = {"answered": time.time(), "Job created": seen.wait("job", run), "running": seen.wait("running", run)}
    until(lambda: len(logged(cluster, namespace, pod)) > before, "the first step")
    trainer = logged(cluster, cluster.namespace, cluster.pods(run)[0].metadata.name)
    times["imported"] = next(when for when, line in trainer if "environments ready" in line)
    times["stepped"] = logged(cluster, namespace, pod)[before][0]
    cluster.kubectl("delete", "trainingrun", run)
    until(lambda: not cluster.pods(run), "the end of the trainer")
    return {stage: when - began for stage, when in times.items()}


def start_job(cluster: Cluster, namespace: str, seen: Sightings) -> Stages:
    """One ``kubectl create job`` until its interpreter has imported everything; seconds since the command began."""
    name = f"plain-{secrets.token_hex(3)}"
    command = ("create", "job", name, f"--namespace={namespace}", f"--image={cluster.trainer_image()}")
    began = time.time()
    cluster.kubectl(*command, "--", "python", "-c", IMPORTS)
    times = {"answered": time.time(), "Job created": seen.wait("job", name), "running": seen.wait("running", name)}
    found = cluster.core.list_namespaced_pod(namespace, label_selector=f"batch.kubernetes.io/job-name={name}")
    pod = found.items[0].metadata.name
    until(lambda: len(logged(cluster, namespace, pod)) >= 3, "the imports")
    (times["interpreter"], _), (times["torch"], _), (times["imported"], _) = logged(cluster, namespace, pod)[:3]
    cluster.kubectl("delete", "job", name, f"--namespace={namespace}")
    return {stage: when - began for stage, when in times.items()}


def median(measured: list[Stages]) -> Stages:
    """Of each stage."""
    return {stage: statistics.median(each[stage] for each in measured) for stage in measured[0]}


def print_table(run: Stages, job: Stages) -> None:
    """Both, and what the imports are of the whole."""
    print(f"{'seconds until':34}{'StartTrainingPPO':>18}{'kubectl create job':>20}{'ratio':>8}")
    stages = {
        "answered": "the call or command is answered",
        "Job created": "the Job is created",
        "running": "the container runs",
        "imported": "modules imported (run: connected)",
    }
    for stage, words in stages.items():
        print(f"{words:34}{run[stage]:18.3f}{job[stage]:20.3f}{run[stage] / job[stage]:8.2f}")
    print(f"{'the first environment step':34}{run['stepped']:18.3f}{'':20}{run['stepped'] / job['imported']:8.2f}")
    torch, rest = job["torch"] - job["interpreter"], job["imported"] - job["torch"]
    print(
        f"The plain Job's imports take {torch + rest:.2f} s, {torch:.2f} s of them torch: of a run's way to its first"
    )
    print(f"step {(torch + rest) / run['stepped']:.0%} are imports, {torch / run['stepped']:.0%} torch's.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--kube-context", default="")
    parser.add_argument("--namespace", default="aisandbox")
    arguments = parser.parse_args()
    cluster, seen = Cluster(arguments.kube_context, arguments.namespace), Sightings()
    runs, jobs = [], []
    with (
        scratch_namespace(cluster) as namespace,
        simulator(cluster, namespace) as pod,
        watching(cluster, namespace, seen),
        watching(cluster, cluster.namespace, seen),
        PortForward(cluster.kubectl, "service/aisandbox-api", 50051) as forward,
        grpc.insecure_channel(forward.address) as channel,
    ):
        service = PolicyTrainerServiceStub(channel)
        service.ListTrainingRuns(pb.ListTrainingRunsRequest(), wait_for_ready=True, timeout=60)
        start_job(cluster, namespace, seen)  # the first one finds the image's files in no cache
        for _ in range(arguments.repetitions):
            runs.append(start_run(cluster, service, namespace, pod, seen))
            jobs.append(start_job(cluster, namespace, seen))
    print_table(median(runs), median(jobs))


if __name__ == "__main__":
    main()
