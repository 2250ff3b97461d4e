"""What simulators of the fault suite load, loaded once in the process they are forked from."""

import faulty_simulator
import grpc
import numpy as np
from aisandbox.v1 import environment_pb2_grpc

__all__ = ["environment_pb2_grpc", "faulty_simulator", "grpc", "np"]
