"""``aisandbox demo``: everything once, in about a minute.

Owns the order of the steps, and the processes of the service and of the simulator while it runs. Does what a user's own
simulation would do, over the same calls. Must not know how training or serving work.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from aisandbox.v1 import policy_trainer_pb2 as pb

from aisandbox_cli.connection import CALL_TIMEOUT, Connection, connect
from aisandbox_cli.errors import CliError, Failed
from aisandbox_cli.following import ConnectionLost
from aisandbox_cli.following import watch as watch_run
from aisandbox_cli.processes import Children
from aisandbox_cli.program import command
from aisandbox_cli.progress import display_for
from aisandbox_cli.rendering import duration, measures, number

ENVIRONMENT = "CartPole-v1"
BEST, GOAL = 500, 475
TRAINING_ENVIRONMENTS = 8
# What RL Zoo trains PPO on CartPole-v1 with.
HYPERPARAMETERS = {
    "n_steps": "32",
    "batch_size": "256",
    "n_epochs": "20",
    "gae_lambda": "0.8",
    "gamma": "0.98",
    "ent_coef": "0.0",
    "learning_rate": "lin_0.001",
    "clip_range": "lin_0.2",
}


def demo(
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="FOLDER", show_default="a new temporary one", help="Where everything is kept."),
    ] = None,
    timesteps: Annotated[int, typer.Option(min=1, metavar="N", help="Environment steps of training.")] = 100_000,
    episodes: Annotated[int, typer.Option(min=1, max=100, metavar="N", help="Episodes driven through Act.")] = 20,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, metavar="N", help="The seed of the training.")] = 1,
) -> None:
    """See a policy being trained against a simulator in another process, and then driving it.

    Starts the service (`aisandbox up`) and a simulator (`aisandbox
    host-gymnasium CartPole-v1`) as processes on free ports of this machine,
    trains PPO against the simulator over gRPC, then drives episodes of the
    simulator with the actions that the service answers to its observations.

    Balancing the pole for 500 steps is the most there is; exit code 0 if the
    mean reaches 475. Takes about a minute on two cores, and ends its processes
    in every case.
    """
    base = folder.absolute() if folder else Path(tempfile.mkdtemp(prefix="aisandbox-demo-"))
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CliError(f"--dir {base}: {error.strerror or error}") from error
    try:
        with Children(base) as children:
            run_id, returns = _perform(children, base, timesteps, episodes, seed)
    except KeyboardInterrupt:
        print(f"\nStopped. What there is so far lies in {base}.", file=sys.stderr)
        raise typer.Exit(130) from None
    mean = sum(returns) / len(returns)
    print(f"\n  mean {number(round(mean, 1))} of {BEST} over {episodes} episodes (lowest {number(min(returns))})")
    _print_ways_on(base, run_id)
    if mean < GOAL:
        raise Failed(f"the policy did not learn: a mean of {mean:.1f} is below {GOAL}", "Try another --seed.")


def _perform(children: Children, base: Path, timesteps: int, episodes: int, seed: int) -> tuple[str, list[float]]:
    """Trains, then drives; the run's id and the returns of the episodes."""
    print("Starting the service and a simulator, each in its own process ...", flush=True)
    models = base / "models"
    service_process = children.start("up", "--port", "0", "--models-dir", str(models))
    capacity = TRAINING_ENVIRONMENTS + max(TRAINING_ENVIRONMENTS, episodes)
    simulator_process = children.start("host-gymnasium", ENVIRONMENT, "--port", "0", "--environments", str(capacity))
    simulator = str(simulator_process.wait_until_ready()["address"])
    address = str(service_process.wait_until_ready()["address"])
    print(f"  service    {address}  (process {service_process.pid})")
    print(f"  simulator  {simulator}  (process {simulator_process.pid}), {ENVIRONMENT}")
    with connect(address) as service:
        print(f"\nTraining PPO for {timesteps:,} timesteps against the simulator, over gRPC ...", flush=True)
        status = _train(service, children, simulator, timesteps, seed)
        model = _better_model(status)
        print(f"\nDriving {episodes} episodes of the simulator with the answers of its {model} model ...", flush=True)
        started = time.monotonic()
        returns, actions = _drive(service, simulator, status.run_id, model, episodes, seed)
        took = time.monotonic() - started
        print(f"  {actions:,} calls of Act in {duration(took)}, {actions / took:,.0f} a second, simulator included")
    return status.run_id, returns


def _train(service: Connection, children: Children, simulator: str, timesteps: int, seed: int) -> pb.StatusResponse:
    """Trains until the run is done; its last status."""
    request = pb.TrainingRequest(
        experiment_id="demo",
        total_timesteps=timesteps,
        seed=seed,
        hyperparameters=HYPERPARAMETERS,
        environment=pb.Environment(grpc=pb.GrpcEnvironment(address=simulator, environments=TRAINING_ENVIRONMENTS)),
        evaluation=pb.Evaluation(episodes=10),
    )
    started = time.monotonic()
    run_id = service.stub.StartTrainingPPO(request, timeout=CALL_TIMEOUT).run_id
    status = pb.StatusResponse()
    with display_for(sys.stdout, json=False) as display:
        for event in watch_run(service.stub, run_id):
            children.check_alive()
            if isinstance(event, ConnectionLost):
                display.note(f"connection to the service lost ({event.why}); trying again")
            else:
                status = event
                display.update(status)
    if status.phase != pb.PHASE_SUCCEEDED:
        raise Failed(
            f"the training did not succeed: {status.failure.reason or 'it was cancelled'}", status.failure.message
        )
    print(f"  {run_id} trained in {duration(time.monotonic() - started)}: {', '.join(measures(status))}")
    return status


def _better_model(status: pb.StatusResponse) -> str:
    """``best`` if an evaluation during the training was better than the one at its end, else ``final``."""
    best = status.best_model
    return "best" if best.HasField("reward_mean") and best.reward_mean > status.evaluation_reward_mean else "final"


def _drive(
    service: Connection, simulator: str, run_id: str, model: str, episodes: int, seed: int
) -> tuple[list[float], int]:
    """The returns of the episodes, and how many actions they took."""
    # Imported here: --help needs no NumPy.
    from aisandbox_environment.session import SimulatorSession

    from aisandbox_cli.driving import drive

    taken = 0

    def act(observation: list[float]) -> float:
        nonlocal taken
        taken += 1
        request = pb.ActRequest(run_id=run_id, observation=observation, model=model)
        return service.stub.Act(request, timeout=CALL_TIMEOUT).action[0]

    # Seeds the training has not seen: its environments began with seed, seed + 1, ...
    seeds = [1_000_000 + seed + index for index in range(episodes)]
    with SimulatorSession.connect(simulator, environments=episodes, run_id=run_id, evaluation=True) as session:
        return drive(session, act, seeds), taken


def _print_ways_on(base: Path, run_id: str) -> None:
    models = base / "models"
    serve = command(f'up --models-dir "{models}"')
    print(
        f"""
Where things are
  {models / "runs" / run_id}
    models/       the policies, each one ONNX file with its description
    checkpoints/  what a training goes on from
    logs/         curves for TensorBoard
  {base}: the logs of the service and of the simulator. Delete the folder when you are done with it.

What to do next
  {serve}
      serves what was trained; then, in another terminal:
  {command(f"act {run_id} 0.01 0.02 0.03 0.04")}
  {command(f"model {run_id} -o policy.onnx")}
  {command("train --help")}
      trains against your own simulator; docs/simulators.md says how to write one"""
    )
