"""Who calls: the principal that an authenticator has found, and the call that it makes.

Must not know how a principal is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

ANONYMOUS = ""
"""The name of a caller who was not authenticated."""
OWNER_ANNOTATION = "aisandbox.dev/owner"
"""The annotation of a run with the name of the principal that started it; written by the service only."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who may call. ``name`` is what owns the runs that they start.

    ``roles``: see :mod:`aisandbox_access.permissions`. ``pools``: of simulators that they may join, ``*`` at the end
    stands for anything; None: all. ``groups`` and ``extra`` are what the cluster said of them. ``expires``: seconds
    since the epoch; None: never.
    """

    name: str
    roles: frozenset[str] = frozenset()
    pools: tuple[str, ...] | None = None
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """The maker of one call of ``method``. ``principal`` None: the caller was not authenticated.

    ``peer``: where the call came from, as gRPC writes it; empty if that is not known yet.
    """

    method: str
    principal: Principal | None = None
    peer: str = ""

    @property
    def name(self) -> str:
        """The principal's, or ANONYMOUS."""
        return self.principal.name if self.principal is not None else ANONYMOUS


_CALLER: ContextVar[Caller | None] = ContextVar("aisandbox_access.caller", default=None)


def set_caller(caller: Caller) -> None:
    """Says who makes the call that the present task answers."""
    _CALLER.set(caller)


def current_caller() -> Caller:
    """Who makes the call that the present task answers; anonymous if it was not authenticated."""
    return _CALLER.get() or Caller("")
