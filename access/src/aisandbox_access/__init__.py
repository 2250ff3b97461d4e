"""Who calls a server of the project, what they may do, and the record of it.

:class:`AccessControl` admits calls; :func:`create_access_control` makes the one that the settings name. The names are
loaded when they are first used: tokens of issuers, clusters and gRPC need packages of their own (the extras ``oidc``,
``kubernetes`` and ``grpc``). The modules are internal. Must not know what any method does.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aisandbox_access.access_control import AccessControl, Authenticator
    from aisandbox_access.aio_auth import AioAuthInterceptor, counted, recorded, status_of
    from aisandbox_access.audit import Audit
    from aisandbox_access.authorizers import Authorizer, RoleAuthorizer, Target
    from aisandbox_access.cluster import ClusterAuthenticator, ClusterAuthorizer, review_token
    from aisandbox_access.configured_access import ServiceToken, create_access_control
    from aisandbox_access.errors import (
        AccessError,
        AuthUnavailable,
        InvalidTokenFile,
        LimitReached,
        NotAuthenticated,
        NotPermitted,
        Refused,
    )
    from aisandbox_access.exposure import check_exposure
    from aisandbox_access.oidc import IssuerAuthenticator
    from aisandbox_access.peers import PeerStreams
    from aisandbox_access.permissions import (
        ACT_METHOD,
        ATTACH_METHOD,
        METHODS,
        ROLES,
        STATUS_METHOD,
        Permission,
        Rule,
        Scope,
    )
    from aisandbox_access.principals import ANONYMOUS, OWNER_ANNOTATION, Caller, Principal, current_caller, set_caller
    from aisandbox_access.review_cache import Answer, ReviewCache
    from aisandbox_access.settings import AccessSettings, OidcSettings
    from aisandbox_access.thread_auth import ThreadAccessControl, ThreadAuthInterceptor
    from aisandbox_access.token_file import TokenFile, token_line

_MODULES = {
    "aio_auth": ("AioAuthInterceptor", "counted", "recorded", "status_of"),
    "review_cache": ("Answer", "ReviewCache"),
    "audit": ("Audit",),
    "authorizers": ("Authorizer", "RoleAuthorizer", "Target"),
    "cluster": ("ClusterAuthenticator", "ClusterAuthorizer", "review_token"),
    "errors": (
        "AccessError",
        "AuthUnavailable",
        "InvalidTokenFile",
        "LimitReached",
        "NotAuthenticated",
        "NotPermitted",
        "Refused",
    ),
    "exposure": ("check_exposure",),
    "access_control": ("Authenticator", "AccessControl"),
    "configured_access": ("ServiceToken", "create_access_control"),
    "oidc": ("IssuerAuthenticator",),
    "peers": ("PeerStreams",),
    "principals": ("ANONYMOUS", "OWNER_ANNOTATION", "Caller", "Principal", "current_caller", "set_caller"),
    "permissions": ("ACT_METHOD", "ATTACH_METHOD", "METHODS", "ROLES", "STATUS_METHOD", "Permission", "Rule", "Scope"),
    "settings": ("AccessSettings", "OidcSettings"),
    "thread_auth": ("ThreadAuthInterceptor", "ThreadAccessControl"),
    "token_file": ("TokenFile", "token_line"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "ACT_METHOD",
    "ANONYMOUS",
    "ATTACH_METHOD",
    "METHODS",
    "OWNER_ANNOTATION",
    "ROLES",
    "STATUS_METHOD",
    "AccessControl",
    "AccessError",
    "AccessSettings",
    "AioAuthInterceptor",
    "Answer",
    "Audit",
    "AuthUnavailable",
    "Authenticator",
    "Authorizer",
    "Caller",
    "ClusterAuthenticator",
    "ClusterAuthorizer",
    "InvalidTokenFile",
    "IssuerAuthenticator",
    "LimitReached",
    "NotAuthenticated",
    "NotPermitted",
    "OidcSettings",
    "PeerStreams",
    "Permission",
    "Principal",
    "Refused",
    "ReviewCache",
    "RoleAuthorizer",
    "Rule",
    "Scope",
    "ServiceToken",
    "Target",
    "ThreadAccessControl",
    "ThreadAuthInterceptor",
    "TokenFile",
    "check_exposure",
    "counted",
    "create_access_control",
    "current_caller",
    "recorded",
    "review_token",
    "set_caller",
    "status_of",
    "token_line",
]


def __getattr__(name: str) -> Any:
    """Imports a public name (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
