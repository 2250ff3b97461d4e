"""Tokens of an issuer of OpenID Connect: JSON web tokens that it has signed.

Owns the discovery of its keys, what a token must have, and which claims say who somebody is. PyJWT checks
signatures and times. Must not know methods.

Sources: OpenID Connect Discovery 1.0; RFC 7519; RFC 8725, "JSON Web Token Best Current Practices".
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import jwt
import structlog
from aisandbox_process import TokenBucket

from aisandbox_access.caching_authenticator import CachingAuthenticator
from aisandbox_access.errors import AuthUnavailable
from aisandbox_access.permissions import ROLES
from aisandbox_access.principals import Principal
from aisandbox_access.review_cache import ACCEPTED_SECONDS, Answer, ReviewCache
from aisandbox_access.settings import OidcSettings

log = structlog.get_logger(__name__)

ISSUER_SECONDS = 5.0
"""How long the issuer may take to answer."""
KEYS_SECONDS = 300
"""How long its keys are kept; a token with an unknown key has them read again, at most every NEW_KEYS_SECONDS."""
NEW_KEYS_SECONDS = 10.0
READS_AT_ONCE = 5.0
"""How often they are read at most while the issuer does not answer, before one read a second."""
_LARGEST_ANSWER = 1024 * 1024
_LONGEST_NAME = 128
_ROLE_PREFIX = "aisandbox-"


class IssuerAuthenticator(CachingAuthenticator):
    """Says whose token it is. For one event loop. ``clock``: seconds, monotonic."""

    def __init__(self, settings: OidcSettings, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(ReviewCache(clock, limited=False))
        self._settings = settings
        self._clock = clock
        self._tls = ssl.create_default_context(cafile=settings.ca_file) if settings.ca_file else None
        self._reads = TokenBucket(1, READS_AT_ONCE, clock)
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at: float | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads the issuer's keys; an issuer that does not answer yet is asked again when there is a token."""
        try:
            await self._read_keys()
        except AuthUnavailable as error:
            log.warning("issuer of tokens does not answer", problem=str(error))

    async def close(self) -> None:
        """Nothing to do."""

    async def _ask(self, token: str) -> Answer[Principal]:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in self._settings.algorithms:
                return Answer(None, f"the token is signed with {str(header.get('alg'))[:20]!r}, which is not accepted")
            key = await self._key(str(header.get("kid", "")))
            if key is None:
                return Answer(None, "the token is signed with a key that the issuer does not have")
            claims = jwt.decode(
                token,
                key,
                algorithms=[header["alg"]],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=self._settings.leeway_seconds,
                options={"require": ["exp", "iss", "aud"]},
            )
            principal = principal_of_claims(claims, self._settings)
        except jwt.ExpiredSignatureError:
            return Answer(None, "the token has expired")
        except (jwt.PyJWTError, ValueError) as error:
            return Answer(None, f"the token is not valid for this service: {str(error)[:200]}")
        left = float(claims["exp"]) + self._settings.leeway_seconds - time.time()
        return Answer(principal, until=self._clock() + min(left, ACCEPTED_SECONDS))

    async def _key(self, kid: str) -> jwt.PyJWK | None:
        """The issuer's key of that name; the only one if the token names none."""
        if kid not in self._keys and self._reading is not None and not self._reading.done():
            await self._read_keys_once()  # the answer may have it
        age = None if self._read_at is None else self._clock() - self._read_at
        if age is None or age > KEYS_SECONDS or (kid not in self._keys and age > NEW_KEYS_SECONDS):
            await self._read_keys_once()
        if not kid and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    async def _read_keys_once(self) -> None:
        if self._reading is None or self._reading.done():
            if not self._reads.take():
                raise AuthUnavailable("the issuer's keys cannot be read: try again in a moment")
            self._reading = asyncio.ensure_future(self._read_keys())
        try:
            await asyncio.shield(self._reading)
        except AuthUnavailable as error:
            if not self._keys:
                raise
            log.warning("keys of the issuer cannot be read again", problem=str(error))

    async def _read_keys(self) -> None:
        self._read_at = self._clock()
        try:
            self._keys = await asyncio.to_thread(self._fetch_keys)
        except (OSError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
            if not self._keys:
                self._read_at = None
            why = f"{type(error).__name__} {error}"[:300]
            raise AuthUnavailable(
                f"the issuer {self._settings.issuer} could not be asked for its keys: {why}"
            ) from error

    def _fetch_keys(self) -> dict[str, jwt.PyJWK]:
        about = self._fetch(f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration")
        if about["issuer"] != self._settings.issuer:
            raise ValueError(f"it calls itself {str(about['issuer'])[:200]!r}")
        address = str(about["jwks_uri"])
        if not address.startswith(self._settings.issuer.partition(":")[0] + "://"):
            raise ValueError(f"its keys are at {address[:200]!r}")
        found = jwt.PyJWKSet.from_dict(self._fetch(address))
        return {str(key.key_id or ""): key for key in found.keys if key.public_key_use in (None, "sig")}

    def _fetch(self, address: str) -> dict[str, Any]:
        # The address begins with the scheme of OIDC_ISSUER, http or https (settings.py).
        with urllib.request.urlopen(address, timeout=ISSUER_SECONDS, context=self._tls) as answer:  # noqa: S310
            data = json.loads(answer.read(_LARGEST_ANSWER))
        if not isinstance(data, dict):
            raise TypeError("the answer is not an object")
        return data


def principal_of_claims(claims: Mapping[str, Any], settings: OidcSettings) -> Principal:
    """The principal that the claims of a valid token name. Raises ValueError."""
    name = _claim(claims, settings.name_claim)
    if not isinstance(name, str) or not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():
        raise ValueError(f"claim {settings.name_claim}: must be a name of 1 to {_LONGEST_NAME} printable characters")
    given = {text.removeprefix(_ROLE_PREFIX) for text in _texts(_claim(claims, settings.roles_claim))}
    groups = _texts(_claim(claims, settings.groups_claim))
    of_groups = {role for group, roles in settings.group_roles if group in groups for role in roles}
    return Principal(name, frozenset(given & ROLES.keys() | of_groups), groups=groups, expires=float(claims["exp"]))


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of that name, or within others: ``realm_access.roles``."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _texts(value: Any) -> tuple[str, ...]:
    """The words of a claim that is a list of texts, or a text with spaces as OAuth's scopes."""
    if isinstance(value, str):
        return tuple(value.split())
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()
