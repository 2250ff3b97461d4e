"""A client inside the cluster that acts steadily, and counts the calls that fail although it tries twice.

The pod is one of the api-server's image, which has Python, gRPC and the generated code; :data:`PROGRAM` is what runs in
it. Owns how calls are counted. Must not know what happens to the servers meanwhile.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from types import TracebackType

from kubectl import Kubectl, Manifest

POD = "steady-client"
PROGRAM = """
import json, sys, time
import grpc
from aisandbox.v1 import policy_trainer_pb2 as pb, policy_trainer_pb2_grpc as rpc
address, run, observations, a_second = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
stub = rpc.PolicyTrainerServiceStub(grpc.insecure_channel(address))
request = pb.ActRequest(run_id=run, observation=[0.0] * observations)
counts = {"calls": 0, "first_tries_failed": 0, "failed": 0, "errors": [], "longest_seconds": 0.0}
begin = time.monotonic()
print("acting", flush=True)
import threading
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
while not over.is_set():
    counts["calls"] += 1
    began = time.monotonic()
    for attempt in (1, 2):
        try:
            stub.Act(request, timeout=5)
            break
        except grpc.RpcError as error:
            if attempt == 1:
                counts["first_tries_failed"] += 1
                time.sleep(0.2)
            else:
                counts["failed"] += 1
            at = round(time.monotonic() - begin, 1)
            counts["errors"].append([at, attempt, error.code().name, error.details()[:150]])
    counts["longest_seconds"] = round(max(counts["longest_seconds"], time.monotonic() - began), 3)
    over.wait(max(0.0, 1 / a_second - (time.monotonic() - began)))
counts["errors"] = counts["errors"][:20]
print(json.dumps(counts), flush=True)
"""
"""Arguments: address, run, numbers of an observation, calls a second. Acts until a line comes on stdin."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a client saw; a call has failed if both of its tries have."""

    calls: int
    first_tries_failed: int
    failed: int
    longest_seconds: float
    errors: list[list[object]]


class SteadyClient:
    """Acts at ``address`` from entering to :meth:`stop`, ``a_second`` times a second."""

    def __init__(
        self, kubectl: Kubectl, image: str, address: str, run: str, observations: int, a_second: float
    ) -> None:
        self._kubectl = kubectl
        self._image = image
        self._arguments = (address, run, str(observations), str(a_second))
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> SteadyClient:
        self._kubectl("delete", "pod", POD, "--ignore-not-found", "--now")
        self._kubectl.apply(client_pod(self._image))
        self._kubectl("wait", f"pod/{POD}", "--for=condition=Ready", "--timeout=120s")
        command = self._kubectl.command("exec", "-i", POD, "--", "python", "-c", PROGRAM, *self._arguments)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "acting\n"
        return self

    def stop(self) -> Counts:
        """Ends it; what it saw."""
        assert self._process is not None
        said, _ = self._process.communicate("over\n", timeout=60)
        return Counts(**json.loads(said))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._kubectl("delete", "pod", POD, "--now", "--wait=false")


def client_pod(image: str) -> Manifest:
    """A pod that may call, by its label, and waits."""
    container = {
        "name": "client",
        "image": image,
        "command": ["sleep", "infinity"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    metadata = {"name": POD, "labels": {"aisandbox.dev/client": "true"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
