"""What one owner may take of the service: runs that wait, run or are kept, and starts in a minute.

Must not know which backend there is, or how an owner is known.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from aisandbox_crds import Phase, TrainingRun
from aisandbox_process import TokenBucket

from aisandbox_api.errors import LimitReached
from aisandbox_api.run_owner import owner_of
from aisandbox_api.settings import OwnerQuotas

_MOST_OWNERS = 4_096
_MINUTE = 60.0


class OwnerLimits:
    """For one event loop. ``clock``: seconds, monotonic."""

    def __init__(self, quotas: OwnerQuotas, clock: Callable[[], float] = time.monotonic) -> None:
        self._quotas = quotas
        self._clock = clock
        self._starting: Counter[str] = Counter()
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    @contextmanager
    def start(self, owner: str, runs: Sequence[TrainingRun]) -> Iterator[None]:
        """A start of the owner, whose run is among the runs of the service at the end of the block.

        ``runs``: of everybody. Raises LimitReached.
        """
        self._check(owner, [run for run in runs if owner_of(run) == owner])
        self._starting[owner] += 1
        try:
            yield
        finally:
            self._starting[owner] -= 1
            if not self._starting[owner]:
                del self._starting[owner]

    def _check(self, owner: str, runs: Sequence[TrainingRun]) -> None:
        quotas, starting = self._quotas, self._starting[owner]
        unfinished = [run for run in runs if not run.status.phase.is_done]
        pending = sum(run.status.phase is Phase.PENDING for run in unfinished)
        for limit, number, variable, what, advice in (
            (quotas.max_runs_per_owner, len(runs), "MAX_RUNS_PER_OWNER", "runs", "delete some"),
            (
                quotas.max_unfinished_runs_per_owner,
                len(unfinished),
                "MAX_UNFINISHED_RUNS_PER_OWNER",
                "runs that are not done",
                "wait for one to end, or cancel one",
            ),
            (
                quotas.max_pending_runs_per_owner,
                pending,
                "MAX_PENDING_RUNS_PER_OWNER",
                "pending runs",
                "wait until one trains, or cancel one",
            ),
        ):
            if limit and number + starting >= limit:
                raise LimitReached(
                    variable, f"{owner!r} has {number + starting} {what}, and the limit {variable} is {limit}: {advice}"
                )
        if quotas.max_starts_per_minute and not self._bucket(owner).take():
            raise LimitReached(
                "MAX_STARTS_PER_MINUTE",
                f"{owner!r} has started {quotas.max_starts_per_minute} runs within a minute, which is the limit "
                "MAX_STARTS_PER_MINUTE: try again in a moment",
            )

    def _bucket(self, owner: str) -> TokenBucket:
        most = self._quotas.max_starts_per_minute
        bucket = self._buckets.pop(owner, None) or TokenBucket(most / _MINUTE, most, self._clock)
        self._buckets[owner] = bucket
        if len(self._buckets) > _MOST_OWNERS:
            self._buckets.popitem(last=False)
        return bucket
