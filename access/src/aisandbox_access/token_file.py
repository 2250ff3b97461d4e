"""The token file: who may call, as lines of name, roles and the SHA-256 of a token.

    # NAME ROLE[,ROLE] sha256:HEX [pools=POOL,POOL] [expires=2027-01-31T00:00:00Z]
    alice  trainer,simulator  sha256:2c26b46b...  pools=arena,plant-*

Owns its form and its renewal: the file is read again when it has changed, and a file that breaks a rule changes nothing
until it is mended. The tokens themselves are in no file of the service. Must not know methods.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import hmac
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from aisandbox_access.errors import InvalidTokenFile, NotAuthenticated
from aisandbox_access.permissions import ROLES
from aisandbox_access.principals import Principal

log = structlog.get_logger(__name__)

LARGEST_FILE = 4 * 1024 * 1024
"""Bytes."""
LOOK_SECONDS = 2.0
"""How often the file is looked at for changes."""

_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/+-]{0,127}")
_POOL = re.compile(r"(?=.)[a-z0-9-]{0,63}\*?")
_ATTRIBUTES = ("pools", "expires")


@dataclass(frozen=True, slots=True)
class _Entry:
    digest: bytes
    principal: Principal


def read_tokens(path: Path) -> Mapping[bytes, _Entry]:
    """The entries of the file by the SHA-256 of their tokens. Raises InvalidTokenFile naming line and rule."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InvalidTokenFile(path, 0, f"has more than {LARGEST_FILE:,} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidTokenFile(path, 0, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise InvalidTokenFile(path, 0, "is not a text in UTF-8") from None
    found: dict[bytes, _Entry] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            entry = _entry(words)
            if entry.digest in found:
                raise ValueError(f"has the token of {found[entry.digest].principal.name!r} again")
        except ValueError as error:
            raise InvalidTokenFile(path, number, str(error)) from None
        found[entry.digest] = entry
    return found


def token_line(name: str, roles: str, token: str) -> str:
    """The line of the file for a token."""
    return f"{name} {roles} sha256:{hashlib.sha256(token.encode()).hexdigest()}"


class TokenFile:
    """An authenticator by the file at ``path``. ``clock``: seconds since the epoch. Raises InvalidTokenFile."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._read_as = _version(path)
        self._entries = read_tokens(path)
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to look at the file."""
        self._looking = asyncio.create_task(self._look(), name="look-at-token-file")

    async def close(self) -> None:
        """Stops looking."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    def known(self, token: str) -> Principal:
        """Whose token it is. Raises NotAuthenticated."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        entry = self._entries.get(digest)
        # What is looked up is a digest, whose bytes a caller cannot choose; the comparison takes as long for every one.
        if entry is None or not hmac.compare_digest(entry.digest, digest):
            raise NotAuthenticated("the token is not known")
        expires = entry.principal.expires
        if expires is not None and self._clock() >= expires:
            raise NotAuthenticated(f"the token of {entry.principal.name!r} has expired")
        return entry.principal

    async def identify(self, token: str) -> Principal:
        """As :meth:`known`."""
        return self.known(token)

    def renew(self) -> None:
        """Reads the file again if it has changed; one that breaks a rule leaves the entries as they are."""
        version = _version(self._path)
        if version == self._read_as:
            return
        self._read_as = version
        try:
            self._entries = read_tokens(self._path)
        except InvalidTokenFile as error:
            log.error("token file is not used, the tokens of before stay valid", problem=str(error))
        else:
            log.info("token file has been read again", tokens=len(self._entries))

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self.renew)


def _version(path: Path) -> tuple[int, ...]:
    """What is another one for another file; a mounted Secret is replaced by renaming a link to its folder."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _entry(words: list[str]) -> _Entry:
    if len(words) < 3:
        raise ValueError("must be NAME ROLE[,ROLE] sha256:HEX, then pools= and expires= if needed")
    name, roles, digest, *others = words
    if not _NAME.fullmatch(name):
        raise ValueError(f"name: must be 1 to 128 letters, digits and ._@:/+- that begin with one, got {name[:80]!r}")
    if unknown := [role for role in roles.split(",") if role not in ROLES]:
        raise ValueError(f"roles: must be of {', '.join(ROLES)}, got {unknown[0][:80]!r}")
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise ValueError("token: must be sha256: and the 64 hexadecimal digits of the token's SHA-256")
    attributes = _attributes(others)
    principal = Principal(
        name,
        frozenset(roles.split(",")),
        _pools(attributes["pools"]) if "pools" in attributes else None,
        expires=_time(attributes["expires"]) if "expires" in attributes else None,
    )
    return _Entry(bytes.fromhex(match[1]), principal)


def _attributes(words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in _ATTRIBUTES or key in found:
            raise ValueError(f"must have pools= and expires= after the token, each at most once, got {word[:80]!r}")
        found[key] = value
    return found


def _pools(text: str) -> tuple[str, ...]:
    pools = tuple(text.split(","))
    if wrong := [pool for pool in pools if not _POOL.fullmatch(pool)]:
        raise ValueError(f"pools: must be names of pools, which may end with *, got {wrong[0][:80]!r}")
    return pools


def _time(text: str) -> float:
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        time = datetime.datetime.min
    if time.tzinfo is None:
        raise ValueError(f"expires: must be a time with its zone, as 2027-01-31T00:00:00Z, got {text[:80]!r}")
    return time.timestamp()
