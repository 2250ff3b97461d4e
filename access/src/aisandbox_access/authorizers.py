"""What a principal may do: by roles, for tokens of a file or an issuer. On Kubernetes the cluster decides (.cluster).

Must not know methods or how a principal is found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aisandbox_access.permissions import Permission, permissions_of
from aisandbox_access.principals import ANONYMOUS, Principal


@dataclass(frozen=True, slots=True)
class Target:
    """What a permission is needed for: the run ``name`` of ``owner``, or the pool ``name``.

    ``owner`` ANONYMOUS: the run has no owner; None: its owner is not known.
    """

    name: str
    owner: str | None = ANONYMOUS
    is_pool: bool = False


class Authorizer(Protocol):
    """Decides. ``target`` None: the service as a whole.

    ``by_name``: whether somebody who lacks a permission for the service may have it for a run or a pool.
    """

    by_name: bool

    def known(self, principal: Principal, permission: Permission, target: Target | None) -> bool | None:
        """As :meth:`allows`, without waiting; None if that is not possible."""
        ...

    async def allows(self, principal: Principal, permission: Permission, target: Target | None) -> bool:
        """Whether the principal has the permission. Raises AuthUnavailable."""
        ...


class RoleAuthorizer:
    """Permissions by roles; those of a run reach as far as its owner.

    A run that belongs to nobody, because it was started before callers were authenticated or with kubectl, may be seen
    and acted with by everybody who has these permissions, and changed by administrators.
    """

    by_name = False

    def known(self, principal: Principal, permission: Permission, target: Target | None) -> bool:
        """See Authorizer."""
        permissions = permissions_of(principal.roles)
        if Permission.ADMINISTER in permissions:
            return True
        if permission not in permissions:
            return False
        if target is None:
            return True
        if target.is_pool:
            return principal.pools is None or any(_matches(pattern, target.name) for pattern in principal.pools)
        return target.owner == principal.name or (target.owner == ANONYMOUS and permission is not Permission.TRAIN)

    async def allows(self, principal: Principal, permission: Permission, target: Target | None) -> bool:
        """See Authorizer."""
        return self.known(principal, permission, target)


def _matches(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
