"""What can go wrong in the operator.

OperatorError
├── StartupError            the operator cannot begin its work; permanent until somebody acts
│   ├── NoCluster           no cluster is configured
│   └── AddressInUse        another process listens on the port
└── ClusterError            a call of the API server did not do what it should
    ├── Transient           the same call may succeed later
    │   ├── Conflict        somebody else wrote first: read again, decide again
    │   └── Unavailable     overload, an outage, a time-out; the call may or may not have been done
    └── Refused             the API server will refuse the same call again
        └── Forbidden       the operator lacks a permission
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
    """The port cannot be listened on."""

    def __init__(self, variable: str, port: int) -> None:
        super().__init__(f"cannot listen on port {port}: another process uses it. Set {variable} to another one.")


class ClusterError(OperatorError):
    """A call of the API server failed; ``call`` is its verb and what it was about."""

    def __init__(self, call: str, why: str) -> None:
        super().__init__(f"{call}: {why}")
        self.call = call
        self.why = why


class Transient(ClusterError):
    """The same call may succeed later, after ``retry_after`` seconds if the API server said so."""

    def __init__(self, call: str, why: str, retry_after: float | None = None) -> None:
        super().__init__(call, why)
        self.retry_after = retry_after


class Conflict(Transient):
    """Somebody else wrote first."""


class Unavailable(Transient):
    """The API server is overloaded, out, or did not answer in time; the call may have been done all the same."""


class Refused(ClusterError):
    """The API server will refuse the same call again."""


class Forbidden(Refused):
    """The operator's service account lacks a permission, or a quota or an admission rule is in the way."""


class Invalid(Refused):
    """What was sent breaks a rule of the API server."""
