"""The access control that the settings name, with what it needs: a file, an issuer or a cluster.

Must not know servers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import structlog
from aisandbox_process import InvalidSetting

from aisandbox_access.access_control import AUTHORIZATION, SCHEME, AccessControl
from aisandbox_access.audit import Audit
from aisandbox_access.authorizers import RoleAuthorizer
from aisandbox_access.peers import PeerStreams
from aisandbox_access.settings import AccessSettings
from aisandbox_access.token_file import TokenFile

log = structlog.get_logger(__name__)

TOKEN_SECONDS = 5.0
"""How long a token of this process is used before its file is read again."""


async def create_access_control(settings: AccessSettings, namespace: str = "") -> AccessControl:
    """The access control, not yet started. ``namespace``: of the runs, for ``kubernetes``.

    Raises InvalidSetting, InvalidTokenFile.
    """
    audit, streams = Audit(), PeerStreams(settings.max_streams_per_peer)
    if settings.auth == "token":
        if settings.token_file is None:
            raise InvalidSetting("TOKEN_FILE", "must be set")
        return AccessControl(TokenFile(settings.token_file), RoleAuthorizer(), audit=audit, streams=streams)
    if settings.auth == "oidc":
        if settings.oidc is None:
            raise InvalidSetting("OIDC_ISSUER", "must be set")
        from aisandbox_access.oidc import IssuerAuthenticator  # PyJWT is an optional dependency

        return AccessControl(IssuerAuthenticator(settings.oidc), RoleAuthorizer(), audit=audit, streams=streams)
    if settings.auth == "kubernetes":
        return await _cluster_gate(settings, namespace, audit, streams)
    return AccessControl(audit=audit, streams=streams)


async def _cluster_gate(settings: AccessSettings, namespace: str, audit: Audit, streams: PeerStreams) -> AccessControl:
    from aisandbox_kubernetes import Client, NotConfigured, Retry, load_configuration  # an optional dependency

    from aisandbox_access.cluster import ClusterAuthenticator, ClusterAuthorizer

    if not namespace:
        raise InvalidSetting("POD_NAMESPACE", "must be the namespace of the runs when AUTH is kubernetes")
    try:
        configuration = await load_configuration()
    except NotConfigured as error:
        raise InvalidSetting("AUTH", f"kubernetes needs a pod's service account or a kubeconfig ({error})") from error
    client = Client(configuration, "aisandbox-access", call_seconds=5.0, connect_seconds=None, retry=Retry(tries=2))
    authenticator = ClusterAuthenticator(client, settings.auth_audience)
    return AccessControl(authenticator, ClusterAuthorizer(client, namespace), audit=audit, streams=streams)


class ServiceToken:
    """The token that this process calls other servers with, as it is in the file at ``path``; None: it has none.

    ``clock``: seconds, monotonic.
    """

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._token = ""
        self._read_at: float | None = None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of a call. Without a file, or where it cannot be read, none."""
        if self._path is None:
            return ()
        now = self._clock()
        if self._read_at is None or now - self._read_at > TOKEN_SECONDS:
            self._read_at = now
            try:
                self._token = self._path.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                log.warning("SERVICE_TOKEN_FILE cannot be read", path=str(self._path), problem=str(error))
        return ((AUTHORIZATION, f"{SCHEME}{self._token}"),) if self._token else ()
