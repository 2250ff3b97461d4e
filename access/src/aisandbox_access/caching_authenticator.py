"""An authenticator that asks elsewhere whose a token is, and keeps the answers by the tokens' digests.

Must not know who is asked.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod

from aisandbox_access.errors import NotAuthenticated
from aisandbox_access.principals import Principal
from aisandbox_access.review_cache import Answer, ReviewCache


class CachingAuthenticator(ABC):
    """Says whose token it is. For one event loop."""

    def __init__(self, answers: ReviewCache[Principal]) -> None:
        self._answers = answers

    def known(self, token: str) -> Principal | None:
        """See Authenticator."""
        answer = self._answers.known(_digest(token))
        return None if answer is None else _principal_of(answer)

    async def identify(self, token: str) -> Principal:
        """See Authenticator."""
        return _principal_of(await self._answers.get(_digest(token), lambda: self._ask(token)))

    @abstractmethod
    async def _ask(self, token: str) -> Answer[Principal]:
        """The principal that the token is of, or why it is not accepted. Raises AuthUnavailable."""


def _principal_of(answer: Answer[Principal]) -> Principal:
    if answer.value is None:
        raise NotAuthenticated(answer.why)
    return answer.value


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
