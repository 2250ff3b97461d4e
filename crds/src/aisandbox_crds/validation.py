"""What a TrainingRun may ask for.

Owns the rules of the spec's fields; hyperparameters, addresses, paths and scheduling have modules of their own. Fields
are named as in TrainingRequest and the dataclasses (``environment.grpc.address``). Must not touch disk or network.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterator, Mapping

from aisandbox_crds.addresses import address_count, address_problem
from aisandbox_crds.codec import json_problem, spec_to_json
from aisandbox_crds.effective_values import MAX_ENVIRONMENTS, known_environments
from aisandbox_crds.errors import FieldError, InvalidRun, short_repr
from aisandbox_crds.hyperparameters import (
    Hyperparameters,
    batch_conflict,
    frequency_conflict,
    parse_hyperparameters,
)
from aisandbox_crds.output_path import output_path_problem
from aisandbox_crds.scheduling import scheduling_errors
from aisandbox_crds.spec import (
    Evaluation,
    GrpcEnvironment,
    GymnasiumEnvironment,
    TrainingRunSpec,
)

MAX_TIMESTEPS = 10**12
MAX_SEED = 2**32 - 1
MAX_SPEC_BYTES = 65_536
"""Of the spec as JSON: half of what Linux allows one environment variable, which is how a trainer gets it."""

_MODULE = r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*"
_GYMNASIUM_ID = re.compile(rf"({_MODULE}:)?([\w:-]+/)?[\w.-]+", re.ASCII)


def validate_spec(spec: TrainingRunSpec) -> None:
    """Raises InvalidRun with every rule the spec breaks; returns if a run may be started with it."""
    errors = list(_errors(spec))
    try:
        hyperparameters = parse_hyperparameters(spec.algorithm, spec.hyperparameters)
    except InvalidRun as error:
        errors.extend(error.errors)
    else:
        errors.extend(_environment_count_errors(spec, hyperparameters))
    if not errors:
        size = len(json.dumps(spec_to_json(spec)))
        if size > MAX_SPEC_BYTES:
            errors.append(FieldError("request", f"is {size:,} bytes long as JSON; at most {MAX_SPEC_BYTES:,}"))
    if errors:
        raise InvalidRun(errors)


def validate_names(experiment_id: str, request_id: str | None) -> None:
    """Checks the names a client chooses: 1 to 128 printable characters each. Raises InvalidRun."""
    errors = [
        FieldError(field, f"must be 1 to 128 printable characters, got {short_repr(text)}")
        for field, text in (("experiment_id", experiment_id), ("request_id", request_id))
        if text is not None and not (1 <= len(text) <= 128 and text.isprintable() and not text.isspace())
    ]
    if errors:
        raise InvalidRun(errors)


def _errors(spec: TrainingRunSpec) -> Iterator[FieldError]:
    yield from _range("total_timesteps", spec.total_timesteps, 1, MAX_TIMESTEPS)
    if spec.seed is not None:
        yield from _range("seed", spec.seed, 0, MAX_SEED)
    yield from _range("checkpoint_every_timesteps", spec.checkpoint_every_timesteps, 0, MAX_TIMESTEPS)
    yield from _range("backoff_limit", spec.backoff_limit, 0, 1000)
    if spec.active_deadline_seconds is not None:
        yield from _range("active_deadline_seconds", spec.active_deadline_seconds, 1, 2**31 - 1)
    if spec.ttl_seconds_after_finished is not None:
        yield from _range("ttl_seconds_after_finished", spec.ttl_seconds_after_finished, 0, 2**31 - 1)
    yield from scheduling_errors(spec)
    if spec.evaluation is not None:
        yield from _evaluation_errors(spec.evaluation)
    yield from _problem("model_output_path", output_path_problem(spec.model_output_path))
    if isinstance(spec.environment, GrpcEnvironment):
        yield from _grpc_errors(spec.environment)
    elif isinstance(spec.environment, GymnasiumEnvironment):
        yield from _gymnasium_errors(spec.environment)


def _evaluation_errors(evaluation: Evaluation) -> Iterator[FieldError]:
    yield from _range("evaluation.every_timesteps", evaluation.every_timesteps, 0, MAX_TIMESTEPS)
    yield from _range("evaluation.episodes", evaluation.episodes, 1, 10_000)


def _grpc_errors(environment: GrpcEnvironment) -> Iterator[FieldError]:
    yield from _problem("environment.grpc.address", address_problem(environment.address))
    yield from _range("environment.grpc.environments", environment.environments, 0, MAX_ENVIRONMENTS)
    yield from _problem("environment.grpc.options", json_problem(environment.options))


def _gymnasium_errors(environment: GymnasiumEnvironment) -> Iterator[FieldError]:
    if len(environment.id) > 200 or not _GYMNASIUM_ID.fullmatch(environment.id):
        rule = f"must be the id of a Gymnasium environment, as 'CartPole-v1', got {short_repr(environment.id)}"
        yield FieldError("environment.gymnasium.id", rule)
    yield from _problem("environment.gymnasium.kwargs", _keywords_problem(environment.kwargs))


def _keywords_problem(kwargs: Mapping[str, object]) -> str:
    problem = json_problem(kwargs)
    wrong = [] if problem else [key for key in kwargs if not key.isidentifier() or keyword.iskeyword(key)]
    return f"has a key that cannot be a keyword argument: {short_repr(wrong[0])}" if wrong else problem


def _environment_count_errors(spec: TrainingRunSpec, hyperparameters: Hyperparameters) -> Iterator[FieldError]:
    n_envs = hyperparameters.n_envs
    if isinstance(spec.environment, GrpcEnvironment):
        said = spec.environment.environments
        if said and n_envs and said != n_envs:
            rule = f"is {n_envs}, but environment.grpc.environments is {said}: say one, or the same"
            yield FieldError("hyperparameters.n_envs", rule)
            return
        addresses = address_count(spec.environment.address)
        wanted = said or n_envs
        if addresses and wanted and wanted < addresses:
            field = "environment.grpc.environments" if said else "hyperparameters.n_envs"
            yield FieldError(field, f"is {wanted}, fewer than the {addresses} addresses: each has at least one")
    count = known_environments(spec, hyperparameters)
    if count is None:
        return
    for conflict in (batch_conflict, frequency_conflict):
        error = conflict(spec.algorithm, hyperparameters, count)
        if error is not None:
            yield error


def _range(field: str, value: object, minimum: int, maximum: int) -> Iterator[FieldError]:
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        yield FieldError(field, f"must be a whole number from {minimum:,} to {maximum:,}, got {short_repr(value)}")


def _problem(field: str, problem: str) -> Iterator[FieldError]:
    if problem:
        yield FieldError(field, problem)
