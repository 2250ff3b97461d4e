"""A service whose default environment is a class of yours."""

import asyncio
import os

import numpy as np
from aisandbox.v1.tensor_pb2 import DATA_TYPE_FLOAT32, Box, Space
from aisandbox_api import Settings, create_server

# For tests/integration/test_examples.py: it listens on $GRPC_PORT, and these commands succeed while it runs.
E2E_WHILE_RUNNING = ["aisandbox train ppo -t 64 -p n_steps=64 --address 127.0.0.1:{port}"]
E2E_OUTPUT: list[str] = []


class Target:
    """Move a point on a line to 0.5. The action is the velocity."""

    observation_space = Space(box=Box(dtype=DATA_TYPE_FLOAT32, shape=[1], low=[-1], high=[1]))
    action_space = Space(box=Box(dtype=DATA_TYPE_FLOAT32, shape=[1], low=[-1], high=[1]))

    def reset(self, seed=None):
        """Starts an episode at a position that follows from the seed."""
        if seed is not None or not hasattr(self, "random"):
            self.random = np.random.default_rng(seed)
        self.position, self.steps = self.random.uniform(-1, 1, 1).astype(np.float32), 0
        return self.position

    def step(self, action):
        """Takes one step of 0.1 s; returns observation, reward, terminated, truncated, info."""
        self.position = np.clip(self.position + 0.1 * action, -1, 1).astype(np.float32)
        self.steps += 1
        return self.position, -abs(float(self.position[0]) - 0.5), False, self.steps >= 50, {}

    def close(self):
        """Frees what the environment holds."""


if __name__ == "__main__":
    # The settings of the service are environment variables; docs/settings.md lists them.
    asyncio.run(create_server(Settings.from_environ(os.environ), adapter_factory=Target).serve())
