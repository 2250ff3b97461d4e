"""The settings of who may call, read from environment variables.

Owns their names, ranges and defaults; every server has the same. Must not know what they are used for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from aisandbox_process import (
    ConnectionLimits,
    Environ,
    InvalidSetting,
    choice,
    connection_limits,
    is_loopback,
    required,
    seconds,
    whole_number,
)

from aisandbox_access.permissions import ROLES

AUTHENTICATORS = ("off", "token", "oidc", "kubernetes")
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Of signatures with a public key: a token signed with a shared secret is none of an issuer's."""


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """Whose tokens are accepted, and which claims say who somebody is and may do."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    leeway_seconds: float = 30.0
    name_claim: str = "sub"
    roles_claim: str = "roles"
    groups_claim: str = "groups"
    group_roles: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The roles of those who are in a group."""
    ca_file: Path | None = None
    """The certificates of authorities that the issuer's is checked with; None: the system's."""


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may call a server. Each field is the variable of the same name in capitals, those of ``oidc`` with OIDC_."""

    auth: str = "off"
    """How callers are authenticated: off, token, oidc or kubernetes."""

    insecure: bool = False
    """Whether to listen for other machines without authentication or without TLS."""

    token_file: Path | None = None
    """With ``token``: the file of names, roles and digests of tokens."""

    oidc: OidcSettings | None = None

    auth_audience: str = ""
    """With ``kubernetes``: the audience that tokens must have; empty: that of the API server."""

    service_token_file: Path | None = None
    """A file with the token that this process calls other servers of the service with; read before each use."""

    max_streams_per_peer: int = 2_000
    """Streams that one address may have open, 1 to 1,000,000."""

    max_connections: int = 0
    """Connections that a port of a server may have, up to 1,000,000; 0: a share of the files that it may have open."""

    max_connections_per_peer: int = 0
    """Those of them that one address may have, up to 1,000,000; 0: three quarters."""

    def connection_limits(self, share_of_files: float) -> ConnectionLimits:
        """The limits of a port that may take that share of the files. Lets this process open as many as it may."""
        return connection_limits(share_of_files, self.max_connections, self.max_connections_per_peer)

    @classmethod
    def from_environ(cls, environ: Environ) -> AccessSettings:
        """Reads the variables; an empty one counts as unset. Raises InvalidSetting naming the variable."""
        auth = choice(environ, "AUTH", "off", AUTHENTICATORS)
        return cls(
            auth=auth,
            insecure=choice(environ, "INSECURE", "false", ("true", "false")) == "true",
            token_file=Path(required(environ, "TOKEN_FILE")).absolute() if auth == "token" else None,
            oidc=_oidc(environ) if auth == "oidc" else None,
            auth_audience=environ.get("AUTH_AUDIENCE") or "",
            service_token_file=_path(environ, "SERVICE_TOKEN_FILE"),
            max_streams_per_peer=whole_number(
                environ, "MAX_STREAMS_PER_PEER", cls().max_streams_per_peer, 1, 1_000_000
            ),
            max_connections=whole_number(environ, "MAX_CONNECTIONS", 0, 0, 1_000_000),
            max_connections_per_peer=whole_number(environ, "MAX_CONNECTIONS_PER_PEER", 0, 0, 1_000_000),
        )


def _oidc(environ: Environ) -> OidcSettings:
    issuer = required(environ, "OIDC_ISSUER")
    if not _is_safe(issuer):
        raise InvalidSetting(
            "OIDC_ISSUER", f"must be an https:// address (http:// on this machine), got {issuer[:80]!r}"
        )
    algorithms = _words(environ.get("OIDC_ALGORITHMS") or "RS256,ES256")
    if wrong := [name for name in algorithms if name not in ALGORITHMS]:
        raise InvalidSetting("OIDC_ALGORITHMS", f"must be of {', '.join(ALGORITHMS)}, got {wrong[0][:80]!r}")
    return OidcSettings(
        issuer=issuer,
        audience=required(environ, "OIDC_AUDIENCE"),
        algorithms=algorithms,
        leeway_seconds=seconds(environ, "OIDC_LEEWAY_SECONDS", 30.0, 600),
        name_claim=environ.get("OIDC_NAME_CLAIM") or "sub",
        roles_claim=environ.get("OIDC_ROLES_CLAIM") or "roles",
        groups_claim=environ.get("OIDC_GROUPS_CLAIM") or "groups",
        group_roles=_group_roles(environ.get("OIDC_GROUP_ROLES") or ""),
        ca_file=_path(environ, "OIDC_CA_FILE"),
    )


def _is_safe(issuer: str) -> bool:
    """Whether an attacker on the network cannot answer in its place."""
    try:
        parts = urlsplit(issuer)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


def _group_roles(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """``rl-team=trainer,simulator;ops=admin``."""
    found = []
    for part in filter(None, (each.strip() for each in text.split(";"))):
        group, equals, roles = part.partition("=")
        if not group or not equals or any(role not in ROLES for role in _words(roles)):
            rule = f"must be GROUP=ROLE,ROLE;GROUP=ROLE with roles of {', '.join(ROLES)}, got {part[:80]!r}"
            raise InvalidSetting("OIDC_GROUP_ROLES", rule)
        found.append((group.strip(), _words(roles)))
    return tuple(found)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _path(environ: Environ, name: str) -> Path | None:
    return Path(text).absolute() if (text := environ.get(name)) else None
