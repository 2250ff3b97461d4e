"""The errors of this package.

    AccessError
    ├── InvalidTokenFile      a line of the token file breaks a rule
    ├── Refused               the call must not be made
    │   ├── NotAuthenticated  there is no credential, or it is not valid (any more)
    │   └── NotPermitted      the caller lacks the permission
    ├── LimitReached          the peer has too many streams; the same call may succeed later
    └── AuthUnavailable       what decides does not answer; the same call may succeed later

Their gRPC statuses are in :mod:`aisandbox_access.access_control`.
"""

from __future__ import annotations


class AccessError(Exception):
    """Base of the errors of this package."""


class InvalidTokenFile(AccessError):
    """A line of the token file breaks ``rule``; ``line`` counts from 1, 0 for the file as a whole."""

    def __init__(self, path: object, line: int, rule: str) -> None:
        where = f"{path}, line {line}" if line else str(path)
        super().__init__(f"TOKEN_FILE: {where}: {rule}")
        self.line = line
        self.rule = rule


class Refused(AccessError):
    """The call must not be made."""


class NotAuthenticated(Refused):
    """There is no credential, or it is not valid."""


class NotPermitted(Refused):
    """The caller is known and lacks the permission."""


class LimitReached(AccessError):
    """The peer has too many streams."""


class AuthUnavailable(AccessError):
    """What decides does not answer."""
