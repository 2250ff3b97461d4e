"""A small asynchronous client of the Kubernetes API: JSON calls, list pages, watches, and what an HTTP status means.

It knows no kind of resource. The names below are the public ones; the modules are internal.
"""

from aisandbox_kubernetes.client import NO_RETRY, Call, Client, Json, Retry
from aisandbox_kubernetes.configuration import Configuration, load_configuration
from aisandbox_kubernetes.errors import (
    CallFailed,
    Cause,
    ClientClosed,
    Conflict,
    Denied,
    Expired,
    Forbidden,
    Invalid,
    KubernetesError,
    NotConfigured,
    NotFound,
    Refused,
    Transient,
    Unauthorized,
    Unavailable,
    WebhookUnavailable,
)

__all__ = [
    "NO_RETRY",
    "Call",
    "CallFailed",
    "Cause",
    "Client",
    "ClientClosed",
    "Configuration",
    "Conflict",
    "Denied",
    "Expired",
    "Forbidden",
    "Invalid",
    "Json",
    "KubernetesError",
    "NotConfigured",
    "NotFound",
    "Refused",
    "Retry",
    "Transient",
    "Unauthorized",
    "Unavailable",
    "WebhookUnavailable",
    "load_configuration",
]
