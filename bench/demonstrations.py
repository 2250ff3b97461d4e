"""How many steps a policy takes to be good: from random weights, and after it has learned from demonstrations.

MountainCarContinuous-v0 costs what the engine does, and rewards only the car that is on the hill, where chance does not
get it: a policy learns to do nothing. A heuristic gets there (push in the direction of the speed): 20 of its episodes
are recorded. Then runs train until an evaluation has the wanted mean return (``stop_when``), with and without them.
Everything goes through the service; the environments are in the trainers.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import grpc
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc as rpc
from aisandbox_cli.processes import Children
from aisandbox_environment import (
    DemonstrationWriter,
    GymnasiumSimulation,
    SimulatorSession,
    create_environment_server,
    record_episodes,
)
from rich.console import Console
from rich.table import Table

ENOUGH = 90.0
"""Gymnasium calls it solved. Who does nothing has 0."""
ENVIRONMENT = "MountainCarContinuous-v0"
ALGORITHMS = {
    "PPO": (pb.ALGORITHM_PPO, 1_024, {"n_steps": "256", "normalize": "True"}),
    "SAC": (pb.ALGORITHM_SAC, 500, {"buffer_size": "50000", "learning_starts": "250", "batch_size": "64"}),
}
"""The algorithms by name: number, timesteps between evaluations, hyperparameters."""


def push(seen: Any, mask: Any) -> list[float]:
    """Pushes in the direction of the speed."""
    return [1.0 if seen[1] >= 0 else -1.0]


def record(path: Path) -> float:
    """Writes the demonstrations and returns their mean return."""
    with (
        create_environment_server(GymnasiumSimulation(ENVIRONMENT)) as server,
        SimulatorSession.connect(server.address, 1) as session,
    ):
        writer = DemonstrationWriter(path, session.spec, {"policy": "push in the direction of the speed"})
        for episode in record_episodes(session, push, 20, seed=1_000):
            writer.add(episode)
        return writer.close().return_mean


def train(
    stub: rpc.PolicyTrainerServiceStub, algorithm: str, seed: int, total: int, demonstrations: pb.Demonstrations | None
) -> pb.StatusResponse:
    """Trains until the return is reached, or to the end."""
    number, every, hyperparameters = ALGORITHMS[algorithm]
    run_id = stub.StartTraining(
        pb.TrainingRequest(
            experiment_id="demonstrations",
            algorithm=number,
            total_timesteps=total,
            seed=seed,
            hyperparameters=hyperparameters,
            environment=pb.Environment(gymnasium=pb.GymnasiumEnvironment(id=ENVIRONMENT)),
            checkpoint_every_timesteps=total,
            evaluation=pb.Evaluation(every_timesteps=every, episodes=5),
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
    return f"{steps} ({status.evaluation_reward_mean:.0f})"


def main() -> int:
    """Prints a line for each algorithm and seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=tuple(ALGORITHMS), action="append")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--total", type=int, default=10_000, help="timesteps of a run that does not reach the return")
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as name, Children(Path(name)) as children:
        service = children.start("up", "--port", "0", "--models-dir", f"{name}/models")
        stub = rpc.PolicyTrainerServiceStub(grpc.insecure_channel(service.wait_until_ready()["address"]))
        heuristic = record(Path(name) / "models" / "car.parquet")
        table = Table(title=f"{ENVIRONMENT} to {ENOUGH:g}; the heuristic has {heuristic:.0f}")
        for column in ("algorithm", "seed", "without", "with demonstrations", "loss"):
            table.add_column(column, justify="right")
        for algorithm in arguments.only or ALGORITHMS:
            for seed in range(1, arguments.seeds + 1):
                without = train(stub, algorithm, seed, arguments.total, None)
                learned = train(stub, algorithm, seed, arguments.total, pb.Demonstrations(file="car.parquet"))
                cells = shown(without), shown(learned), f"{learned.cloning.loss:.3f}"
                console.print(f"{algorithm} seed {seed}:", *cells, highlight=False)
                table.add_row(algorithm, str(seed), *cells)
    console.print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
