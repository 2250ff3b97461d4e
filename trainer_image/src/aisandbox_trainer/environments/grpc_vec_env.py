"""The simulators of a run as one native SB3 VecEnv: batches from the wire to SB3.

Owns what SB3 expects of a step (terminal observations, TimeLimit.truncated, episode statistics). There is no loop over
environments in a step in which no episode ends. Must not know what follows when a simulator fails: errors pass through.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import structlog
from aisandbox_environment import ParameterValue, SimulatorSession, StepResult, difference_of
from aisandbox_process import printable
from aisandbox_wire import MASKS_METHOD, join, space_from_proto
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.environments.sessions import call_concurrently
from aisandbox_trainer.environments.slow_replies import SlowReplies
from aisandbox_trainer.environments.space_adapter import SpaceAdapter
from aisandbox_trainer.errors import SimulatorChanged
from aisandbox_trainer.runtime.stop import Stop

Array = NDArray[Any]

MOST_METRICS = 256
"""Names of episode metrics in a run."""
LONGEST_METRIC_NAME = 200
"""Characters."""

log = structlog.get_logger(__name__)


class GrpcVecEnv(VecEnv):
    """All environments of one or several sessions, numbered in the order of the sessions.

    ``connect`` opens the sessions, at the start and whenever :meth:`reconnect` is called, each time for the same number
    of environments in all; every session's steps are in flight at the same time. Observations are new arrays each step.
    ``infos`` is one list, reused for the next step, empty except for environments whose episode has just ended:
    ``terminal_observation``, ``TimeLimit.truncated`` and ``episode`` {r: undiscounted return, l: steps, t: seconds
    since the start}, as of Monitor. ``slow_replies`` has the notice while a reply takes long.

    Raises the simulator errors of aisandbox_environment, StopRequested, UnsupportedSpace.
    """

    def __init__(
        self, connect: Callable[[], Sequence[SimulatorSession]], stop: Stop, slow_replies: SlowReplies | None = None
    ) -> None:
        self._connect = connect
        self._stop = stop
        self.slow_replies = slow_replies or SlowReplies()
        self._sessions: Sequence[SimulatorSession] = connect()
        self.spec = self._sessions[0].spec
        try:
            self._check_specs(f"the simulator at {self._sessions[0].address}")
            inner = (space_from_proto(self.spec.observation_space), space_from_proto(self.spec.action_space))
            self.space_adapter = SpaceAdapter(*inner)
        except BaseException:
            self.close()
            raise
        super().__init__(self._number(), self.space_adapter.observation_space, self.space_adapter.action_space)
        self.episode_metrics: list[Mapping[str, float]] = []
        self._metric_names: set[str] = set()
        self._metrics_are_cut = False
        self._masks: Array | None
        self._parameters: dict[int, Mapping[str, ParameterValue]]
        self._given: dict[int, Mapping[str, ParameterValue]]
        self._infos: list[dict[str, Any]]
        self._finished: list[int]
        self._returns: Array
        self._lengths: Array
        self._started = time.monotonic()
        self._prepare()

    def reconnect(self) -> None:
        """Ends all sessions and opens new ones; the next call must be :meth:`reset`.

        Raises SimulatorChanged if the spaces are not what they were.
        """
        self.close()
        self._sessions = self._connect()
        self._take()

    def reset(self) -> Any:
        """Starts an episode in every environment; seeds are sent only the first time after :meth:`seed`."""
        pending = _sb3_internals.pending_seeds(self)
        seeds = None if pending[0] is None else [int(seed or 0) for seed in pending]
        _sb3_internals.clear_pending_seeds(self)
        self._returns[:] = 0
        self._lengths[:] = 0
        parameters = self._taken_parameters()
        replies = self._stop.interruptibly(
            lambda: self.slow_replies.wait(self._reply_timeout, lambda: self._reset_sessions(seeds, parameters))
        )
        self._masks = _joined([reply.action_masks for reply in replies])
        return self._observation([reply.observations for reply in replies])

    def step_async(self, actions: Array) -> None:
        """Sends every session its actions and returns at once."""
        inner = self.space_adapter.action(actions)
        parameters = self._taken_parameters()
        first = 0
        for session in self._sessions:
            end = first + session.environments
            if parameters:
                session.send_step(inner[first:end], _of_session(parameters, first, end))
            else:
                session.send_step(inner[first:end])
            first = end

    def step_wait(self) -> tuple[Any, Array, Array, list[dict[str, Any]]]:
        """Receives every session's answer: observations, rewards (float32), dones (bool), infos."""
        stop = self._stop
        stop.interruptible = True
        try:
            if stop.requested:
                stop.check()
            results = self.slow_replies.wait(self._reply_timeout, self._receive_steps)
        finally:
            stop.interruptible = False
        observations = self._observation([result.observations for result in results])
        if len(results) == 1:
            rewards = np.array(results[0].rewards)  # SB3 adds bootstrapped values to it
            terminated, truncated = results[0].terminated, results[0].truncated
        else:
            rewards = np.concatenate([result.rewards for result in results])
            terminated = np.concatenate([result.terminated for result in results])
            truncated = np.concatenate([result.truncated for result in results])
        if self.spec.action_masks:
            self._masks = _joined([result.action_masks for result in results])
        self._returns += rewards
        self._lengths += 1
        for index in self._finished:
            self._infos[index] = {}
        self._finished = []
        dones = np.logical_or(terminated, truncated)
        if dones.any():
            self._finish_episodes(np.flatnonzero(dones).tolist(), terminated, results)
        return observations, rewards, dones, self._infos

    def action_masks(self) -> Array | None:
        """Which actions may be chosen next, bool, one row an environment; None if the simulator sends no masks."""
        return self._masks

    def close(self) -> None:
        """Ends the sessions; the simulators free their environments."""
        for session in self._sessions:
            session.close()
        self._sessions = []

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """``render_mode`` is None, ``action_masks`` rows of masks, None before the first reset.

        Raises AttributeError for others: the environments are in another process.
        """
        if attr_name == "render_mode":
            return [None] * len(self._rows(indices))
        if attr_name == MASKS_METHOD and self.spec.action_masks:
            return [None if self._masks is None else self._masks[row] for row in self._rows(indices)]
        raise AttributeError(f"a simulator's environments have no attribute {attr_name!r}")

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not possible: the environments are in another process. Raises AttributeError."""
        raise AttributeError(f"a simulator's environments have no attribute {attr_name!r}")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """``action_masks``, as sb3-contrib asks for them, and those of lessons; anything else raises AttributeError.

        ``declared_parameters``: what may be chosen for episodes. ``set_parameters``: what the next episode gets.
        """
        if method_name == "declared_parameters":
            return [self.spec.parameters] * len(self._rows(indices))
        if method_name == "set_parameters":
            for row in self._rows(indices):
                self._set_parameters(row, *method_args)
            return [None] * len(self._rows(indices))
        return self.get_attr(method_name, indices)

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None) -> list[bool]:
        """True for Monitor: ``infos`` hold the episode statistics it would add."""
        return [wrapper_class is Monitor] * len(self._rows(indices))

    def _take(self) -> None:
        """Begins with the sessions there are now, after the constructor's."""
        try:
            self._check_specs("at the start of the run")
        except BaseException:
            self.close()
            raise
        self._prepare()

    def _prepare(self) -> None:
        number = self._number()
        if number != self.num_envs:
            _sb3_internals.set_number_of_environments(self, number)
        self._masks = None
        self._parameters, self._given = {}, {}
        self._infos = [{} for _ in range(number)]
        self._finished = []
        self._returns = np.zeros(number)
        self._lengths = np.zeros(number, np.int64)

    def _rows(self, indices: Any) -> Sequence[int]:
        if indices is None:
            return range(getattr(self, "num_envs", None) or self._number())
        return [indices] if isinstance(indices, int) else list(indices)

    def _number(self) -> int:
        return sum(session.environments for session in self._sessions)

    def _set_parameters(self, environment: int, values: Mapping[str, ParameterValue]) -> None:
        """They are sent with the next reset or step, if they are other ones than were sent last."""
        self._parameters.pop(environment, None)
        if self._given.get(environment) != values:
            self._parameters[environment] = values

    def _taken_parameters(self) -> Mapping[int, Mapping[str, ParameterValue]]:
        """What is to be sent now; if that fails, the sessions are reset, or others take their place."""
        parameters, self._parameters = self._parameters, {}
        self._given.update(parameters)
        return parameters

    def _receive_steps(self) -> list[StepResult]:
        return [session.receive_step() for session in self._sessions]

    def _check_specs(self, reference: str) -> None:
        self._reply_timeout = max(session.reply_timeout for session in self._sessions)
        for session in self._sessions:
            if difference := difference_of(self.spec, session.spec):
                raise SimulatorChanged(
                    f"the simulator at {session.address} has other spaces or parameters than {reference}: {difference}"
                )

    def _reset_sessions(
        self, seeds: list[int] | None, parameters: Mapping[int, Mapping[str, ParameterValue]]
    ) -> list[Any]:
        calls, first = [], 0
        for session in self._sessions:
            end = first + session.environments
            call = partial(session.reset, None if seeds is None else seeds[first:end])
            calls.append(partial(call, _of_session(parameters, first, end)) if parameters else call)
            first = end
        return call_concurrently(calls, self._cancel)

    def _cancel(self) -> None:
        for session in self._sessions:
            session.cancel()

    def _observation(self, parts: Sequence[Sequence[Array]]) -> Any:
        """One batch from the leaves of every session; owned, because a reply's arrays are read-only views."""
        if len(parts) == 1:
            leaves = [np.array(leaf) for leaf in parts[0]]
        else:
            leaves = [np.concatenate(leaf) for leaf in zip(*parts, strict=True)]
        return self.space_adapter.observation(join(self.space_adapter.inner_observation_space, leaves))

    def _finish_episodes(self, finished: list[int], terminated: Array, results: Sequence[StepResult]) -> None:
        finals = self._observation([result.final_observations for result in results if len(result.final_observations)])
        now = round(time.monotonic() - self._started, 6)
        for row, index in enumerate(finished):
            final = {key: leaf[row] for key, leaf in finals.items()} if isinstance(finals, dict) else finals[row]
            self._infos[index] = {
                "terminal_observation": final,
                "TimeLimit.truncated": not terminated[index],
                "episode": {"r": float(self._returns[index]), "l": int(self._lengths[index]), "t": now},
            }
        self._returns[finished] = 0
        self._lengths[finished] = 0
        self._finished = finished
        for result in results:
            self.episode_metrics.extend(self._known(metrics.values) for metrics in result.episode_metrics)

    def _known(self, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """Those of the metrics whose names are among the first MOST_METRICS: each name is a curve that is kept."""
        for name in metrics.keys() - self._metric_names:
            if len(self._metric_names) >= MOST_METRICS:
                if not self._metrics_are_cut:
                    log.warning("the simulator has too many metrics: others are left out", most=MOST_METRICS)
                self._metrics_are_cut = True
                break
            if len(name) <= LONGEST_METRIC_NAME:
                self._metric_names.add(name)
        return {printable(name): value for name, value in metrics.items() if name in self._metric_names}


def _of_session(
    parameters: Mapping[int, Mapping[str, ParameterValue]], first: int, end: int
) -> dict[int, Mapping[str, ParameterValue]]:
    """Those of environments ``first`` to ``end``, by their numbers in their session."""
    return {number - first: values for number, values in parameters.items() if first <= number < end}


def _joined(masks: Iterable[Array | None]) -> Array | None:
    rows = [mask for mask in masks if mask is not None]
    return np.concatenate(rows).astype(bool) if rows else None
