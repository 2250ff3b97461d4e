"""What runs in the containers: nobody with rights, nothing that can be written, nothing that builds or trains."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubectl import Kubectl

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
    "writable": [path for path in ("/", "/app", "/opt/venv", "/usr", "/tmp") if writable(path)],
    "not compiled": [str(path) for path in package.rglob("*.py") if not pathlib.Path(compiled(path)).exists()],
}))
"""


@pytest.mark.parametrize(("deployment", "package"), list(PROGRAMS.items()))
def test_image_of_a_server_has_only_what_it_needs(kubectl: Kubectl, deployment: str, package: str) -> None:
    found: dict[str, Any] = json.loads(
        kubectl("exec", f"deployment/{deployment}", "--", "python", "-c", PROBE, package)
    )
    assert found == {
        "user": [65532, 65532],
        "modules": [],
        "programs": [],
        "writable": ["/tmp"],
        "not compiled": [],
    }
