"""How many steps a policy takes to be good in a changed world: from random weights, and from what it has learned.

Pendulum-v1 has the strength of gravity as an argument. A run learns the old world until an evaluation has the wanted
mean return twice in a row (``stop_when``); then the changed world is learned to the same return, from scratch and from
the first run's final model (``start_from``). Everything goes through the service; the environments are in the trainers.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc as rpc
from aisandbox_cli.processes import Children
from rich.console import Console
from rich.table import Table

OLD_GRAVITY, CHANGED_GRAVITY = 10.0, 12.0


@dataclass(frozen=True)
class Task:
    """An algorithm with RL Zoo's hyperparameters for Pendulum-v1, and the return that is enough."""

    algorithm: pb.Algorithm.ValueType
    total: int
    evaluate_every: int
    enough: float
    hyperparameters: Mapping[str, str] = field(default_factory=dict)


TASKS = {
    "SAC": Task(pb.ALGORITHM_SAC, 20_000, 250, -200.0, {"learning_rate": "1e-3"}),
    "PPO": Task(pb.ALGORITHM_PPO, 300_000, 4_096, -250.0, {
        "n_envs": "4", "n_steps": "1024", "gae_lambda": "0.95", "gamma": "0.9", "n_epochs": "10",
        "learning_rate": "1e-3", "clip_range": "0.2",
    }),
}  # fmt: skip


def train(
    stub: rpc.PolicyTrainerServiceStub, task: Task, gravity: float, seed: int, start: pb.StartFrom | None = None
) -> pb.StatusResponse:
    """Trains until the return is reached. Raises RuntimeError if it is not."""
    environment = pb.Environment(gymnasium=pb.GymnasiumEnvironment(id="Pendulum-v1"))
    environment.gymnasium.kwargs.update({"g": gravity})
    run_id = stub.StartTraining(
        pb.TrainingRequest(
            experiment_id="fine-tuning",
            algorithm=task.algorithm,
            total_timesteps=task.total,
            seed=seed,
            hyperparameters=task.hyperparameters,
            environment=environment,
            checkpoint_every_timesteps=task.total,
            evaluation=pb.Evaluation(every_timesteps=task.evaluate_every, episodes=5),
            stop_when=pb.StopWhen(evaluation_reward_mean=task.enough, times_in_a_row=2),
            start_from=start,
        )
    ).run_id
    *_, status = stub.WatchTraining(pb.WatchTrainingRequest(run_id=run_id))
    if not status.early_stop.reason:
        raise RuntimeError(f"{run_id}: {status.failure.message or f'{task.enough} was not reached'}")
    return status


def main() -> int:
    """Prints a line for each algorithm and seed, and the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=tuple(TASKS), action="append")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    console, table = Console(), Table(title=f"Pendulum-v1, gravity {OLD_GRAVITY:g} and then {CHANGED_GRAVITY:g}")
    columns = (
        "algorithm",
        "seed",
        "return",
        "old world",
        "changed, from scratch",
        "changed, fine-tuned",
        "ratio",
    )
    for column in columns:
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as name, Children(Path(name)) as children:
        service = children.start("up", "--port", "0", "--models-dir", f"{name}/models")
        stub = rpc.PolicyTrainerServiceStub(grpc.insecure_channel(service.wait_until_ready()["address"]))
        for algorithm in arguments.only or TASKS:
            task, ratios = TASKS[algorithm], []
            for seed in range(1, arguments.seeds + 1):
                old = train(stub, task, OLD_GRAVITY, seed)
                scratch = train(stub, task, CHANGED_GRAVITY, seed)
                tuned = train(stub, task, CHANGED_GRAVITY, seed, pb.StartFrom(run=old.run_id))
                steps = [each.timesteps_done for each in (old, scratch, tuned)]
                ratios.append(steps[2] / steps[1])
                cells = (f"{task.enough:g}", *(f"{each:,}" for each in steps), f"{ratios[-1]:.2f}")
                table.add_row(algorithm, str(seed), *cells)
                console.print(f"{algorithm} seed {seed}: {steps}", highlight=False)
            table.add_row(algorithm, "median", "", "", "", "", f"{statistics.median(ratios):.2f}")
    console.print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
