"""Answers Act and its kin from published ONNX policies.

Owns the way from a published model to an action. Knows the wire contract and the disk contract, and neither training
nor torch, stable-baselines3, pickle or Gymnasium.
"""

import sys

from aisandbox_process.grpc_runtime import set_up_grpc

if sys.argv[:1] == ["-m"]:
    set_up_grpc()  # started as a program; gRPC is imported below

from aisandbox_inference.calls import PolicyCalls, create_policy_calls
from aisandbox_inference.errors import AddressInUse, InferenceError, StartupError
from aisandbox_inference.event_loop import loop_factory
from aisandbox_inference.server import Server, create_server
from aisandbox_inference.settings import Settings

__all__ = [
    "AddressInUse",
    "InferenceError",
    "PolicyCalls",
    "Server",
    "Settings",
    "StartupError",
    "create_policy_calls",
    "create_server",
    "loop_factory",
]
