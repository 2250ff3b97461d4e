"""Who plays the episodes that are recorded: chance, a function of the user, the policy of a run, or recordings of C#.

Must not know how the simulator is reached, or what is done with the episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aisandbox_cli.errors import UsageError
from aisandbox_cli.named_function import NamedFunction
from aisandbox_cli.served_policy import ServedPolicy

if TYPE_CHECKING:
    from aisandbox_environment import Episode, EpisodeRecording, Policy, SimulatorSession

    Play = Callable[[SimulatorSession], AbstractContextManager[Iterator[Episode]]]
    """The episodes, played in the one environment of the session as they are asked for."""

RANDOM = "random"


class Asked(NamedTuple):
    """How many episodes, the seed of the first, and after how many steps one is truncated (0: never)."""

    episodes: int
    seed: int
    max_steps: int


def played_at_random(asked: Asked) -> Play:
    """Chance plays, within the action mask."""

    def policy(session: SimulatorSession) -> AbstractContextManager[Policy]:
        from aisandbox_environment import RandomPolicy

        return nullcontext(RandomPolicy(session.spec, asked.seed))

    return _played(policy, asked)


def played_by_function(name: str, asked: Asked) -> Play:
    """The function MODULE:FUNCTION plays. Raises UsageError, Failed: there is none."""
    function = NamedFunction(name)
    return _played(lambda session: nullcontext(function), asked)


def played_by_run(run: str, model: str, address: str | None, asked: Asked) -> Play:
    """The policy of a run plays, which the service is asked for each action."""
    return _played(lambda session: ServedPolicy.connected(address, run, model, session.spec), asked)


def _played(policy_for: Callable[[SimulatorSession], AbstractContextManager[Policy]], asked: Asked) -> Play:
    @contextmanager
    def play(session: SimulatorSession) -> Iterator[Iterator[Episode]]:
        from aisandbox_environment import record_episodes

        with policy_for(session) as policy:
            yield record_episodes(session, policy, *asked)

    return play


def replayed(recordings: Sequence[EpisodeRecording]) -> Play:
    """The recordings are played again."""

    @contextmanager
    def play(session: SimulatorSession) -> Iterator[Iterator[Episode]]:
        from aisandbox_environment import replay_episodes

        yield replay_episodes(session, recordings)

    return play


def recordings_at(path: Path) -> list[EpisodeRecording]:
    """What ``--replay`` names. Raises UsageError."""
    from aisandbox_environment import InvalidRecording, read_recordings

    try:
        return read_recordings(path)
    except InvalidRecording as error:
        raise UsageError(f"--replay: {error}") from error
    except OSError as error:
        raise UsageError(f"--replay {path}: {error.strerror or error}") from error
