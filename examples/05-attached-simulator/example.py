"""A simulator that dials the service: for machines that cannot be dialled, such as a desktop behind NAT."""

import os
import sys

import numpy as np
from aisandbox.v1.tensor_pb2 import DATA_TYPE_FLOAT32, Box, Discrete, Space
from aisandbox_environment import AdapterSimulation, Attachment, AttachRefused

# For tests/integration/test_examples.py: a service runs, and these commands succeed while the example does.
E2E_SERVICE = True
E2E_WHILE_RUNNING = ["aisandbox train a2c --pool corridor -t 200"]
E2E_OUTPUT = [r"attached to pool corridor as \S+"]


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
    service = os.environ.get("AISANDBOX_ADDRESS", "127.0.0.1:50051")
    attachment = Attachment(AdapterSimulation(Corridor), service, "corridor", environments=2)
    try:
        attachment.run(lambda instance: print(f"attached to pool corridor as {instance}", flush=True))
    except AttachRefused as error:
        sys.exit(str(error))
