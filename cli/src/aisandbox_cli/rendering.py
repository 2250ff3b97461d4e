"""Formats the messages of the service for people and for scripts: text, numbers, tables, JSON.

Must not know where the messages come from.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import simulator_pool_pb2 as pool_pb
from aisandbox.v1 import training_progress_pb2 as progress_pb
from aisandbox_process import printable
from aisandbox_wire import ALGORITHM_NAMES
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

ACTIVITIES = {
    progress_pb.TRAINER_ACTIVITY_STARTING: "starting up",
    progress_pb.TRAINER_ACTIVITY_WAITING_FOR_SIMULATOR: "waiting for the simulator",
    progress_pb.TRAINER_ACTIVITY_EVALUATING: "evaluating",
    progress_pb.TRAINER_ACTIVITY_UPDATING: "updating the policy",
    progress_pb.TRAINER_ACTIVITY_WAITING_FOR_STEP: "waiting for a step",
    progress_pb.TRAINER_ACTIVITY_CLONING: "behaviour cloning",
}


def message_json(message: Message) -> str:
    """The message as JSON on one line. Fields without presence are always included, so that scripts find the keys."""
    value = MessageToDict(message, always_print_fields_with_no_presence=True)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def phase_name(phase: int) -> str:
    """``Running``."""
    return pb.Phase.Name(phase).removeprefix("PHASE_").capitalize()  # type: ignore[arg-type]


def algorithm_name(algorithm: int) -> str:
    """``PPO``, ``CrossQ``; of an algorithm that this version does not know, its number."""
    return ALGORITHM_NAMES.get(algorithm, str(algorithm))


def duration(seconds: float) -> str:
    """``38 s``, ``4 min 10 s``, ``2 h 05 min``, ``3 d 04 h``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def number(value: float) -> str:
    """A number with four significant digits: ``-1,234``, ``85.3``, ``0.01234``."""
    if value.is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def environment_text(environment: pb.Environment) -> str:
    """The environment of a run in a few words."""
    kind = environment.WhichOneof("kind")
    if kind == "grpc":
        return f"simulator at {environment.grpc.address}"
    if kind == "pool":
        return f"pool {environment.pool.name}"
    if kind == "gymnasium":
        return environment.gymnasium.id
    return "the built-in test environment" if kind == "fake" else "the default environment of the service"


def state_text(status: pb.StatusResponse) -> str:
    """The phase, with the trainer's activity if it is not training: ``Running (evaluating)``."""
    activity = ACTIVITIES.get(status.activity, "")
    if status.activity == progress_pb.TRAINER_ACTIVITY_CLONING and status.cloning.epochs:
        activity += f", epoch {status.cloning.epoch} of {status.cloning.epochs}"
    name = phase_name(status.phase)
    return f"{name} ({activity})" if activity and not status.is_done else name


def metrics(status: pb.StatusResponse) -> list[str]:
    """The metrics of a run that are known: loss of cloning, reward, evaluation, lesson, speed, time left."""
    found = []
    if status.activity == progress_pb.TRAINER_ACTIVITY_CLONING and status.cloning.HasField("loss"):
        found.append(f"loss {number(status.cloning.loss)}")
    if status.HasField("episode_reward_mean"):
        found.append(f"reward {number(status.episode_reward_mean)}")
    if status.HasField("evaluation_reward_mean"):
        found.append(f"evaluation {number(status.evaluation_reward_mean)}")
    if status.HasField("lesson"):
        found.append(f"{lesson_text(status)} {printable(status.lesson.name)}")
    if status.fps and not status.is_done:
        found.append(f"{status.fps:,.0f} steps/s")
    if status.HasField("estimated_remaining_seconds") and not status.is_done:
        found.append(f"{duration(status.estimated_remaining_seconds)} left")
    return found


def lesson_text(status: pb.StatusResponse) -> str:
    """``lesson 2/3``."""
    return f"lesson {status.lesson.number}/{status.lesson.count}"


def fraction_done(status: pb.StatusResponse) -> float:
    """The fraction of a run's timesteps that are done, 0 to 1."""
    return min(1.0, status.timesteps_done / status.total_timesteps) if status.total_timesteps > 0 else 0.0


def status_line(status: pb.StatusResponse, *, warn: bool = True) -> str:
    """The status of a run on one line; with its warning unless ``warn`` is False."""
    steps = f"{status.timesteps_done:,}/{status.total_timesteps:,} ({fraction_done(status):.0%})"
    warning = [f"warning: {printable(status.warning)}"] if warn and status.warning and not status.is_done else []
    return "  ".join([f"{state_text(status):<9}", steps, *metrics(status), *warning])


def _algorithm_text(status: pb.StatusResponse) -> str:
    """The algorithm that was asked for, and the one that trains in its place."""
    asked, trained = algorithm_name(status.algorithm), printable(status.trained_algorithm)
    return asked if trained in ("", asked) else f"{asked}, trained as {trained} because of action masks"


def details(status: pb.StatusResponse) -> list[tuple[str, str]]:
    """The status of a run as names and values; values that are not known are left out."""
    rows = [
        ("run", status.run_id),
        ("experiment", status.experiment_id),
        ("owner", status.owner),
        ("algorithm", f"{_algorithm_text(status)}, seed {status.seed}"),
        ("environment", environment_text(status.environment)),
        ("started from", status.started_from.path),
        ("phase", state_text(status)),
        ("timesteps", f"{status.timesteps_done:,} of {status.total_timesteps:,} ({fraction_done(status):.0%})"),
        ("metrics", ", ".join(metrics(status))),
        ("best model", _artifact(status.best_model)),
        ("latest model", _artifact(status.latest_model)),
        ("checkpoint", status.last_checkpoint_path),
        ("restarts", _restarts(status)),
        ("warning", status.warning),
        ("ended early", f"{status.early_stop.reason}: {status.early_stop.message}" if status.early_stop.reason else ""),
        ("failure", f"{status.failure.reason}: {status.failure.message}" if status.failure.reason else ""),
        ("duration", _duration_text(status)),
    ]
    return [(name, value) for name, value in rows if value]


def two_columns(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values, one pair per line, aligned."""
    pairs = list(rows)
    width = max((len(name) for name, _ in pairs), default=0)
    return "\n".join(f"{name:<{width}}  {_printable_lines(value)}" for name, value in pairs)


def _printable_lines(text: str) -> str:
    """The text with its lines as they are, and no other control character."""
    return "\n".join(map(printable, text.split("\n")))


RUN_COLUMNS = ("RUN", "EXPERIMENT", "ALGO", "PHASE", "PROGRESS", "TIMESTEPS", "REWARD", "AGE")


def run_row(status: pb.StatusResponse, now: datetime) -> tuple[str, ...]:
    """The status of a run as the cells of :data:`RUN_COLUMNS`."""
    return (
        status.run_id,
        printable(status.experiment_id),
        algorithm_name(status.algorithm),
        phase_name(status.phase),
        f"{fraction_done(status):.0%}",
        f"{status.timesteps_done:,}",
        number(status.episode_reward_mean) if status.HasField("episode_reward_mean") else "-",
        _age(status.create_time, now),
    )


def caller_rows(caller: pb.WhoAmIResponse) -> list[tuple[str, str]]:
    """Who somebody is and what they may do, as pairs for :func:`two_columns`."""
    if not caller.authentication_enabled:
        return [("name", "- (authentication is off)"), ("may", ", ".join(caller.rights))]
    rows = [("name", caller.name), ("roles", ", ".join(caller.roles) or "-"), ("may", ", ".join(caller.rights) or "-")]
    return [*rows, ("pools", ", ".join(caller.pools))] if caller.pools else rows


SIMULATOR_COLUMNS = ("POOL", "INSTANCE", "ENVIRONMENTS", "RUN", "STEPS", "AGE", "NAME")


def simulators_table(simulators: Iterable[pool_pb.Simulator], now: datetime) -> str:
    """Attached simulators, a line each; RUN is "-" for one that waits."""
    rows = [
        (
            simulator.pool,
            simulator.instance,
            str(simulator.environments),
            simulator.run_id or ("in a session" if simulator.in_session else "-"),
            f"{simulator.steps:,}",
            _age(simulator.attach_time, now),
            printable(f"{simulator.name} {simulator.version}".strip()) or "-",
        )
        for simulator in simulators
    ]
    return plain_table(SIMULATOR_COLUMNS, rows)


def plain_table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """An aligned table without borders, for ``awk`` and the like."""
    cells = [columns, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    return "\n".join("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def numbers_line(values: Iterable[float]) -> str:
    """An action on one line: for each value the shortest decimal that parses to the same float32, space separated."""
    return " ".join(str(int(value)) if value.is_integer() else _float32_text(value) for value in values)


def _float32_text(value: float) -> str:
    texts = (f"{value:.{digits}g}" for digits in range(1, 10))
    return next((text for text in texts if struct.pack("<f", float(text)) == struct.pack("<f", value)), str(value))


def space_text(space: Any) -> str:
    """A space in a few words: ``Box float32 [4]``."""
    kind = space.WhichOneof("kind")
    if kind == "box":
        from aisandbox.v1 import tensor_pb2

        dtype = tensor_pb2.DataType.Name(space.box.dtype).removeprefix("DATA_TYPE_").lower()
        return f"Box {dtype} {list(space.box.shape)}"
    if kind == "discrete":
        start = f", from {space.discrete.start}" if space.discrete.start else ""
        return f"Discrete {space.discrete.n}{start}"
    if kind == "multi_discrete":
        return f"MultiDiscrete {list(space.multi_discrete.n)}"
    if kind == "multi_binary":
        return f"MultiBinary {space.multi_binary.n}"
    if kind == "dict":
        return "Dict " + ", ".join(f"{entry.key}: {space_text(entry.space)}" for entry in space.dict.entries)
    return "unknown"


def _artifact(artifact: progress_pb.Artifact) -> str:
    if not artifact.path:
        return ""
    reward = f", reward {number(artifact.reward_mean)}" if artifact.HasField("reward_mean") else ""
    return f"{artifact.path}{reward}"


def _restarts(status: pb.StatusResponse) -> str:
    return f"{status.restarts}, {status.timesteps_lost:,} timesteps lost" if status.restarts else ""


def _duration_text(status: pb.StatusResponse) -> str:
    if not (status.HasField("start_time") and status.HasField("completion_time")):
        return ""
    return duration((status.completion_time.ToDatetime() - status.start_time.ToDatetime()).total_seconds())


def _age(moment: Timestamp, now: datetime) -> str:
    return duration((now - moment.ToDatetime(tzinfo=UTC)).total_seconds()) if moment.seconds else "-"
