"""ONNX Runtime without its telemetry: the only module that imports it.

Since 1.32 the Linux wheels start a thread when they are imported that sends events to a host of Microsoft, unless
ORT_DISABLE_TELEMETRY is set before. An import of this module sets it, also against a value of the environment.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

ort.disable_telemetry_events()

__all__ = ["ort"]
