"""A simulator: an environment of your own, served over gRPC."""

import os
import sys

import numpy as np
from aisandbox.v1.tensor_pb2 import DATA_TYPE_FLOAT32, Box, Discrete, Space
from aisandbox_environment import AdapterSimulation, create_environment_server

# For tests/integration/test_examples.py: it listens on $PORT, and these commands succeed while it runs.
E2E_WHILE_RUNNING = ["aisandbox check-simulator 127.0.0.1:{port}"]
E2E_OUTPUT = [r"listens on 127\.0\.0\.1:\d+"]


class Corridor:
    """Walk to the end of a corridor of ten cells. Action 0 is left, 1 is right."""

    observation_space = Space(box=Box(dtype=DATA_TYPE_FLOAT32, shape=[1], low=[0], high=[10]))
    action_space = Space(discrete=Discrete(n=2, names=["left", "right"]))

    def reset(self, seed=None):
        """Starts an episode; returns the first observation."""
        self.cell, self.steps = 0, 0
        return np.array([self.cell], np.float32)

    def step(self, action):
        """Takes one step; returns observation, reward, terminated, truncated, info."""
        self.cell = max(0, self.cell + (1 if action == 1 else -1))
        self.steps += 1
        arrived = self.cell == 10
        reward = 1.0 if arrived else -0.01
        # A time limit is `truncated`, not `terminated`: the episode could have continued.
        return np.array([self.cell], np.float32), reward, arrived, self.steps >= 100, {}

    def close(self):
        """Frees what the environment holds."""


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "50061"))
    try:
        server = create_environment_server(AdapterSimulation(Corridor), host="127.0.0.1", port=port)
    except OSError as error:
        sys.exit(f"{error} Another port: set PORT.")
    server.start()
    print(f"the simulator listens on {server.address}", flush=True)
    server.wait()
