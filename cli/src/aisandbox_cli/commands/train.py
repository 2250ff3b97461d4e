"""``aisandbox train``: starts a run and shows its progress.

Owns how options become a TrainingRequest. Must not know how a status is shown.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_wire import ALGORITHM_NAMES

from aisandbox_cli import options
from aisandbox_cli import placement as place
from aisandbox_cli import request_parts as parts
from aisandbox_cli import trained_environment as env
from aisandbox_cli.connection import CALL_TIMEOUT, connect
from aisandbox_cli.errors import UsageError
from aisandbox_cli.lessons_file import read_lessons
from aisandbox_cli.progress import show_until_done
from aisandbox_cli.rendering import message_json

NUMBERS: Mapping[str, int] = {name.lower(): number for number, name in ALGORITHM_NAMES.items()}
"""The algorithms by the lower-case values of ALGORITHM."""

_SERVICE = pb.DESCRIPTOR.services_by_name["PolicyTrainerService"]


def _algorithm(text: str) -> int:
    """The number of the algorithm with this name, in any case."""
    if text.lower() not in NUMBERS:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(NUMBERS)}.")
    return NUMBERS[text.lower()]


def _call(algorithm: int) -> str:
    """The call that starts a run: that of the algorithm where it has one, which earlier services have too."""
    named = f"StartTraining{ALGORITHM_NAMES[algorithm]}"
    return named if named in _SERVICE.methods_by_name else "StartTraining"


def _completions(incomplete: str) -> list[str]:
    return [name for name in NUMBERS if name.startswith(incomplete.lower())]


def train(
    algorithm: Annotated[
        int,
        typer.Argument(
            metavar="ALGORITHM", parser=_algorithm, autocompletion=_completions, help=f"{', '.join(NUMBERS)}."
        ),
    ],
    timesteps: Annotated[
        int,
        typer.Option(
            "--timesteps",
            "-t",
            parser=options.steps,
            metavar="N",
            help="Number of environment steps, for example 100000 or 1e5.",
        ),
    ] = 100_000,
    simulator: env.Simulator = None,
    pool: env.Pool = None,
    gymnasium: env.Gymnasium = None,
    environments: env.Environments = 0,
    minimum: env.Minimum = 0,
    environment_option: options.EnvironmentOption = None,
    hyperparameter: Annotated[
        list[str] | None,
        typer.Option(
            "--hyperparameter",
            "-p",
            metavar="KEY=VALUE",
            help="A hyperparameter in the notation of RL Zoo; repeatable.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Random seed, 0 to 4294967295; if omitted, the service chooses one.")
    ] = None,
    experiment: Annotated[
        str, typer.Option(metavar="NAME", help="A name that groups runs.", show_default="ALGORITHM-ENVIRONMENT")
    ] = "",
    output: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Also save the final model as an SB3 zip file here, relative to MODELS_DIR of the service.",
        ),
    ] = "",
    checkpoint_every: Annotated[
        int,
        typer.Option(
            parser=options.steps, metavar="N", help="Timesteps between checkpoints.", show_default="a tenth of all"
        ),
    ] = 0,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Evaluate during the training and keep the best model.")
    ] = False,
    evaluate_every: Annotated[
        int,
        typer.Option(
            parser=options.steps, metavar="N", help="Timesteps between evaluations.", show_default="same as checkpoints"
        ),
    ] = 0,
    evaluate_episodes: Annotated[
        int, typer.Option(min=0, metavar="N", show_default="10", help="Episodes of each evaluation.")
    ] = 0,
    evaluate_stochastic: Annotated[
        bool, typer.Option("--evaluate-stochastic", help="Sample actions in evaluations.")
    ] = False,
    start_from: parts.StartFrom = "",
    take: parts.Take = None,
    demonstrations: parts.Demonstrations = "",
    cloning: parts.Cloning = None,
    stop_when: parts.StopWhen = None,
    lessons: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Lessons: parameters of the environment by progress, as YAML or JSON."),
    ] = None,
    request_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Idempotency key: a repeated start with the same id does not start a second run."
        ),
    ] = None,
    requests: place.Requests = "",
    limits: place.Limits = "",
    queue: place.Queue = "",
    priority_class: place.PriorityClass = "",
    label: place.Label = None,
    node_selector: place.NodeSelector = None,
    toleration: place.Toleration = None,
    pod_template: place.PodTemplate = "",
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the id of the run and exit.")] = False,
    as_json: options.Json = False,
    address: options.Address = None,
) -> None:
    """Train a policy and show the progress; exit code 0 only if the run succeeds.

    Without --simulator, --pool and --gymnasium the service trains in its default
    environment: the built-in test environment, or its adapter if it has one.
    Ctrl-C stops watching, not the training.

    \b
    Examples:
      aisandbox train ppo -t 20000
      aisandbox train ppo --simulator 127.0.0.1:50061 -t 1e6 --evaluate
      aisandbox train sac --gymnasium Pendulum-v1 -t 20000
      aisandbox train sac --gymnasium Pendulum-v1 --start-from RUN:best
      aisandbox train ppo --gymnasium MountainCar-v0 --demonstrations car.parquet
      aisandbox train ppo -t 1e6 --evaluate --stop-when evaluation_reward_mean=475
      aisandbox train ppo --pool arena --environments 8 --minimum 2
      aisandbox train ppo --simulator 127.0.0.1:50061 --lessons lessons.yaml
      aisandbox train dqn --gymnasium CartPole-v1 -p learning_rate=lin_2e-3
      aisandbox train ppo --gymnasium Pendulum-v1 -p normalize=True
                          -p "policy_kwargs=dict(net_arch=[64, 64])"
      aisandbox train ppo --requests cpu=2,memory=4Gi --queue gpus
      run=$(aisandbox train a2c --detach); aisandbox watch $run
    """  # noqa: D301 - \b keeps the lines apart
    environment = env.environment(simulator, pool, gymnasium, environments, minimum, environment_option or [])
    request = pb.TrainingRequest(
        experiment_id=experiment or env.experiment(algorithm, environment),
        total_timesteps=_within_int64(timesteps, "--timesteps"),
        hyperparameters=options.pairs(hyperparameter or [], "-p"),
        model_output_path=output,
        environment=environment,
        request_id=request_id or str(uuid.uuid4()),
        algorithm=algorithm,  # type: ignore[arg-type]
        checkpoint_every_timesteps=_within_int64(checkpoint_every, "--checkpoint-every"),
        lessons=read_lessons(lessons) if lessons else (),
        placement=place.placement(
            requests, limits, queue, priority_class, label, node_selector, toleration, pod_template
        ),
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
    if start_from or take:
        request.start_from.CopyFrom(parts.start_from(start_from, take or []))
    if demonstrations or cloning:
        request.demonstrations.CopyFrom(parts.demonstrations(demonstrations, cloning or []))
    if stop_when:
        request.stop_when.CopyFrom(parts.stop_when(stop_when))
    with connect(address) as service:
        response = getattr(service.stub, _call(algorithm))(request, timeout=CALL_TIMEOUT)
        if detach or as_json:
            print(message_json(response) if as_json else response.run_id, flush=True)
        else:
            print(f"Started {response.run_id}.", flush=True)
        if not detach:
            raise typer.Exit(show_until_done(service, response.run_id, as_json=as_json))


def _within_int64(value: int, option: str) -> int:
    """Checks that the value fits the int64 of the request; the service checks its range."""
    if not -(2**63) <= value < 2**63:
        raise UsageError(f"{option} {value}: too large for a 64-bit integer")
    return value
