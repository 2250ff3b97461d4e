"""How many steps a policy takes to be good: from random weights, and after it has learned from demonstrations.

A lock is opened by ten digits of four, and rewards nothing before the last one; a wrong one ends the episode. One
episode that opens it is recorded. Then runs train until every episode of an evaluation opens it (``stop_when``), with
and without what was recorded. Everything goes through the service, and the lock is a simulator in this process.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc as rpc
from aisandbox_cli.processes import Children
from aisandbox_environment import (
    AdapterSimulation,
    DemonstrationWriter,
    SimulatorSession,
    create_environment_server,
    record_episodes,
)
from aisandbox_wire import box, discrete
from rich.console import Console
from rich.table import Table

ENOUGH = 1.0
EVERY = 512
CODE = (2, 0, 3, 1, 1, 3, 2, 0, 3, 1)
ALGORITHMS = {
    "PPO": (pb.ALGORITHM_PPO, {"n_steps": "128", "n_envs": "4"}),
    "RecurrentPPO": (pb.ALGORITHM_RECURRENTPPO, {"n_steps": "128", "n_envs": "4"}),
    "DQN": (pb.ALGORITHM_DQN, {"exploration_initial_eps": "0.1", "learning_starts": "100"}),
}
"""The algorithms by name: number and hyperparameters."""


class Lock:
    """One environment; the lock of examples/06-lessons."""

    observation_space = box((len(CODE),), low=0.0, high=1.0)
    action_space = discrete(4)

    def reset(self, seed: int | None = None) -> Any:
        """Nothing is entered."""
        self.entered = 0
        return self.observe()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Enters a digit."""
        right = int(action) == CODE[self.entered]
        self.entered += int(right)
        is_open = self.entered == len(CODE)
        return self.observe(), float(is_open), is_open or not right, False, {}

    def observe(self) -> Any:
        """1 at the place of the next digit."""
        return (np.arange(len(CODE)) == self.entered).astype(np.float32)

    def close(self) -> None:
        """Nothing is held."""


def record(simulator: str, path: Path) -> None:
    """Writes one episode that opens the lock."""
    with SimulatorSession.connect(simulator, 1) as session:
        writer = DemonstrationWriter(path, session.spec, {"policy": "the code"})
        for episode in record_episodes(session, solve, 1, seed=0):
            writer.add(episode)
        writer.close()


def solve(seen: Any, mask: Any) -> int:
    """The right digit."""
    return CODE[int(np.argmax(seen))]


def train(
    stub: rpc.PolicyTrainerServiceStub,
    simulator: str,
    algorithm: str,
    seed: int,
    total: int,
    demonstrations: pb.Demonstrations | None,
) -> pb.StatusResponse:
    """Trains until the return is reached, or to the end."""
    number, hyperparameters = ALGORITHMS[algorithm]
    run_id = stub.StartTraining(
        pb.TrainingRequest(
            experiment_id="demonstrations",
            algorithm=number,
            total_timesteps=total,
            seed=seed,
            hyperparameters=hyperparameters,
            environment=pb.Environment(grpc=pb.GrpcEnvironment(address=simulator)),
            checkpoint_every_timesteps=total,
            evaluation=pb.Evaluation(every_timesteps=EVERY, episodes=5),
            stop_when=pb.StopWhen(evaluation_reward_mean=ENOUGH),
            demonstrations=demonstrations,
        )
    ).run_id
    *_, status = stub.WatchTraining(pb.WatchTrainingRequest(run_id=run_id))
    if status.phase != pb.PHASE_SUCCEEDED:
        raise RuntimeError(f"{run_id}: {status.failure.message}")
    return status


def shown(status: pb.StatusResponse) -> str:
    """The timesteps, and the return of the last evaluation."""
    steps = f"{status.timesteps_done:,}" if status.early_stop.reason else f"not in {status.timesteps_done:,}"
    return f"{steps} (return {status.evaluation_reward_mean:g})"


def main() -> int:
    """Prints a line for each algorithm and seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=tuple(ALGORITHMS), action="append")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--total", type=int, default=5_000, help="timesteps of a run that does not reach the return")
    arguments = parser.parse_args()
    console = Console()
    with (
        tempfile.TemporaryDirectory() as name,
        Children(Path(name)) as children,
        create_environment_server(AdapterSimulation(Lock)) as server,
    ):
        service = children.start("up", "--port", "0", "--models-dir", f"{name}/models")
        stub = rpc.PolicyTrainerServiceStub(grpc.insecure_channel(service.wait_until_ready()["address"]))
        record(server.address, Path(name) / "models" / "lock.parquet")
        table = Table(title="Timesteps until the lock is opened in every episode")
        for column in ("algorithm", "seed", "without", "with demonstrations", "loss"):
            table.add_column(column, justify="right")
        for algorithm in arguments.only or ALGORITHMS:
            for seed in range(1, arguments.seeds + 1):
                without = train(stub, server.address, algorithm, seed, arguments.total, None)
                shown_once = pb.Demonstrations(file="lock.parquet", epochs=100)
                learned = train(stub, server.address, algorithm, seed, arguments.total, shown_once)
                cells = shown(without), shown(learned), f"{learned.cloning.loss:.3f}"
                console.print(f"{algorithm} seed {seed}:", *cells, highlight=False)
                table.add_row(algorithm, str(seed), *cells)
    console.print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
