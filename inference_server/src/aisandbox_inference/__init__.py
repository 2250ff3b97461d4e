"""Serves published ONNX policies: Act, ActBatch, ActStream, GetModel and DescribeModel.

Knows the wire contract and the disk contract, and neither training nor torch, stable-baselines3, pickle or Gymnasium.

The public face is what is named here; the modules are internal. The names are loaded when they are first used, so that
``import aisandbox_inference`` imports neither gRPC nor ONNX Runtime.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aisandbox_inference.aio_servicer import PolicyServicer, create_policy_servicer, loop_factory
    from aisandbox_inference.errors import AddressInUse, InferenceError, StartupError
    from aisandbox_inference.server import Server, create_server
    from aisandbox_inference.settings import Settings

__all__ = [
    "AddressInUse",
    "InferenceError",
    "PolicyServicer",
    "Server",
    "Settings",
    "StartupError",
    "create_policy_servicer",
    "create_server",
    "loop_factory",
]

_MODULES = {
    "AddressInUse": "errors",
    "InferenceError": "errors",
    "PolicyServicer": "aio_servicer",
    "Server": "server",
    "Settings": "settings",
    "StartupError": "errors",
    "create_policy_servicer": "aio_servicer",
    "create_server": "server",
    "loop_factory": "aio_servicer",
}


def __getattr__(name: str) -> Any:
    """Import a public name (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
