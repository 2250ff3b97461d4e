"""Whether a run may be started with a spec.

Ranges, patterns and sizes are those of the table (:mod:`aisandbox_crds.field_rules`). Owns the rules across fields and
what an expression cannot state; hyperparameters, addresses, paths and scheduling have modules of their own. Fields are
named as in TrainingRequest and the dataclasses (``environment.grpc.address``). Must not touch disk or network.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterator, Mapping
from typing import Any

from aisandbox_crds.addresses import address_count, address_problem
from aisandbox_crds.codec import json_problem, spec_to_json
from aisandbox_crds.demonstration_rules import cloning_errors, demonstration_errors
from aisandbox_crds.effective_values import effective_pool_range, known_environments
from aisandbox_crds.errors import FieldError, InvalidRun, short_repr
from aisandbox_crds.field_rules import object_errors
from aisandbox_crds.hyperparameters import (
    Hyperparameters,
    batch_conflict,
    buffer_conflict,
    fixed_columns_keyword,
    frequency_conflict,
    parse_hyperparameters,
)
from aisandbox_crds.lesson_rules import lesson_errors
from aisandbox_crds.output_path import output_path_problem
from aisandbox_crds.scheduling import scheduling_errors
from aisandbox_crds.spec import (
    GrpcEnvironment,
    GymnasiumEnvironment,
    PoolEnvironment,
    TrainingRunSpec,
)
from aisandbox_crds.start_rules import start_errors
from aisandbox_crds.stop_rules import stop_errors

_DEEPEST = 3
"""environment.grpc.options: what is in the options is the simulator's own."""

MAX_SPEC_BYTES = 65_536
"""Of the spec as JSON: half of what Linux allows one environment variable, which is how a trainer gets it."""

MAX_NAME_LENGTH = 128
"""Characters of an experiment_id or request_id."""


def validate_spec(spec: TrainingRunSpec) -> None:
    """Raises InvalidRun with every rule the spec breaks; returns if a run may be started with it."""
    errors = list(_errors(spec))
    try:
        hyperparameters = parse_hyperparameters(spec.algorithm, spec.hyperparameters)
    except InvalidRun as error:
        errors.extend(error.errors)
    else:
        errors.extend(_environment_count_errors(spec, hyperparameters))
        errors.extend(_learning_errors(spec, hyperparameters))
        errors.extend(cloning_errors(spec, hyperparameters))
        errors.extend(start_errors(spec, hyperparameters))
        errors.extend(stop_errors(spec, hyperparameters))
    if not errors:
        fields = spec_to_json(spec)
        size = len(json.dumps(fields))
        if size > MAX_SPEC_BYTES:
            field, own = _largest(fields)
            rule = f"has {own:,} of the {size:,} bytes that the spec has as JSON; at most {MAX_SPEC_BYTES:,} in all"
            errors.append(FieldError(field, rule))
    if errors:
        raise InvalidRun(errors)


def _largest(fields: Mapping[str, Any]) -> tuple[str, int]:
    """The path of the field that has most of the bytes, as clients name it, and its bytes as JSON."""
    path: list[str] = []
    size = 0
    here: Any = fields
    while isinstance(here, Mapping) and here and (not path or path[0] == "environment") and len(path) < _DEEPEST:
        sizes = {name: len(json.dumps(value)) for name, value in here.items()}
        name = max(sizes, key=lambda each: sizes[each])
        path.append(name)
        here, size = here[name], sizes[name]
    first = re.sub(r"[A-Z]", lambda letter: f"_{letter.group().lower()}", path[0])  # the JSON has modelOutputPath
    return ".".join([first, *path[1:]]), size


def validate_names(experiment_id: str, request_id: str | None) -> None:
    """Checks the names a client chooses: 1 to MAX_NAME_LENGTH printable characters each. Raises InvalidRun."""
    errors = [
        FieldError(field, f"must be 1 to {MAX_NAME_LENGTH} printable characters, got {len(text)}: {short_repr(text)}")
        for field, text in (("experiment_id", experiment_id), ("request_id", request_id))
        if text is not None and not (1 <= len(text) <= MAX_NAME_LENGTH and text.isprintable() and not text.isspace())
    ]
    if errors:
        raise InvalidRun(errors)


def _errors(spec: TrainingRunSpec) -> Iterator[FieldError]:
    """What no value may break: the rules of the table, and those that it cannot state."""
    yield from object_errors(spec, by_hand=("hyperparameters",))
    yield from scheduling_errors(spec)
    yield from _problem("model_output_path", output_path_problem(spec.model_output_path))
    if spec.evaluation is not None:
        yield from object_errors(spec.evaluation, "evaluation.")
    if spec.start_from is not None:
        yield from object_errors(spec.start_from, "start_from.")
        yield from _problem("start_from.zip", output_path_problem(spec.start_from.zip))
    if spec.demonstrations is not None:
        yield from demonstration_errors(spec.demonstrations)
    if spec.stop_when is not None:
        yield from object_errors(spec.stop_when, "stop_when.")
    yield from lesson_errors(spec.lessons, spec.total_timesteps)
    environment = spec.environment
    if isinstance(environment, GrpcEnvironment):
        yield from object_errors(environment, "environment.grpc.")
        yield from _problem("environment.grpc.address", address_problem(environment.address))
        yield from _problem("environment.grpc.options", json_problem(environment.options))
    elif isinstance(environment, PoolEnvironment):
        yield from object_errors(environment, "environment.pool.")
        yield from _problem("environment.pool.options", json_problem(environment.options))
    elif isinstance(environment, GymnasiumEnvironment):
        yield from object_errors(environment, "environment.gymnasium.")
        yield from _problem("environment.gymnasium.kwargs", _keywords_problem(environment.kwargs))


def _keywords_problem(kwargs: Mapping[str, object]) -> str:
    problem = json_problem(kwargs)
    wrong = [] if problem else [key for key in kwargs if not key.isidentifier() or keyword.iskeyword(key)]
    return f"has a key that cannot be a keyword argument: {short_repr(wrong[0])}" if wrong else problem


def _learning_errors(spec: TrainingRunSpec, hyperparameters: Hyperparameters) -> Iterator[FieldError]:
    """Why no run with these would learn; learning_starts may be beyond the end of a short trial.

    A run that learns from demonstrations may be made for them alone.
    """
    if spec.demonstrations is None and hyperparameters.keywords.get("gradient_steps") == 0:
        yield FieldError("hyperparameters.gradient_steps", "must not be 0: nothing would be learned")


def _environment_count_errors(spec: TrainingRunSpec, hyperparameters: Hyperparameters) -> Iterator[FieldError]:
    if isinstance(spec.environment, PoolEnvironment):
        yield from _pool_errors(spec, spec.environment, hyperparameters)
        return
    n_envs = hyperparameters.n_envs
    if isinstance(spec.environment, GrpcEnvironment):
        stated = spec.environment.environments
        if stated and n_envs and stated != n_envs:
            rule = f"is {n_envs}, but environment.grpc.environments is {stated}: give one of them, or the same number"
            yield FieldError("hyperparameters.n_envs", rule)
            return
        addresses = address_count(spec.environment.address)
        wanted = stated or n_envs
        if addresses and wanted and wanted < addresses:
            field = "environment.grpc.environments" if stated else "hyperparameters.n_envs"
            yield FieldError(field, f"is {wanted}, fewer than the {addresses} addresses: each has at least one")
    count = known_environments(spec, hyperparameters)
    if count is None:
        return
    for conflict in (batch_conflict, buffer_conflict, frequency_conflict):
        error = conflict(spec.algorithm, hyperparameters, count)
        if error is not None:
            yield error


def _pool_errors(
    spec: TrainingRunSpec, pool: PoolEnvironment, hyperparameters: Hyperparameters
) -> Iterator[FieldError]:
    n_envs = hyperparameters.n_envs
    if pool.environments and n_envs and pool.environments != n_envs:
        rule = f"is {n_envs}, but environment.pool.environments is {pool.environments}: give one, or the same number"
        yield FieldError("hyperparameters.n_envs", rule)
        return
    fewest, most = effective_pool_range(pool, hyperparameters)
    if fewest > most:
        whose = "environment.pool.environments" if pool.environments else "hyperparameters.n_envs"
        yield FieldError("environment.pool.minimum", f"is {fewest}, more than {whose}, which is {most}")
        return
    if (conflict := batch_conflict(spec.algorithm, hyperparameters, fewest)) is not None:
        yield conflict
    if (conflict := buffer_conflict(spec.algorithm, hyperparameters, most)) is not None:
        yield conflict
    if (conflict := frequency_conflict(spec.algorithm, hyperparameters, most)) is not None:
        yield FieldError(conflict.field, "counts episodes, which needs environment.pool.environments to be 1")
    if fewest < most and (keyword := fixed_columns_keyword(spec.algorithm, hyperparameters)):
        rule = (
            "needs a number of environments that does not change: set environment.pool.environments, and leave "
            "environment.pool.minimum out or give it the same number"
        )
        yield FieldError(f"hyperparameters.{keyword}", rule)


def _problem(field: str, problem: str) -> Iterator[FieldError]:
    if problem:
        yield FieldError(field, problem)
