"""What can go wrong with a call of the Kubernetes API, and what each HTTP status means for the caller.

    KubernetesError
    ├── NotConfigured           neither a pod's service account nor a kubeconfig can be used
    ├── ClientClosed            the client was closed during the call
    └── CallFailed              the call was made and did not succeed
        ├── Transient           the same call may succeed later
        │   ├── Unavailable     no answer, or 408, 429, 5xx; the call may have been done all the same
        │   │   └── WebhookUnavailable  an admission webhook does not answer the API server
        │   ├── Unauthorized    401: the credentials are not valid; they are read again for the next call
        │   ├── Expired         410: the resource version or page is too old; list again
        │   └── Conflict        409, or 422 about an immutable field: another client wrote first; read again
        │       └── NotFound    404: the object does not exist, or was deleted by another client
        └── Refused             the API server will refuse the same call again
            ├── Forbidden       403: a permission is missing, or a quota or an admission rule is in the way
            │   └── Denied      400, 403, 422: an admission webhook or policy of the cluster denies it
            └── Invalid         400, 422: the object breaks a rule of the API server

Source: Kubernetes API conventions, "HTTP Status codes".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

LONGEST_MESSAGE = 2000


@dataclass(frozen=True, slots=True)
class Cause:
    """A field of the object that was sent (dotted path) and what is wrong with it."""

    field: str
    message: str


class KubernetesError(Exception):
    """Base of the errors of this package."""


class NotConfigured(KubernetesError):
    """Neither a pod's service account nor a kubeconfig can be used; the message says why."""


class ClientClosed(KubernetesError):
    """The client was closed during the call."""


class CallFailed(KubernetesError):
    """A call did not succeed.

    ``call``: its verb and path. ``status``: the HTTP status, None without an answer. ``reason``, ``message`` and
    ``causes`` are those of the Status object in the answer. ``retry_after``: seconds the API server asks to wait.
    """

    def __init__(
        self,
        call: str,
        message: str,
        *,
        status: int | None = None,
        reason: str = "",
        causes: Iterable[Cause] = (),
        retry_after: float | None = None,
    ) -> None:
        self.call = call
        self.message = message
        self.status = status
        self.reason = reason
        self.causes = tuple(causes)
        self.retry_after = retry_after
        super().__init__(f"{call}: {self.why}")

    @property
    def why(self) -> str:
        """The status, if there is one, and the message."""
        return self.message if self.status is None else f"{self.status}: {self.message}"


class Transient(CallFailed):
    """The same call may succeed later."""


class Unavailable(Transient):
    """The API server is overloaded, out, or did not answer in time; the call may have been done all the same."""


class WebhookUnavailable(Unavailable):
    """An admission webhook does not answer the API server, which therefore accepts no such call."""


class Unauthorized(Transient):
    """The credentials are not valid, perhaps no longer; they are read again for the next call."""


class Expired(Transient):
    """The resource version of a watch, or the page of a list, is too old: list again."""


class Conflict(Transient):
    """Another client wrote first: read again, decide again."""


class NotFound(Conflict):
    """The object does not exist, or was deleted by another client."""


class Refused(CallFailed):
    """The API server will refuse the same call again."""


class Forbidden(Refused):
    """A permission is missing, or a quota or an admission rule is in the way."""


class Denied(Forbidden):
    """An admission webhook or policy of the cluster denies the call; a person may change the policy."""


class Invalid(Refused):
    """The object that was sent breaks a rule of the API server."""


# The API server's words: k8s.io/apiserver, pkg/admission/plugin/webhook/errors and .../policy/validating.
_WEBHOOK_FAILS = "failed calling webhook"
_DENIED = re.compile(r"\bdenied (the )?request\b")

_BY_STATUS: dict[int, type[CallFailed]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    408: Unavailable,
    409: Conflict,
    410: Expired,
    422: Invalid,
    429: Unavailable,
}


def status_error(call: str, status: int, body: bytes, retry_after: str | None = None) -> CallFailed:
    """The error for an answer with that HTTP status; ``retry_after`` is the header of that name."""
    reason, message, causes = _read_status(body)
    kind = _BY_STATUS.get(status) or (Unavailable if status >= 500 else Refused)
    if status >= 500 and _WEBHOOK_FAILS in message:
        kind = WebhookUnavailable
    elif kind in (Invalid, Forbidden) and _DENIED.search(message):
        kind = Denied
    if status == 422 and "immutable" in message:
        kind = Conflict  # server-side apply met an object of another client
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
    return kind(call, message, status=status, reason=reason, causes=causes, retry_after=seconds)


def _read_status(body: bytes) -> tuple[str, str, list[Cause]]:
    """The reason, message and causes of a Status object; of anything else, the beginning of its text."""
    try:
        status = json.loads(body)
        reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
        causes = [
            Cause(str(cause.get("field", "")), str(cause.get("message", "")))
            for cause in (status.get("details") or {}).get("causes") or ()
        ]
    except (ValueError, AttributeError):
        reason, message, causes = "", body[:200].decode(errors="replace"), []
    return reason, (message or reason or "no message")[:LONGEST_MESSAGE], causes
