"""The Secrets that an installation with TLS needs, in the form of cert-manager: both servers' of one authority."""

from __future__ import annotations

import base64
from pathlib import Path

from certificates import Certificates
from cluster import Cluster

API, INFERENCE = "aisandbox-api", "aisandbox-inference"


class TlsSecrets:
    """Of the installation in the namespace of ``place``; the files are in ``folder``."""

    def __init__(self, place: Cluster, folder: Path) -> None:
        self._place = place
        self.api = Certificates(folder / "api", API, f"{API}.{place.namespace}.svc")
        self.inference = Certificates(
            folder / "inference", INFERENCE, f"{INFERENCE}.{place.namespace}.svc", authority=self.api.authority
        )
        self._apply()

    def renew(self) -> None:
        """Other certificates of another authority; the former one is still trusted."""
        self.api.replace_authority()
        self.inference.authority = self.api.authority
        self.inference.write()
        self.inference.ca.write_bytes(self.api.ca.read_bytes())
        self._apply()
        # The kubelet looks at a pod's Secrets at once when the pod changes, and about once a minute without that.
        self._place.kubectl("annotate", "pod", "--all", "--overwrite", "tls.test/renewed=yes")

    def _apply(self) -> None:
        for name, made in ((API, self.api), (INFERENCE, self.inference)):
            files = {"tls.crt": made.certificate, "tls.key": made.key, "ca.crt": made.ca}
            data = {key: base64.b64encode(path.read_bytes()).decode() for key, path in files.items()}
            metadata = {"name": f"{name}-tls"}
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "kubernetes.io/tls",
                "metadata": metadata,
                "data": data,
            }
            self._place.kubectl.apply(secret)
