"""From messages of the API to runs and reports.

Owns the translation of TrainingRequest, ReportRequest and ListTrainingRunsRequest, and the names of fields in errors,
which are the proto's. Rules of the spec's values are aisandbox_crds's. Must not know backends or the network.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import training_progress_pb2 as progress_pb
from aisandbox_access import ANONYMOUS, OWNER_ANNOTATION
from aisandbox_crds import (
    EXPERIMENT_ANNOTATION,
    MAX_LESSONS,
    MAX_SEED,
    REQUEST_ANNOTATION,
    REQUEST_DIGEST_ANNOTATION,
    Algorithm,
    DemonstrationSettings,
    Environment,
    Evaluation,
    FakeEnvironment,
    FieldError,
    GrpcEnvironment,
    GymnasiumEnvironment,
    InvalidRun,
    Lesson,
    LessonEnd,
    Phase,
    PoolEnvironment,
    ProgressReport,
    StartFrom,
    StopWhen,
    TakenPart,
    TrainingRun,
    TrainingRunSpec,
    normalized_output_path,
    output_path_problem,
    report_errors,
    request_digest,
    run_name,
    truncate_texts,
    validate_names,
    validate_spec,
)
from aisandbox_model_store import RUN_ID_REQUIRED
from aisandbox_wire import dataclass_of, enumerators
from google.protobuf import struct_pb2
from google.protobuf.message import Message

from aisandbox_api.default_environment import DEFAULT_ENVIRONMENT_ANNOTATION
from aisandbox_api.errors import InvalidRequest
from aisandbox_api.placement import named_by_clients, placement_fields
from aisandbox_api.struct_values import struct_values

DEFAULT_EPISODES = 10
DEFAULT_PAGE_SIZE = 100
LARGEST_PAGE_SIZE = 1000
LONGEST_PAGE_TOKEN = 512
"""Characters; those that this service makes have a third of them."""
LARGEST_START = 256 * 1024
"""Bytes of a TrainingRequest. Parsing it blocks all other calls, and a run's record repeats it."""

_NUMBERS_OF_CLONING = ("epochs", "batch_size")
"""Those of which 0 is the default."""

PHASES = enumerators(Phase, pb.Phase.DESCRIPTOR)
TAKEN_PARTS = enumerators(TakenPart, pb.TakenPart.DESCRIPTOR)
ALGORITHMS = enumerators(Algorithm, pb.Algorithm.DESCRIPTOR)


def new_run(
    request: pb.TrainingRequest,
    algorithm: Algorithm | None,
    default_environment: str,
    random: Random,
    owner: str = ANONYMOUS,
) -> TrainingRun:
    """The run that a start asks for, with name and seed. ``default_environment``: "fake" or "adapter".

    ``algorithm``: the one that the call names; None: the request has it. ``owner``: the name of who starts it; a
    request_id is theirs, so two owners who choose the same one have two runs. Raises InvalidRequest with every field
    that breaks a rule.
    """
    if (size := request.ByteSize()) > LARGEST_START:
        field, own = _largest_field(request)
        rule = f"has {own:,} of the {size:,} bytes of the request; at most {LARGEST_START:,} in all"
        raise InvalidRequest([FieldError(field, rule)])
    errors: list[FieldError] = []
    spec = _spec(request, _algorithm(request, algorithm, errors), errors)
    request_id = request.request_id or None
    for check in (partial(validate_names, request.experiment_id, request_id), partial(validate_spec, spec)):
        try:
            check()
        except InvalidRun as error:
            errors.extend(named_by_clients(each) for each in error.errors)
    if errors:
        raise InvalidRequest(errors)
    annotations = {EXPERIMENT_ANNOTATION: request.experiment_id}
    if owner:
        annotations[OWNER_ANNOTATION] = owner
    if request_id is not None:
        annotations[REQUEST_ANNOTATION] = request_id
    named = request.HasField("environment")
    annotations[REQUEST_DIGEST_ANNOTATION] = request_digest(request.experiment_id, spec, names_environment=named)
    if not named:
        annotations[DEFAULT_ENVIRONMENT_ANNOTATION] = default_environment
    if spec.seed is None:
        spec = replace(spec, seed=random.randrange(MAX_SEED + 1))
    named_by = f"{owner}\n{request_id}" if owner and request_id is not None else request_id
    return TrainingRun(run_name(request.experiment_id, named_by, random), spec, annotations=annotations)


def _algorithm(request: pb.TrainingRequest, named: Algorithm | None, errors: list[FieldError]) -> Algorithm:
    """The algorithm of the call or the request; PPO where an error is added."""
    given = ALGORITHMS.get(request.algorithm)
    if request.algorithm == pb.ALGORITHM_UNSPECIFIED and named is not None:
        return named
    if given is None:
        what = f"got {request.algorithm}" if request.algorithm else "got none"
        errors.append(FieldError("algorithm", f"must be one of {', '.join(Algorithm)}, {what}"))
    elif named not in (None, given):
        errors.append(
            FieldError("algorithm", f"is {given}, and the call starts {named}: omit it, or use StartTraining")
        )
    return given or named or Algorithm.PPO


def _largest_field(message: Message, prefix: str = "") -> tuple[str, int]:
    """The path of the field with most of the bytes of a message, and its bytes; a Struct is one field.

    "request", or the field so far, if all that it has are fields that this version does not know.
    """
    sizes = {field.name: (_bytes_of(value), value) for field, value in message.ListFields()}
    if not sizes:
        return prefix.rstrip(".") or "request", message.ByteSize()
    name, (size, value) = max(sizes.items(), key=lambda entry: entry[1][0])
    if isinstance(value, Message) and not isinstance(value, struct_pb2.Struct) and size > 0:
        return _largest_field(value, f"{prefix}{name}.")
    return f"{prefix}{name}", size


def _bytes_of(value: object) -> int:
    if isinstance(value, Message):
        return value.ByteSize()
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Mapping):
        return sum(map(_bytes_of, (*value, *value.values())))
    return sum(map(_bytes_of, value)) if isinstance(value, Sequence) else 0


def _spec(request: pb.TrainingRequest, algorithm: Algorithm, errors: list[FieldError]) -> TrainingRunSpec:
    evaluation = None
    if request.HasField("evaluation"):
        asked = request.evaluation
        evaluation = Evaluation(asked.every_timesteps, asked.episodes or DEFAULT_EPISODES, asked.stochastic)
    return TrainingRunSpec(
        algorithm=algorithm,
        total_timesteps=request.total_timesteps,
        environment=_environment(request, errors),
        seed=request.seed if request.HasField("seed") else None,
        hyperparameters=dict(request.hyperparameters),
        model_output_path=_output_path(request.model_output_path),
        checkpoint_every_timesteps=request.checkpoint_every_timesteps,
        evaluation=evaluation,
        start_from=_start_from(request, errors),
        demonstrations=_demonstrations(request),
        stop_when=_stop_when(request),
        lessons=_lessons(request, errors),
        **placement_fields(request.placement, errors),
    )


def _start_from(request: pb.TrainingRequest, errors: list[FieldError]) -> StartFrom | None:
    if not request.HasField("start_from"):
        return None
    asked = request.start_from
    if any(part not in TAKEN_PARTS for part in asked.take):
        errors.append(FieldError("start_from.take", f"must have none but {', '.join(TakenPart)}"))
    take = tuple(TAKEN_PARTS[part] for part in asked.take if part in TAKEN_PARTS)
    return StartFrom(asked.run, asked.model, asked.checkpoint, _output_path(asked.zip), take, asked.digest)


def _demonstrations(request: pb.TrainingRequest) -> DemonstrationSettings | None:
    if not request.HasField("demonstrations"):
        return None
    asked = dataclass_of(DemonstrationSettings, request.demonstrations)
    given = {name: value for name in _NUMBERS_OF_CLONING if (value := getattr(asked, name))}
    return DemonstrationSettings(asked.file, **given, learning_rate=asked.learning_rate, digest=asked.digest)


def _stop_when(request: pb.TrainingRequest) -> StopWhen | None:
    if not request.HasField("stop_when"):
        return None
    asked = dataclass_of(StopWhen, request.stop_when)
    return replace(asked, times_in_a_row=asked.times_in_a_row or 1)


def _lessons(request: pb.TrainingRequest, errors: list[FieldError]) -> tuple[Lesson, ...]:
    if (count := len(request.lessons)) > MAX_LESSONS:
        return (Lesson(""),) * count  # refused by their number; reading 100,000 would block all other calls
    return tuple(_lesson(lesson, f"lessons[{i}]", errors) for i, lesson in enumerate(request.lessons))


def _lesson(lesson: pb.Lesson, field: str, errors: list[FieldError]) -> Lesson:
    until = dataclass_of(LessonEnd, lesson.until) if lesson.HasField("until") else None
    return Lesson(lesson.name, struct_values(lesson.parameters, f"{field}.parameters", errors), until)


def _output_path(text: str) -> str:
    """The path with the suffix that is written, so that runs with one file are found; unchanged if invalid."""
    path = None if output_path_problem(text) else normalized_output_path(text)
    return text if path is None or text.endswith(path.name) else str(path)


def _environment(request: pb.TrainingRequest, errors: list[FieldError]) -> Environment:
    if not request.HasField("environment"):
        return FakeEnvironment()
    kind = request.environment.WhichOneof("kind")
    if kind == "grpc":
        grpc = request.environment.grpc
        options = struct_values(grpc.options, "environment.grpc.options", errors)
        return GrpcEnvironment(grpc.address, grpc.environments, options)
    if kind == "pool":
        pool = request.environment.pool
        options = struct_values(pool.options, "environment.pool.options", errors)
        return PoolEnvironment(pool.name, pool.environments, pool.minimum, options)
    if kind == "gymnasium":
        gymnasium = request.environment.gymnasium
        return GymnasiumEnvironment(
            gymnasium.id, struct_values(gymnasium.kwargs, "environment.gymnasium.kwargs", errors)
        )
    if kind is None:
        errors.append(FieldError("environment", "exactly one of grpc, pool, gymnasium and fake must be set"))
    return FakeEnvironment()


def given_run_id(run_id: str) -> str:
    """The run_id of a request. Raises InvalidRequest if it is empty."""
    if not run_id:
        raise InvalidRequest([FieldError("run_id", RUN_ID_REQUIRED)])
    return run_id


def progress_report(request: progress_pb.ReportRequest) -> ProgressReport:
    """A trainer's report. Raises InvalidRequest."""
    report = truncate_texts(dataclass_of(ProgressReport, request))
    if errors := list(report_errors(report)):
        raise InvalidRequest(errors)
    return report


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Which runs to list; ``after`` is the (creation time, name) of the last run of the previous page."""

    experiment_id: str
    phases: frozenset[Phase]
    page_size: int
    after: tuple[str, str] | None


def list_query(request: pb.ListTrainingRunsRequest) -> ListQuery:
    """Raises InvalidRequest."""
    errors = []
    if request.page_size > LARGEST_PAGE_SIZE:
        errors.append(FieldError("page_size", f"must be at most {LARGEST_PAGE_SIZE}, got {request.page_size}"))
    if any(phase not in PHASES for phase in request.phases):
        errors.append(FieldError("phases", "must be known phases"))
    after = None
    if request.page_token:
        after = _read_token(request.page_token)
        if after is None:
            errors.append(FieldError("page_token", "must be the next_page_token of the page before"))
    if errors:
        raise InvalidRequest(errors)
    phases = frozenset(PHASES[phase] for phase in request.phases)
    return ListQuery(request.experiment_id, phases, request.page_size or DEFAULT_PAGE_SIZE, after)


def page_token(run: TrainingRun) -> str:
    """The token of the page that begins after ``run``."""
    return base64.urlsafe_b64encode(json.dumps([run.creation_time, run.name]).encode()).decode()


def _read_token(token: str) -> tuple[str, str] | None:
    if len(token) > LONGEST_PAGE_TOKEN:
        return None
    try:
        time, name = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        return None
    return (time, name) if isinstance(time, str) and isinstance(name, str) else None
