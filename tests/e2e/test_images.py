"""What runs in the containers: no privileged user, a read-only file system, no compilers; what can be reached."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubectl import Kubectl

pytestmark = pytest.mark.smoke

TRAINING = ["torch", "stable_baselines3", "gymnasium"]
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 50051), 5).close()
except OSError as error:
    print(type(error).__name__)
else:
    print("connected")
"""
PROGRAMS = {
    "aisandbox-operator": "aisandbox_operator",
    "aisandbox-api": "aisandbox_api",
    "aisandbox-inference": "aisandbox_inference",
}
PROBE = """
import importlib.util, json, os, pathlib, shutil, sys
def writable(path):
    try:
        pathlib.Path(path, "x").touch()
    except OSError:
        return False
    return True
modules = ("torch", "stable_baselines3", "gymnasium", "pip", "uv", "hatchling")
package = pathlib.Path(importlib.util.find_spec(sys.argv[1]).origin).parent
compiled = importlib.util.cache_from_source
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "modules": [name for name in modules if importlib.util.find_spec(name)],
    "programs": [name for name in ("gcc", "cc", "g++", "make", "pip", "uv") if shutil.which(name)],
    "writable": [path for path in ("/", "/app", "/opt/venv", "/usr", "/tmp", "/dev/shm") if writable(path)],
    "not compiled": [str(path) for path in package.rglob("*.py") if not pathlib.Path(compiled(path)).exists()],
}))
"""


@pytest.mark.parametrize(("deployment", "package"), list(PROGRAMS.items()))
def test_image_of_a_server_has_only_what_it_needs(kubectl: Kubectl, deployment: str, package: str) -> None:
    assert _look_into(kubectl, deployment, package) == _only(modules=[])


def test_image_of_the_trainer_has_only_what_it_needs(kubectl: Kubectl, simulator: str) -> None:
    """The sample simulator runs it."""
    assert _look_into(kubectl, "cart-pole", "aisandbox_trainer") == _only(modules=TRAINING)


def _look_into(kubectl: Kubectl, deployment: str, package: str) -> Any:
    return json.loads(kubectl("exec", f"deployment/{deployment}", "--", "python", "-c", PROBE, package))


def _only(modules: list[str]) -> dict[str, Any]:
    return {"user": [65532, 65532], "modules": modules, "programs": [], "writable": ["/dev/shm"], "not compiled": []}


@pytest.mark.parametrize("server", ["aisandbox-api", "aisandbox-inference"])
def test_who_is_no_client_does_not_reach_a_server(kubectl: Kubectl, simulator: str, server: str) -> None:
    """As far as a cluster shows it; tests/unit/deploy/test_network.py holds the policies to the rest."""
    pod = "jsonpath={.items[0].status.podIP}"
    address = kubectl("get", "pods", f"--selector=app.kubernetes.io/name={server}", "-o", pod)
    told = kubectl("exec", "deployment/cart-pole", "--", "python", "-c", CONNECT, address).strip()
    if told == "connected":
        pytest.skip("the network of this cluster enforces no NetworkPolicy")
    assert told == "TimeoutError"
