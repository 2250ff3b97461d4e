"""ONNX Runtime sends nothing to its maker: neither its thread for that nor a socket exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOOK = """
import os, sys
import aisandbox_inference.onnx_session
import onnxruntime
links = []
for name in os.listdir("/proc/self/fd"):
    try:
        links.append(os.readlink("/proc/self/fd/" + name))
    except OSError:
        pass
print(os.environ["ORT_DISABLE_TELEMETRY"], sum("socket" in link for link in links), len(os.listdir("/proc/self/task")))
"""
THREADS = "import os, {}; print(len(os.listdir('/proc/self/task')))"


def _printed(code: str, **environ: str) -> list[str]:
    clean = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], env=clean | one_thread | environ, check=True, capture_output=True, text=True
    ).stdout.split()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("environ", [{}, {"ORT_DISABLE_TELEMETRY": "0"}, {"ORT_DISABLE_TELEMETRY": ""}])
def test_onnx_runtime_has_no_telemetry_thread_and_no_socket(environ: dict[str, str]) -> None:
    switch, sockets, threads = _printed(LOOK, **environ)
    assert (switch, sockets) == ("1", "0")
    quiet = _printed(THREADS.format("onnxruntime"), ORT_DISABLE_TELEMETRY="1")
    loud = _printed(THREADS.format("onnxruntime"))
    assert int(threads) == int(quiet[0]) <= int(loud[0])


def test_only_one_module_imports_onnx_runtime() -> None:
    importing = [
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("*/src/**/*.py")
        if re.search(r"^\s*(import|from) onnxruntime", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert importing == ["inference_server/src/aisandbox_inference/onnx_runtime.py"]


def test_examples_switch_the_telemetry_off_before_the_import() -> None:
    importing = [text for path in ROOT.glob("examples/*/*.py") if "onnxruntime" in (text := path.read_text("utf-8"))]
    assert importing
    for text in importing:
        assert re.search(r'environ\["ORT_DISABLE_TELEMETRY"\] = "1".*^import onnxruntime', text, re.M | re.S)


def test_images_and_trainers_switch_the_telemetry_off() -> None:
    assert "ORT_DISABLE_TELEMETRY=1" in (ROOT / "Dockerfile").read_text()
    code = "from aisandbox_trainer.run.process import set_up_native_libraries as s; s(); import os; "
    assert _printed(code + "print(os.environ['ORT_DISABLE_TELEMETRY'])") == ["1"]
