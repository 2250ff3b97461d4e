"""``aisandbox demo``: trains a policy against a simulator, then uses it, in one to two minutes.

Owns the steps of the demo and the processes of the service and the simulator while it runs. Uses the same gRPC calls as
a user's own simulation. Must not know how training or serving work.
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
from aisandbox_cli.processes import Children
from aisandbox_cli.program import command
from aisandbox_cli.progress import display_for
from aisandbox_cli.rendering import duration, metrics, number
from aisandbox_cli.watch import ConnectionLost, watch_training

ENVIRONMENT = "CartPole-v1"
MAX_RETURN, SOLVED_AT = 500, 475
TRAINING_ENVIRONMENTS = 8
# The hyperparameters of RL Zoo for PPO on CartPole-v1.
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
        typer.Option(
            "--dir", metavar="FOLDER", show_default="a new temporary folder", help="The folder of models and logs."
        ),
    ] = None,
    timesteps: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of environment steps of the training.")
    ] = 100_000,
    episodes: Annotated[
        int, typer.Option(min=1, max=100, metavar="N", help="Number of episodes played with the trained policy.")
    ] = 20,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, metavar="N", help="Random seed of the training.")] = 1,
) -> None:
    """Train a policy against a simulator in another process, then play episodes with it.

    Starts the service (`aisandbox up`) and a simulator (`aisandbox
    host-gymnasium CartPole-v1`) as processes on free ports of this machine,
    trains PPO against the simulator over gRPC, then plays episodes: it sends
    each observation of the simulator to the service (Act) and each action back.

    The maximum of an episode is 500 steps with the pole upright; exit code 0 if
    the mean is at least 475. Takes one to two minutes on two cores. Both processes
    are always stopped at the end.
    """
    base = folder.absolute() if folder else Path(tempfile.mkdtemp(prefix="aisandbox-demo-"))
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CliError(f"--dir {base}: {error.strerror or error}") from error
    try:
        with Children(base) as children:
            run_id, returns = _run(children, base, timesteps, episodes, seed)
    except KeyboardInterrupt:
        print(f"\nStopped. The files of the unfinished demo are in {base}.", file=sys.stderr)
        raise typer.Exit(130) from None
    mean = sum(returns) / len(returns)
    mean_text, minimum = number(round(mean, 1)), number(min(returns))
    print(f"\n  mean return {mean_text} of {MAX_RETURN} over {episodes} episodes (minimum {minimum})")
    _print_next_steps(base, run_id)
    if mean < SOLVED_AT:
        raise Failed(
            f"the policy did not learn: its mean return {mean:.1f} is below {SOLVED_AT}", "Try another --seed."
        )


def _run(children: Children, base: Path, timesteps: int, episodes: int, seed: int) -> tuple[str, list[float]]:
    """Trains, then plays; returns the id of the run and the returns of the episodes."""
    print("Starting the service and a simulator, each in its own process ...", flush=True)
    models = base / "models"
    service_process = children.start("up", "--port", "0", "--models-dir", str(models))
    capacity = TRAINING_ENVIRONMENTS + max(TRAINING_ENVIRONMENTS, episodes)
    simulator_process = children.start("host-gymnasium", ENVIRONMENT, "--port", "0", "--environments", str(capacity))
    simulator = str(simulator_process.wait_until_ready()["address"])
    address = str(service_process.wait_until_ready()["address"])
    print(f"  service    {address}  (process {service_process.pid})")
    print(f"  simulator  {simulator}  (process {simulator_process.pid}), {ENVIRONMENT}")
    with connect(f"http://{address}") as service:
        print(f"\nTraining PPO for {timesteps:,} timesteps against the simulator, over gRPC ...", flush=True)
        status = _train(service, children, simulator, timesteps, seed)
        model = _better_model(status)
        print(f"\nPlaying {episodes} episodes in the simulator with actions of the {model} model ...", flush=True)
        started = time.monotonic()
        returns, actions = _play(service, simulator, status.run_id, model, episodes, seed)
        took = time.monotonic() - started
        print(
            f"  {actions:,} calls of Act in {duration(took)}: {actions / took:,.0f} per second, including the simulator"
        )
    return status.run_id, returns


def _train(service: Connection, children: Children, simulator: str, timesteps: int, seed: int) -> pb.StatusResponse:
    """Trains until the run is done; returns its last status."""
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
        for event in watch_training(service.stub, run_id):
            children.check_alive()
            if isinstance(event, ConnectionLost):
                display.note(f"connection to the service lost ({event.reason}); retrying")
            else:
                status = event
                display.update(status)
    if status.phase != pb.PHASE_SUCCEEDED:
        raise Failed(
            f"the training did not succeed: {status.failure.reason or 'it was cancelled'}", status.failure.message
        )
    print(f"  {run_id} trained in {duration(time.monotonic() - started)}: {', '.join(metrics(status))}")
    return status


def _better_model(status: pb.StatusResponse) -> str:
    """``best`` if an evaluation during the training was better than the last one, otherwise ``final``."""
    best = status.best_model
    return "best" if best.HasField("reward_mean") and best.reward_mean > status.evaluation_reward_mean else "final"


def _play(
    service: Connection, simulator: str, run_id: str, model: str, episodes: int, seed: int
) -> tuple[list[float], int]:
    """Plays the episodes; returns their returns and the number of actions."""
    # Imported here: --help needs no NumPy.
    from aisandbox_environment import SimulatorSession

    from aisandbox_cli.episodes import play_episodes

    actions = 0

    def act(observation: list[float]) -> float:
        nonlocal actions
        actions += 1
        request = pb.ActRequest(run_id=run_id, observation=observation, model=model)
        return service.stub.Act(request, timeout=CALL_TIMEOUT).action[0]

    # Seeds that the training did not use: its environments started with seed, seed + 1, ...
    seeds = [1_000_000 + seed + index for index in range(episodes)]
    with SimulatorSession.connect(simulator, environments=episodes, run_id=run_id, evaluation=True) as session:
        return play_episodes(session, act, seeds), actions


def _print_next_steps(base: Path, run_id: str) -> None:
    models = base / "models"
    serve = command(f'up --models-dir "{models}"')
    print(
        f"""
Files of the run
  {models / "runs" / run_id}
    models/       the policies, each an ONNX file with its description
    checkpoints/  the state from which a training resumes
    logs/         training curves for TensorBoard
  {base}: logs of the service and the simulator. Delete the folder when you no longer need it.

Next steps
  {serve}
      serves the trained policy; then, in another terminal:
  {command(f"act {run_id} 0.01 0.02 0.03 0.04")}
  {command(f"model {run_id} -o policy.onnx")}
  {command("train --help")}
      shows how to train against your own simulator; docs/simulators.md explains how to write one"""
    )
