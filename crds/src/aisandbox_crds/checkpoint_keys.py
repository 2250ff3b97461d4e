"""The keys of runs: what a trainer signs its run's checkpoints with, so that it unpickles no others.

Every run's key is derived from one secret of the installation, which no trainer is given. Must not know where that is
stored (a file of the local backend, a Secret of the cluster) nor what a checkpoint is.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from aisandbox_crds.times import format_time, parse_time

_SIZE = 32
_SECRET = re.compile(f"[0-9a-f]{{{2 * _SIZE}}}")
_CONTEXT = "aisandbox checkpoint key\n"


@dataclass(frozen=True, slots=True)
class InstallationSecret:
    """``secret``: 32 bytes. ``since``: when it was made; what began before may have checkpoints without a digest."""

    secret: bytes
    since: datetime

    @classmethod
    def create(cls, now: datetime) -> Self:
        """A new one, of random bytes."""
        return cls(secrets.token_bytes(_SIZE), now)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Reads what :meth:`to_text` wrote. Raises ValueError."""
        try:
            document = json.loads(text)
            secret, since = document["secret"], parse_time(document["since"])
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"it is malformed ({error!r})") from error
        if not isinstance(secret, str) or not _SECRET.fullmatch(secret):
            raise ValueError(f"its secret is not {2 * _SIZE} hexadecimal digits")
        if since is None:
            raise ValueError("its since is not a time")
        return cls(bytes.fromhex(secret), since)

    def to_text(self) -> str:
        """One line of JSON, to be kept where no trainer reads it."""
        return json.dumps({"secret": self.secret.hex(), "since": format_time(self.since)})

    def key_of(self, run: str) -> str:
        """The key of a run, by what tells it from every other (its name or its uid): 64 hexadecimal digits."""
        return hmac.digest(self.secret, (_CONTEXT + run).encode(), "sha256").hex()

    def is_older_than(self, began: datetime | None) -> bool:
        """Whether a run that began then has had a key from its first checkpoint on; None: it is not known when."""
        return began is not None and began >= self.since
