"""What can go wrong in the operator.

    OperatorError
    └── StartupError            the operator cannot begin its work; permanent until a person acts
        ├── NoCluster           no cluster is configured
        └── AddressInUse        another process listens on the port

The errors of calls to the API server are :mod:`aisandbox_kubernetes`'s.
"""

from __future__ import annotations


class OperatorError(Exception):
    """Base of the errors of this package."""


class StartupError(OperatorError):
    """The operator cannot begin its work."""


class NoCluster(StartupError):
    """No cluster is configured."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"no cluster is configured: {why}. Run the operator in a pod with a service account, or where kubectl "
            "works (KUBECONFIG names the file, KUBE_CONTEXT the context)."
        )


class AddressInUse(StartupError):
    """Another process listens on the port."""

    def __init__(self, variable: str, port: int) -> None:
        super().__init__(f"cannot listen on port {port}: another process uses it. Set {variable} to another one.")
