"""Early stopping: which rule of ``stop_when`` has been met, from what training and evaluations show.

Owns the counts, which are part of a checkpoint. Looks at a model only between two rollouts, so that a rollout that is
dropped counts nothing. Must not know what follows when a rule is met.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from aisandbox_crds import EarlyStop, Reason, StopWhen

from aisandbox_trainer.checkpoints.files import EarlyStopping


class StopRules:
    """The rules of one attempt. ``when`` None: none is ever met. ``counted``: what earlier attempts have counted.

    Once a rule is met, :attr:`stop` says which, and nothing more is counted.
    """

    def __init__(
        self,
        when: StopWhen | None = None,
        counted: EarlyStopping | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._when = when
        self._counted = counted or EarlyStopping()
        self._clock = clock
        self._since: float | None = None

    @property
    def stop(self) -> EarlyStop | None:
        """The rule that was met."""
        return self._counted.stop

    @property
    def counts_training(self) -> bool:
        """Whether :meth:`after_rollout` needs to know of episodes."""
        return self._when is not None and self._when.episode_reward_mean is not None

    def training_starts(self) -> None:
        """The clock of ``training_seconds`` runs from now on."""
        if self._when is not None and self._when.training_seconds:
            self._since = self._clock()

    def capture(self) -> EarlyStopping:
        """What is counted now, for a checkpoint."""
        return replace(self._counted, training_seconds=self._seconds())

    def after_rollout(self, reward_mean: float | None) -> None:
        """Takes note of a rollout that is learned.

        ``reward_mean``: the mean return of the last training episodes; None: no episode has ended in this rollout, or
        there were too few so far.
        """
        when = self._when
        if when is None or self.stop is not None:
            return
        if when.episode_reward_mean is not None and reward_mean is not None:
            times = self._counted.training_times + 1 if reward_mean >= when.episode_reward_mean else 0
            self._counted = replace(self._counted, training_times=times)
            if times >= when.times_in_a_row:
                self._meet_reward("the mean return of training", reward_mean, when.episode_reward_mean)
                return
        if when.training_seconds and self._seconds() >= when.training_seconds:
            self._meet(Reason.TIME_REACHED, f"the run has trained for {when.training_seconds:,} seconds")

    def after_evaluation(self, reward_mean: float, *, counts_improvement: bool = True) -> None:
        """Takes note of the mean return of an evaluation.

        ``counts_improvement`` False: one that is not better counts as none yet, as before the last lesson, which
        evaluations are of.
        """
        when = self._when
        if when is None or self.stop is not None:
            return
        counted, best = self._counted, self._counted.best_evaluation
        improved = best is None or reward_mean > best
        reached = when.evaluation_reward_mean is not None and reward_mean >= when.evaluation_reward_mean
        self._counted = counted = replace(
            counted,
            evaluation_times=counted.evaluation_times + 1 if reached else 0,
            best_evaluation=reward_mean if improved else best,
            evaluations_without_improvement=(
                counted.evaluations_without_improvement + 1 if counts_improvement and not improved else 0
            ),
        )
        if when.evaluation_reward_mean is not None and counted.evaluation_times >= when.times_in_a_row:
            self._meet_reward("the mean return of evaluations", reward_mean, when.evaluation_reward_mean)
        elif 0 < when.evaluations_without_improvement <= counted.evaluations_without_improvement:
            number = counted.evaluations_without_improvement
            message = f"{number:,} evaluations in a row were not better than the best one, {counted.best_evaluation:g}"
            self._meet(Reason.NO_IMPROVEMENT, message)

    def _meet_reward(self, what: str, reached: float, enough: float) -> None:
        times = self._when.times_in_a_row if self._when is not None else 1
        often = f" {times:,} times in a row" if times > 1 else ""
        self._meet(Reason.REWARD_REACHED, f"{what} was at least {enough:g}{often}, at last {reached:g}")

    def _meet(self, reason: Reason, message: str) -> None:
        self._counted = replace(self._counted, stop=EarlyStop(reason.value, message))

    def _seconds(self) -> float:
        before = self._counted.training_seconds
        return before if self._since is None else before + self._clock() - self._since
