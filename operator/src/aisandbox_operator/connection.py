"""How the API server is reached: as a pod, or as whoever uses kubectl here.

Owns the choice between the two, for the official client and for kopf, so that both act as the same user.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import kopf
from kubernetes.aio import config
from kubernetes.aio.client import Configuration

from aisandbox_operator.errors import NoCluster


async def load_configuration(kube_context: str, environ: Mapping[str, str] = os.environ) -> Configuration:
    """In a pod its service account, unless a context is named; else the kubeconfig. Raises NoCluster."""
    configuration = Configuration()
    load: Any = config
    try:
        if environ.get("KUBERNETES_SERVICE_HOST") and not kube_context:
            load.load_incluster_config(client_configuration=configuration)
        else:
            await load.load_kube_config(context=kube_context or None, client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise NoCluster(str(error)) from error
    return configuration


async def kopf_connection(configuration: Configuration) -> kopf.ConnectionInfo:
    """The same for kopf; called anew whenever its credentials have become invalid."""
    header = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization") or ""
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        ca_data=configuration.ca_cert_data if not configuration.ssl_ca_cert else None,
        insecure=not configuration.verify_ssl,
        username=configuration.username or None,
        password=configuration.password or None,
        token=header.split(" ", 1)[-1] or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )
