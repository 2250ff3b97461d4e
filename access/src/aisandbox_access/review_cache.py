"""Answers that others give, kept for a while: of a cluster about a token or a permission, of an issuer about a token.

The same question asked at the same time is asked once, and how often anything is asked is limited, since any caller can
cause it. Those that were answered with yes before are limited apart from the others, which cannot displace them.
Must not know the questions.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from aisandbox_process import TokenBucket

from aisandbox_access.errors import AuthUnavailable

T = TypeVar("T")

ACCEPTED_SECONDS = 60.0
"""How long a yes is kept."""
REJECTED_SECONDS = 10.0
CACHE_SIZE = 4096
ASKED_A_SECOND = 50.0
ASKED_AT_ONCE = 200.0


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """``value`` None: no, for the reason ``why``. ``until``: the clock's time up to which a yes may be kept."""

    value: T | None
    why: str = ""
    until: float | None = None


class ReviewCache(Generic[T]):
    """For one event loop. ``clock``: seconds, monotonic. :meth:`known` may be called from any thread.

    ``limited``: whether to limit how often anything is asked; not needed where the answer is found in this process.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, size: int = CACHE_SIZE, *, limited: bool = True
    ) -> None:
        self._clock = clock
        self._size = size
        self._answers: OrderedDict[Hashable, tuple[float, Answer[T]]] = OrderedDict()
        self._pending: dict[Hashable, asyncio.Task[Answer[T]]] = {}
        self._limited = limited
        self._bucket = TokenBucket(ASKED_A_SECOND, ASKED_AT_ONCE, clock)
        self._accepted: OrderedDict[Hashable, None] = OrderedDict()
        self._accepted_bucket = TokenBucket(ASKED_A_SECOND, ASKED_AT_ONCE, clock)

    def known(self, key: Hashable) -> Answer[T] | None:
        """The answer that is kept, if there is one."""
        found = self._answers.get(key)
        return found[1] if found is not None and found[0] > self._clock() else None

    async def get(self, key: Hashable, ask: Callable[[], Awaitable[Answer[T]]]) -> Answer[T]:
        """The answer that is kept, or that of ``ask``, which may raise. Raises AuthUnavailable if too much is asked."""
        if (answer := self.known(key)) is not None:
            return answer
        pending = self._pending.get(key)
        if pending is None:
            bucket = self._accepted_bucket if key in self._accepted else self._bucket
            if self._limited and not bucket.take():
                raise AuthUnavailable("too many callers to look up: try again in a moment")
            pending = self._pending[key] = asyncio.ensure_future(ask())
            pending.add_done_callback(lambda task: self._finish(key, task))
        return await asyncio.shield(pending)

    def _finish(self, key: Hashable, task: asyncio.Task[Answer[T]]) -> None:
        del self._pending[key]
        if task.cancelled() or task.exception() is not None:
            return
        answer = task.result()
        now = self._clock()
        expires = now + (REJECTED_SECONDS if answer.value is None else ACCEPTED_SECONDS)
        if answer.until is not None:
            expires = min(expires, answer.until)
        self._answers[key] = (expires, answer)
        self._answers.move_to_end(key)
        while len(self._answers) > self._size:
            self._answers.popitem(last=False)
        self._accepted.pop(key, None)
        if answer.value is not None:
            self._accepted[key] = None
            if len(self._accepted) > self._size:
                self._accepted.popitem(last=False)
