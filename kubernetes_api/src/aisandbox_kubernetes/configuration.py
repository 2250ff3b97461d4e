"""Where the API server is and as whom it is called: as a pod's service account, or as kubectl would."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from kubernetes.aio import config
from kubernetes.aio.client import Configuration

from aisandbox_kubernetes.errors import NotConfigured

__all__ = ["Configuration", "load_configuration"]


async def load_configuration(context: str = "", environ: Mapping[str, str] = os.environ) -> Configuration:
    """In a pod its service account, unless a context is named; else that context of the kubeconfig (KUBECONFIG).

    ``context`` empty: the kubeconfig's current one. Raises NotConfigured.
    """
    configuration = Configuration()
    load: Any = config
    try:
        if environ.get("KUBERNETES_SERVICE_HOST") and not context:
            load.load_incluster_config(client_configuration=configuration)
        else:
            await load.load_kube_config(
                context=context or None, client_configuration=configuration, persist_config=False
            )
    except (config.ConfigException, OSError) as error:
        raise NotConfigured(str(error)) from error
    return configuration
