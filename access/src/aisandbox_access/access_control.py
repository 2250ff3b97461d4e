"""The access control of a server: who makes a call, whether they may, and the record of those who may not.

Owns the order: credential, permission, and later the run or the pool that the request names. Must not know gRPC, HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from aisandbox_access.audit import Audit
from aisandbox_access.authorizers import Authorizer, Target
from aisandbox_access.errors import AccessError, AuthUnavailable, NotAuthenticated, NotPermitted, Refused
from aisandbox_access.peers import PeerStreams
from aisandbox_access.permissions import METHODS, Permission, Rule, Scope
from aisandbox_access.principals import Caller, Principal

AUTHORIZATION = "authorization"
SCHEME = "Bearer "
LONGEST_TOKEN = 16 * 1024
"""Characters."""

_HOW = "send the metadata `authorization: Bearer TOKEN`"


class Authenticator(Protocol):
    """Says whose token it is."""

    async def start(self) -> None:
        """Begins what it does in the background."""

    async def close(self) -> None:
        """Ends it."""

    def known(self, token: str) -> Principal | None:
        """As :meth:`identify`, without waiting; None if that is not possible."""
        ...

    async def identify(self, token: str) -> Principal:
        """Whose it is. Raises NotAuthenticated, AuthUnavailable."""
        ...


class AccessControl:
    """Admits calls. ``authenticator`` None: everybody may do everything."""

    def __init__(
        self,
        authenticator: Authenticator | None = None,
        authorizer: Authorizer | None = None,
        *,
        audit: Audit | None = None,
        streams: PeerStreams | None = None,
        methods: Mapping[str, Rule] = METHODS,
    ) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._methods = methods
        self.audit = audit or Audit()
        self.streams = streams or PeerStreams(1_000_000)

    @property
    def asks(self) -> bool:
        """Whether callers are authenticated."""
        return self._authenticator is not None

    @property
    def decides_by_owner(self) -> bool:
        """Whether a permission of somebody reaches as far as their own runs."""
        return self._authorizer is not None and not self._authorizer.by_name

    async def start(self) -> None:
        """To be called before the first call."""
        if self._authenticator is not None:
            await self._authenticator.start()

    async def close(self) -> None:
        """To be called after the last call."""
        if self._authenticator is not None:
            await self._authenticator.close()

    def rule(self, method: str) -> Rule | None:
        """What the method needs; None: nobody may call it."""
        return self._methods.get(method)

    async def admit(self, method: str, metadata: Mapping[str, str]) -> Caller:
        """Who makes the call, which may begin. Keys of ``metadata`` are in lower case.

        Raises NotAuthenticated, NotPermitted, AuthUnavailable; a refusal is not recorded yet: the peer is known later.
        """
        if self._authenticator is None or self._authorizer is None:
            return Caller(method)
        return await self._admit(method, metadata, self._authenticator, self._authorizer)

    async def _admit(
        self, method: str, metadata: Mapping[str, str], authenticator: Authenticator, authorizer: Authorizer
    ) -> Caller:
        rule = self._methods.get(method)
        if rule is not None and rule.permission is None and not rule.identified:
            if rule.trainers:
                token_of(metadata)
            return Caller(method)
        token = token_of(metadata)
        principal = authenticator.known(token) or await authenticator.identify(token)
        caller = Caller(method, principal)
        if rule is None:
            raise NotPermitted(f"{method}: nobody may call this method")
        if rule.permission is None or await authorizer.allows(principal, rule.permission, None):
            return caller
        if authorizer.by_name and rule.scope is not Scope.SERVICE:
            return caller  # who may not do it with all runs may do it with this one, which is asked when it is known
        raise _lacks(caller, rule.permission)

    def admit_now(self, method: str, metadata: Mapping[str, str]) -> Caller | None:
        """As :meth:`admit` for methods that are no trainer's, without waiting; None if that is not possible."""
        if self._authenticator is None or self._authorizer is None:
            return Caller(method)
        rule = self._methods.get(method)
        if rule is None or rule.trainers or rule.permission is None:
            return None
        principal = self._authenticator.known(token_of(metadata))
        if principal is None:
            return None
        allowed = self._authorizer.known(principal, rule.permission, None)
        if allowed is None:
            return None
        if not allowed and not (self._authorizer.by_name and rule.scope is not Scope.SERVICE):
            raise _lacks(Caller(method, principal), rule.permission)
        return Caller(method, principal)

    def may_now(self, caller: Caller, permission: Permission, target: Target | None = None) -> bool | None:
        """As :meth:`may`, without waiting; None if that is not possible."""
        if self._authorizer is None:
            return True
        if caller.principal is None:
            return False
        return self._authorizer.known(caller.principal, permission, target)

    async def may(self, caller: Caller, permission: Permission, target: Target | None = None) -> bool:
        """Whether the caller has a permission, for a run, a pool or the whole service. Raises AuthUnavailable."""
        if self._authorizer is None:
            return True
        if caller.principal is None:
            return False
        return await self._authorizer.allows(caller.principal, permission, target)

    async def check(self, caller: Caller, permission: Permission, target: Target, peer: str) -> None:
        """Returns if the caller may, for ``target``. Raises NotPermitted, which is recorded, and AuthUnavailable."""
        if not await self.may(caller, permission, target):
            raise self.refuse(_lacks(caller, permission, target), caller, peer, target.name)

    def refuse(self, error: Refused, caller: Caller, peer: str, run: str = "") -> Refused:
        """The error, recorded unless every call of the method is."""
        rule = self._methods.get(caller.method)
        if rule is None or not rule.changes:
            self.record_refusal(error, caller, peer, run)
        return error

    def record_refusal(self, error: AccessError, caller: Caller, peer: str, run: str = "") -> None:
        """Writes the line of a call that was refused."""
        self.audit.record_refusal(caller.name, peer, caller.method, run, status_name(error), str(error))


def token_of(metadata: Mapping[str, str]) -> str:
    """The token of a call. Raises NotAuthenticated if there is none."""
    header = metadata.get(AUTHORIZATION, "")
    if not header:
        raise NotAuthenticated(f"authentication required: {_HOW}")
    if header[: len(SCHEME)].lower() != SCHEME.lower() or len(header) == len(SCHEME):
        raise NotAuthenticated(f"authorization: is not of the scheme Bearer: {_HOW}")
    if len(header) > LONGEST_TOKEN:
        raise NotAuthenticated("authorization: the token is too long to be one")
    return header[len(SCHEME) :].strip()


def status_name(error: AccessError) -> str:
    """The name of the gRPC status of an error."""
    match error:
        case NotAuthenticated():
            return "UNAUTHENTICATED"
        case NotPermitted():
            return "PERMISSION_DENIED"
        case AuthUnavailable():
            return "UNAVAILABLE"
    return "RESOURCE_EXHAUSTED"


def _lacks(caller: Caller, permission: Permission, target: Target | None = None) -> NotPermitted:
    if target is None:
        return NotPermitted(f"{caller.name!r} lacks the permission {permission.value!r}")
    what = f"for pool {target.name[:80]!r}" if target.is_pool else f"for run {target.name[:80]!r}"
    return NotPermitted(f"{caller.name!r} lacks the permission {permission.value!r} {what}")
