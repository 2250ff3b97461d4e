"""Action masks: a maze that says which moves are possible, a training that obeys, and the policy in this process."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before ONNX Runtime is imported: it sends events to its maker

import grpc
import gymnasium as gym
import numpy as np
import onnxruntime
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc as rpc
from aisandbox_environment import create_environment_server
from aisandbox_environment.gymnasium_host import GymnasiumSimulation

# For tests/integration/test_examples.py: it needs a service.
E2E_SERVICE = True
E2E_OUTPUT = [r"PPO, trained as MaskablePPO", r"with masks: 0 of \d+ moves into walls"]

NO_PROXY = [("grpc.enable_http_proxy", 0)]  # gRPC would dial through the proxy of http_proxy, to 127.0.0.1 too
MAZE = ["S.#.....", "#.#.###.", "..#...#.", ".####.#.", "......#G"]
MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]


class Maze(gym.Env):
    """Find the way from S to G. The observation is row and column; the moves are up, down, left and right."""

    observation_space = gym.spaces.Box(0, 8, (2,), np.float32)
    action_space = gym.spaces.Discrete(4)

    def action_masks(self):
        """Which moves lead to an open cell. With this method, the simulator declares action masks."""
        return [self._is_open(self.row + down, self.column + right) for down, right in MOVES]

    def reset(self, *, seed=None, options=None):
        """Starts an episode."""
        super().reset(seed=seed)
        self.row, self.column = 0, 0
        return self._observation(), {}

    def step(self, action):
        """Makes a move; one into a wall changes nothing."""
        if self.action_masks()[action]:
            self.row += MOVES[action][0]
            self.column += MOVES[action][1]
        arrived = MAZE[self.row][self.column] == "G"
        return self._observation(), 1.0 if arrived else -0.01, arrived, False, {}

    def _is_open(self, row, column):
        return 0 <= row < len(MAZE) and 0 <= column < len(MAZE[0]) and MAZE[row][column] != "#"

    def _observation(self):
        return np.array([self.row, self.column], np.float32)


def main() -> None:
    gym.register("Maze-v0", Maze, max_episode_steps=200)
    address = os.environ.get("AISANDBOX_ADDRESS", "127.0.0.1:50051")
    with (
        grpc.insecure_channel(address, NO_PROXY) as channel,
        create_environment_server(GymnasiumSimulation("Maze-v0")) as simulator,
    ):
        trainer = rpc.PolicyTrainerServiceStub(channel)
        request = pb.TrainingRequest(
            experiment_id="maze",
            total_timesteps=int(os.environ.get("TIMESTEPS", "2048")),
            environment=pb.Environment(grpc=pb.GrpcEnvironment(address=simulator.address)),
            hyperparameters={"n_steps": "256"},
        )
        run = trainer.StartTrainingPPO(request).run_id  # nothing here is about masks
        for status in trainer.WatchTraining(pb.WatchTrainingRequest(run_id=run)):
            last = status
        print(f"{pb.Phase.Name(last.phase)}: PPO, trained as {last.trained_algorithm}")

        file = b"".join(part.part for part in trainer.GetModel(pb.GetModelRequest(run_id=run, model="final")))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: it warns that inputs have defaults, which is intended
        policy = onnxruntime.InferenceSession(file, options)
        random, moves, walls = np.random.default_rng(0), 0, 0
        maze = gym.make("Maze-v0").unwrapped
        for _ in range(10):
            observation, _ = maze.reset()
            for _ in range(100):
                mask = maze.action_masks()
                feed = {
                    "observation": observation[np.newaxis],
                    "noise": random.gumbel(size=(1, 4)).astype(np.float32),  # without it: the most probable move
                    "action_mask": np.array([mask], np.uint8),  # without it: all moves are allowed
                }
                action = policy.run(["action"], feed)[0][0]
                moves, walls = moves + 1, walls + (not mask[action])
                observation, _, arrived, _, _ = maze.step(action)
                if arrived:
                    break
        print(f"with masks: {walls} of {moves} moves into walls")

        # The service chooses in the same way.
        action = trainer.Act(pb.ActRequest(run_id=run, observation=[0, 0], action_mask=[False, False, False, True]))
        print("the only move that is allowed:", int(action.action[0]))


if __name__ == "__main__":
    main()
