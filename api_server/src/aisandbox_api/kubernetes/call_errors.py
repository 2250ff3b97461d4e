"""What a failed call of the Kubernetes API means for a client of the service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aisandbox_crds import FieldError
from aisandbox_kubernetes import CallFailed, ClientClosed, Unavailable

from aisandbox_api.errors import BackendUnavailable, ClusterRefused, ServiceStopping


@contextmanager
def api_errors() -> Iterator[None]:
    """Raises BackendUnavailable, ClusterRefused or ServiceStopping for the errors of calls made in its block."""
    try:
        yield
    except ClientClosed as error:
        raise ServiceStopping("the service is stopping: send the call again in a moment") from error
    except Unavailable as error:
        if error.status is None:
            raise BackendUnavailable(f"the Kubernetes API does not answer: {error.message}") from error
        answer = f"{error.status} {error.reason}"
        raise BackendUnavailable(f"the Kubernetes API is not able to answer ({answer}): {error.message}") from error
    except CallFailed as error:
        causes = [FieldError(cause.field, cause.message) for cause in error.causes]
        raise ClusterRefused(error.status or 0, error.reason, error.message, causes) from error
