"""``aisandbox train``: starts a run and shows its progress.

Owns how options become a TrainingRequest. Must not know how a status is shown.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_wire import ALGORITHM_NAMES
from google.protobuf.message import Message

from aisandbox_cli import options
from aisandbox_cli import placement as place
from aisandbox_cli.connection import CALL_TIMEOUT, connect
from aisandbox_cli.errors import UsageError
from aisandbox_cli.lessons_file import read_lessons
from aisandbox_cli.progress import show_until_done
from aisandbox_cli.rendering import message_json

M = TypeVar("M", bound=Message)

NUMBERS: Mapping[str, int] = {name.lower(): number for number, name in ALGORITHM_NAMES.items()}
"""The algorithms by the lower-case values of ALGORITHM."""

STOP_RULES = pb.StopWhen.DESCRIPTOR.fields_by_name
"""The names of --stop-when and their fields."""

CLONING = {
    name: pb.Demonstrations.DESCRIPTOR.fields_by_name[name] for name in ("epochs", "batch_size", "learning_rate")
}
"""The names of --cloning and their fields."""

PARTS: Mapping[str, int] = {
    name.removeprefix("TAKEN_PART_").lower().replace("_", "-"): number
    for name, number in pb.TakenPart.items()
    if number
}
"""The values of --take."""

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
    simulator: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Train against simulators at host:port (several: a:1,b:2) or dns:///name:port."
        ),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Train against the simulators of this pool, which attach to the service."),
    ] = None,
    gymnasium: Annotated[
        str | None, typer.Option(metavar="ID", help="Train against the Gymnasium environment with this id.")
    ] = None,
    environments: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Number of parallel environments over all addresses of --simulator; the most of --pool.",
            show_default="auto",
        ),
    ] = 0,
    minimum: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Start with this many environments of --pool, and take more when they attach.",
            show_default="as --environments",
        ),
    ] = 0,
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
    start_from: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="Start from the weights of RUN, RUN:best (or latest, final, step:N), RUN:checkpoint, "
            "RUN:checkpoint:N, or of an SB3 zip file, relative to MODELS_DIR.",
        ),
    ] = "",
    take: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help=f"What else to take over from --start-from: {', '.join(PARTS)}; repeatable."),
    ] = None,
    demonstrations: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Learn from the episodes of this file of `aisandbox record` first; relative to MODELS_DIR.",
        ),
    ] = "",
    cloning: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=NUMBER",
            help=f"How to learn from --demonstrations: {', '.join(CLONING)}; repeatable.",
        ),
    ] = None,
    stop_when: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE=NUMBER",
            help="End the run early, with its best model, when this is reached; repeatable. "
            f"Rules: {', '.join(STOP_RULES)}.",
        ),
    ] = None,
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
    environment = _environment(simulator, pool, gymnasium, environments, minimum, environment_option or [])
    request = pb.TrainingRequest(
        experiment_id=experiment or _experiment(algorithm, environment),
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
        request.start_from.CopyFrom(_start_from(start_from, take or []))
    if demonstrations or cloning:
        request.demonstrations.CopyFrom(_demonstrations(demonstrations, cloning or []))
    if stop_when:
        request.stop_when.CopyFrom(_stop_when(stop_when))
    with connect(address) as service:
        response = getattr(service.stub, _call(algorithm))(request, timeout=CALL_TIMEOUT)
        if detach or as_json:
            print(message_json(response) if as_json else response.run_id, flush=True)
        else:
            print(f"Started {response.run_id}.", flush=True)
        if not detach:
            raise typer.Exit(show_until_done(service, response.run_id, as_json=as_json))


def _start_from(source: str, take: list[str]) -> pb.StartFrom:
    """The message of ``--start-from SOURCE --take PART``; the service checks the names."""
    if not source:
        raise UsageError("--take: only with --start-from")
    parts = [part.lower().replace("_", "-") for part in take]
    if unknown := [part for part in parts if part not in PARTS]:
        raise UsageError(f"--take {unknown[0]}: must be one of {', '.join(PARTS)}")
    start = pb.StartFrom(take=[PARTS[part] for part in parts])  # type: ignore[misc]
    run, _, selector = source.partition(":")
    kind, _, step = selector.partition(":")
    if source.lower().endswith(".zip") or "/" in source:
        start.zip = source
    elif kind == "checkpoint":
        start.run, start.checkpoint = run, f"step:{step}" if step.isdecimal() else step or "latest"
    else:
        start.run, start.model = run, selector
    return start


def _demonstrations(file: str, numbers: list[str]) -> pb.Demonstrations:
    """The message of ``--demonstrations FILE --cloning KEY=NUMBER``."""
    if not file:
        raise UsageError("--cloning: only with --demonstrations")
    return _with_numbers(pb.Demonstrations(file=file), numbers, "--cloning", CLONING)


def _stop_when(rules: list[str]) -> pb.StopWhen:
    """The message of ``--stop-when RULE=NUMBER``."""
    return _with_numbers(pb.StopWhen(), rules, "--stop-when", STOP_RULES)


def _with_numbers(message: M, given: list[str], option: str, known: Mapping[str, Any]) -> M:
    """``message`` with the fields that ``option`` gives, as KEY=NUMBER; the service checks the numbers' ranges.

    ``known``: the fields that it may give, by their names.
    """
    for name, text in options.pairs(given, option).items():
        field = known.get(name.replace("-", "_"))
        if field is None:
            raise UsageError(f"{option} {name}: must be one of {', '.join(known)}")
        try:
            number = float(text) if field.cpp_type == field.CPPTYPE_DOUBLE else options.steps(text)
            setattr(message, field.name, number)
        except (ValueError, typer.BadParameter) as error:
            raise UsageError(f"{option} {name}={text}: must be a number; {error}") from error
        if not number and not field.has_presence:  # which says to the service that it was not given
            raise UsageError(f"{option} {name}={text}: must be more than 0")
    return message


def _environment(
    simulator: str | None,
    pool: str | None,
    gymnasium: str | None,
    environments: int,
    minimum: int,
    settings: list[str],
) -> pb.Environment | None:
    """The environment of the request; None lets the service choose."""
    given = {"--simulator": simulator, "--pool": pool, "--gymnasium": gymnasium}
    if len(named := [option for option, value in given.items() if value]) > 1:
        raise UsageError(f"{' and '.join(named)}: use only one of them")
    if environments and not (simulator or pool):
        raise UsageError("--environments: only with --simulator or --pool (otherwise use -p n_envs=N)")
    if minimum and not pool:
        raise UsageError("--minimum: only with --pool")
    if settings and not named:
        raise UsageError("--environment-option: only with --simulator, --pool or --gymnasium")
    values = options.json_pairs(settings, "--environment-option")
    if simulator:
        environment = pb.Environment(grpc=pb.GrpcEnvironment(address=simulator, environments=environments))
        environment.grpc.options.update(values)
        return environment
    if pool:
        environment = pb.Environment(pool=pb.PoolEnvironment(name=pool, environments=environments, minimum=minimum))
        environment.pool.options.update(values)
        return environment
    if gymnasium:
        environment = pb.Environment(gymnasium=pb.GymnasiumEnvironment(id=gymnasium))
        environment.gymnasium.kwargs.update(values)
        return environment
    return None


def _experiment(algorithm: int, environment: pb.Environment | None) -> str:
    """The default of --experiment: the algorithm and the environment."""
    kind = environment.WhichOneof("kind") if environment else None
    named = (
        {"grpc": "simulator", "pool": environment.pool.name, "gymnasium": environment.gymnasium.id}
        if environment
        else {}
    )
    name = named.get(kind or "", "default")
    return re.sub(r"[^a-z0-9]+", "-", f"{ALGORITHM_NAMES[algorithm]}-{name}".lower()).strip("-")[:128]


def _within_int64(value: int, option: str) -> int:
    """Checks that the value fits the int64 of the request; the service checks its range."""
    if not -(2**63) <= value < 2**63:
        raise UsageError(f"{option} {value}: too large for a 64-bit integer")
    return value
