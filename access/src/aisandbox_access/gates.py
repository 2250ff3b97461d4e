"""The gate that the settings name, with what it needs: a file, an issuer or a cluster.

Must not know servers.
"""

from __future__ import annotations

from pathlib import Path

from aisandbox_process import InvalidSetting

from aisandbox_access.audit import Audit
from aisandbox_access.authorizers import RoleAuthorizer
from aisandbox_access.errors import CannotDecide
from aisandbox_access.gate import Gate
from aisandbox_access.peers import PeerStreams
from aisandbox_access.settings import AccessSettings
from aisandbox_access.token_file import TokenFile


async def create_gate(settings: AccessSettings, namespace: str = "") -> Gate:
    """The gate, not yet started. ``namespace``: of the runs, for ``kubernetes``.

    Raises InvalidSetting, InvalidTokenFile.
    """
    audit, streams = Audit(), PeerStreams(settings.max_streams_per_peer)
    if settings.auth == "token":
        if settings.token_file is None:
            raise InvalidSetting("TOKEN_FILE", "must be set")
        return Gate(TokenFile(settings.token_file), RoleAuthorizer(), audit=audit, streams=streams)
    if settings.auth == "oidc":
        if settings.oidc is None:
            raise InvalidSetting("OIDC_ISSUER", "must be set")
        from aisandbox_access.oidc import IssuerAuthenticator  # PyJWT is an optional dependency

        return Gate(IssuerAuthenticator(settings.oidc), RoleAuthorizer(), audit=audit, streams=streams)
    if settings.auth == "kubernetes":
        return await _cluster_gate(settings, namespace, audit, streams)
    return Gate(audit=audit, streams=streams)


async def _cluster_gate(settings: AccessSettings, namespace: str, audit: Audit, streams: PeerStreams) -> Gate:
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
    return Gate(authenticator, ClusterAuthorizer(client, namespace), audit=audit, streams=streams)


def service_token(path: Path | None) -> str:
    """The token that this process calls other servers with, as it is in its file now; empty if there is none.

    Raises CannotDecide.
    """
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise CannotDecide(f"SERVICE_TOKEN_FILE: {path} cannot be read: {error.strerror or error}") from error
