"""Recordings of episodes by the C# package: their files, and the episodes that their actions lead to.

A recording (``EpisodeRecording.Save``, JSON) has what reproduces an episode: seed, options, parameters and actions.
What is observed follows from them. Must not know files of demonstrations, nor who acted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from aisandbox_wire import Array

from aisandbox_environment.demonstrations.episode import Episode
from aisandbox_environment.demonstrations.recording import Observation, play_episode
from aisandbox_environment.errors import InvalidRecording
from aisandbox_environment.session import EpisodeParameters, SimulatorSession

FORMAT = 1

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class EpisodeRecording:
    """The seed, options and parameters of an episode, and its actions: a list of numbers for each step."""

    path: Path
    seed: int
    options: Mapping[str, Any]
    parameters: EpisodeParameters
    actions: Sequence[Sequence[float]]


def read_recordings(path: Path) -> list[EpisodeRecording]:
    """The recording in a file, or those in the ``*.json`` of a folder, in the order of their names.

    Raises InvalidRecording, naming the file: it is no recording, of a failed episode, without a step, or has other
    options than the first; OSError.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise InvalidRecording(f"{path}: has no *.json")
    recordings = [_read(file) for file in files]
    for each in recordings:
        if each.options != recordings[0].options:
            raise InvalidRecording(
                f"{each.path}: its options are {dict(each.options)}, those of {files[0].name} "
                f"{dict(recordings[0].options)}; one session has the same for all episodes"
            )
    return recordings


def replay_episodes(session: SimulatorSession, recordings: Sequence[EpisodeRecording]) -> Iterator[Episode]:
    """Takes the actions of each recording in the one environment of ``session``, opened with its options.

    An episode that goes on after the last action is truncated there. Raises InvalidRecording for one that ends before,
    or whose actions have another size; InvalidValue for an action that is impossible; SimulatorError.
    """
    for recording in recordings:
        if recording.parameters and not session.spec.parameters:
            raise InvalidRecording(f"{recording.path}: has parameters, and the simulator declares none")
        parameters = recording.parameters if session.spec.parameters else None
        policy, steps = _Replay(recording, session.spec.action_leaf.shape), len(recording.actions)
        episode = play_episode(session, policy, recording.seed, recording.path.name, steps, parameters)
        if episode.steps < steps:
            raise InvalidRecording(
                f"{recording.path}: the episode ended after {episode.steps} of {steps} recorded steps: the simulator "
                "has changed, or takes randomness from elsewhere than its seed"
            )
        yield episode


class _Replay:
    """The actions of a recording, whatever is observed."""

    def __init__(self, recording: EpisodeRecording, shape: tuple[int, ...]) -> None:
        self._recording, self._shape, self._taken = recording, shape, 0

    def __call__(self, observation: Observation, mask: Array | None) -> Array:
        step, self._taken = self._taken, self._taken + 1
        action = np.array(self._recording.actions[step])
        if action.size != np.prod(self._shape, dtype=int):
            raise InvalidRecording(
                f"{self._recording.path}: action {step} has {action.size} numbers, the action space has shape "
                f"{list(self._shape)}"
            )
        return action.reshape(self._shape)


def _read(path: Path) -> EpisodeRecording:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        if read["format"] != FORMAT:
            raise InvalidRecording(f"{path}: its format is {read['format']}, this version reads {FORMAT}")
        if problem := read.get("problem"):
            raise InvalidRecording(f"{path}: is of an episode that failed: {problem}")
        actions = [_numbers(action) for action in _checked(list, read["actions"])]
        options, parameters = _checked(dict, read["options"]), _checked(dict, read.get("parameters", {}))
        seed = _checked(int, read["seed"])
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed {seed}: must be 0 to 2^64-1")
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise InvalidRecording(f"{path}: is no recording of an episode ({error!r:.200})") from None
    if not actions:
        raise InvalidRecording(f"{path}: has no step")
    return EpisodeRecording(path, seed, options, parameters, actions)


def _checked(kind: type[_T], value: Any) -> _T:
    """``value`` if it is a ``kind``. Raises TypeError."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r:.100} where a {kind.__name__} belongs")
    return value


def _numbers(action: Any) -> list[float]:
    """The numbers of an action. Raises TypeError, OverflowError."""
    return [
        float(_checked(int, number) if not isinstance(number, float) else number) for number in _checked(list, action)
    ]
