"""A namespace of the test's own in which the operator, a process of the test, has scripted trainers train.

Owns what trainers need there, their image, and the operator's settings. Must not know what is tested.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster import Cluster
from operator_process import OperatorProcess
from provided_image import provide_image

TRAINER = Path(__file__).parent / "scripted_trainer"
RESOURCES = '{"requests": {"cpu": "5m", "memory": "24Mi"}, "limits": {"memory": "48Mi"}}'
ENDED = ("Succeeded", "Failed", "Cancelled")
SETUP = """\
apiVersion: v1
kind: ServiceAccount
metadata: {name: aisandbox-trainer}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: aisandbox-models}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 100Mi}}}
"""


def scripted_trainer_image(context: str) -> str:
    """Builds it for the cluster; its tag follows from its files. Raises RuntimeError."""
    registry = os.environ.get("REGISTRY", "localhost:5001")
    parts = b"".join(path.read_bytes() for path in sorted(TRAINER.iterdir()) if path.is_file())
    image = f"{registry}/aisandbox/scripted-trainer:{hashlib.sha256(parts).hexdigest()[:12]}"
    provide_image(context, image, TRAINER)
    return image


@contextmanager
def scripted_place(context: str, prefix: str) -> Iterator[Cluster]:
    """The namespace with what trainers need, under the strictest pod security; gone at the end."""
    namespace = f"{prefix}-{secrets.token_hex(3)}"
    place = Cluster(context, namespace)
    place.kubectl("create", "namespace", namespace)
    try:
        place.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
        place.kubectl.apply(SETUP)
        yield place
    finally:
        place.kubectl("delete", "namespace", namespace, "--wait=false")


def scripted_operator(place: Cluster, image: str, log: Path, **environ: str) -> OperatorProcess:
    """An operator of the place, not yet started; ``environ`` adds to the usual variables, or replaces them."""
    variables = {
        "POD_NAMESPACE": place.namespace,
        "KUBE_CONTEXT": place.kubectl.context,
        "TRAINER_IMAGE": image,
        "TRAINER_RESOURCES": RESOURCES,
        "TERMINATION_GRACE_SECONDS": "10",
        "START_DEADLINE_SECONDS": "8",
        "RESYNC_SECONDS": "15",
        **environ,
    }
    return OperatorProcess(variables, log)
