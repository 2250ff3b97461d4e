"""A simulator with a parameter that lessons set: a lock that is opened by ten digits, and rewards nothing before."""

import os
import sys

import numpy as np
from aisandbox.v1.tensor_pb2 import DATA_TYPE_FLOAT32, Box, Discrete, Space
from aisandbox_environment import AdapterSimulation, Parameter, create_environment_server

# For tests/integration/test_examples.py: it listens on $PORT, and these commands succeed while it runs.
E2E_WHILE_RUNNING = ["aisandbox check-simulator 127.0.0.1:{port}"]
E2E_OUTPUT = [r"listens on 127\.0\.0\.1:\d+"]

CODE = [2, 0, 3, 1, 1, 3, 2, 0, 3, 1]
"""The digits, each 0 to 3. Chance finds all of them in one of a million episodes."""


class Lock:
    """Enter the last ``digits`` of the code. A wrong one ends the episode; only the last one is rewarded, with 1."""

    # 1 at the place of the next digit.
    observation_space = Space(box=Box(dtype=DATA_TYPE_FLOAT32, shape=[len(CODE)], low=[0], high=[1]))
    action_space = Space(discrete=Discrete(n=4))
    parameters = (
        Parameter("digits", len(CODE), minimum=1, maximum=len(CODE), whole=True, description="how many are missing"),
    )

    def reset(self, seed=None, parameters=None):
        """Starts an episode with the parameters of its lesson; returns the first observation."""
        digits = parameters["digits"] if parameters else len(CODE)
        self.entered = len(CODE) - digits
        return self.observe()

    def step(self, action):
        """Enters a digit; returns observation, reward, terminated, truncated, info."""
        right = action == CODE[self.entered]
        self.entered += 1 if right else 0
        is_open = self.entered == len(CODE)
        return self.observe(), 1.0 if is_open else 0.0, is_open or not right, False, {}

    def observe(self):
        """The observation."""
        return (np.arange(len(CODE)) == self.entered).astype(np.float32)

    def close(self):
        """Frees what the environment holds."""


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "50061"))
    try:
        server = create_environment_server(AdapterSimulation(Lock), host="127.0.0.1", port=port)
    except OSError as error:
        sys.exit(f"{error} Another port: set PORT.")
    server.start()
    print(f"the simulator listens on {server.address}", flush=True)
    server.wait()
