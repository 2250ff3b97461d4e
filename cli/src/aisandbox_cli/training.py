"""``aisandbox train``: starts a run and follows it.

Owns how options become a TrainingRequest, and the following that `watch` shares. Must not know how a status is drawn.
"""

from __future__ import annotations

import re
import sys
import uuid
from enum import StrEnum
from typing import Annotated

import typer
from aisandbox.v1 import policy_trainer_pb2 as pb

from aisandbox_cli import options
from aisandbox_cli.connection import CALL_TIMEOUT, Connection, connect
from aisandbox_cli.errors import Misused
from aisandbox_cli.following import ConnectionLost
from aisandbox_cli.following import watch as watch_run
from aisandbox_cli.progress import display_for
from aisandbox_cli.rendering import details, message_json, two_columns


class Algorithm(StrEnum):
    """The names a command line may say."""

    PPO = "ppo"
    A2C = "a2c"
    DQN = "dqn"


Texts = list[str]


def train(
    algorithm: Annotated[Algorithm, typer.Argument(metavar="ALGORITHM", case_sensitive=False, help="ppo, a2c or dqn.")],
    timesteps: Annotated[
        int,
        typer.Option("--timesteps", "-t", parser=options.steps, metavar="N", help="Environment steps: 100000, 1e5."),
    ] = 100_000,
    simulator: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Train against a simulator: host:port, a:1,b:2 or dns:///name:port."),
    ] = None,
    gymnasium: Annotated[str | None, typer.Option(metavar="ID", help="Train against a Gymnasium id.")] = None,
    environments: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Environments over all addresses of --simulator.", show_default="auto"),
    ] = 0,
    environment_option: Annotated[
        Texts | None,
        typer.Option(
            metavar="KEY=VALUE", help="A setting of the simulator or a keyword of gymnasium.make; repeatable."
        ),
    ] = None,
    hyperparameter: Annotated[
        Texts | None,
        typer.Option("--hyperparameter", "-p", metavar="KEY=VALUE", help="As RL Zoo writes it; repeatable."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="0 to 4294967295; chosen by the service if absent.")
    ] = None,
    experiment: Annotated[
        str, typer.Option(metavar="NAME", help="Groups runs.", show_default="ALGORITHM-ENVIRONMENT")
    ] = "",
    output: Annotated[
        str, typer.Option(metavar="PATH", help="Also put the final SB3 zip here, relative to the service's MODELS_DIR.")
    ] = "",
    checkpoint_every: Annotated[
        int,
        typer.Option(parser=options.steps, metavar="N", help="Timesteps between checkpoints.", show_default="a tenth"),
    ] = 0,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Play evaluation episodes; keeps the best model.")
    ] = False,
    evaluate_every: Annotated[
        int,
        typer.Option(
            parser=options.steps, metavar="N", help="Timesteps between evaluations.", show_default="as checkpoints"
        ),
    ] = 0,
    evaluate_episodes: Annotated[
        int, typer.Option(min=0, metavar="N", show_default="10", help="Episodes in each.")
    ] = 0,
    evaluate_stochastic: Annotated[bool, typer.Option("--evaluate-stochastic", help="Sample their actions.")] = False,
    request_id: Annotated[
        str | None, typer.Option(metavar="ID", help="A start that is repeated with the same id is one run.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the run's id and leave.")] = False,
    as_json: options.Json = False,
    address: options.Address = None,
) -> None:
    """Train a policy and follow the training; exit code 0 only if it succeeds.

    Without --simulator and --gymnasium the service trains against a small
    environment in memory. Ctrl-C stops the following, not the training.

    \b
    Examples:
      aisandbox train ppo -t 20000
      aisandbox train ppo --simulator 127.0.0.1:50061 -t 1e6 --evaluate
      aisandbox train dqn --gymnasium CartPole-v1 -p learning_rate=lin_2e-3
      aisandbox train ppo --gymnasium Pendulum-v1 -p normalize=True
                          -p "policy_kwargs=dict(net_arch=[64, 64])"
      run=$(aisandbox train a2c --detach); aisandbox watch $run
    """  # noqa: D301 - \b keeps the lines apart
    environment = _environment(simulator, gymnasium, environments, environment_option or [])
    request = pb.TrainingRequest(
        experiment_id=experiment or _experiment(algorithm, environment),
        total_timesteps=_within_int64(timesteps, "--timesteps"),
        hyperparameters=options.pairs(hyperparameter or [], "-p"),
        model_output_path=output,
        environment=environment,
        request_id=request_id or str(uuid.uuid4()),
        checkpoint_every_timesteps=_within_int64(checkpoint_every, "--checkpoint-every"),
    )
    if seed is not None:
        request.seed = _within_int64(seed, "--seed")
    if evaluate or evaluate_every or evaluate_episodes or evaluate_stochastic:
        request.evaluation.CopyFrom(
            pb.Evaluation(
                every_timesteps=_within_int64(evaluate_every, "--evaluate-every"),
                episodes=evaluate_episodes,
                stochastic=evaluate_stochastic,
            )
        )
    with connect(address) as service:
        start = getattr(service.stub, f"StartTraining{algorithm.name}")
        response = start(request, timeout=CALL_TIMEOUT)
        if detach or as_json:
            print(message_json(response) if as_json else response.run_id, flush=True)
        else:
            print(f"Started {response.run_id}.", flush=True)
        if not detach:
            raise typer.Exit(follow(service, response.run_id, as_json=as_json))


def follow(service: Connection, run_id: str, *, as_json: bool) -> int:
    """Shows the run until it is done; 0 if it succeeded, 1 if not, 130 if Ctrl-C ended the following."""
    status = pb.StatusResponse()
    try:
        with display_for(sys.stdout, json=as_json) as display:
            for event in watch_run(service.stub, run_id):
                if isinstance(event, ConnectionLost):
                    display.note(f"connection to the service lost ({event.why}); trying again, the run is not touched")
                else:
                    status = event
                    display.update(status)
    except KeyboardInterrupt:
        print("\nStopped watching; the training goes on.", *_ways_on(service, run_id), sep="\n", file=sys.stderr)
        return 130
    if not as_json:
        print(two_columns(details(status)))
        if status.phase == pb.PHASE_SUCCEEDED:
            print(f"\nUse it:  {service.command(f'act {run_id} OBSERVATION...')}")
    return 0 if status.phase == pb.PHASE_SUCCEEDED else 1


def _ways_on(service: Connection, run_id: str) -> list[str]:
    return [
        f"  watch again:  {service.command(f'watch {run_id}')}",
        f"  end it:       {service.command(f'cancel {run_id}')}",
    ]


def _environment(
    simulator: str | None, gymnasium: str | None, environments: int, settings: Texts
) -> pb.Environment | None:
    """What to train against; None leaves it to the service."""
    if simulator and gymnasium:
        raise Misused("--simulator and --gymnasium: only one of them")
    if environments and not simulator:
        raise Misused("--environments: only with --simulator (otherwise -p n_envs=N)")
    if settings and not (simulator or gymnasium):
        raise Misused("--environment-option: only with --simulator or --gymnasium")
    values = options.json_pairs(settings, "--environment-option")
    if simulator:
        environment = pb.Environment(grpc=pb.GrpcEnvironment(address=simulator, environments=environments))
        environment.grpc.options.update(values)
        return environment
    if gymnasium:
        environment = pb.Environment(gymnasium=pb.GymnasiumEnvironment(id=gymnasium))
        environment.gymnasium.kwargs.update(values)
        return environment
    return None


def _experiment(algorithm: Algorithm, environment: pb.Environment | None) -> str:
    """A name for runs whose owner gave none: the algorithm and the environment."""
    kind = environment.WhichOneof("kind") if environment else None
    name = {"grpc": "simulator", "gymnasium": environment.gymnasium.id if environment else ""}.get(
        kind or "", "default"
    )
    return re.sub(r"[^a-z0-9]+", "-", f"{algorithm.value}-{name}".lower()).strip("-")[:128]


def _within_int64(value: int, option: str) -> int:
    """The service checks what is sensible; this is only what the wire can carry."""
    if not -(2**63) <= value < 2**63:
        raise Misused(f"{option} {value}: too large")
    return value
