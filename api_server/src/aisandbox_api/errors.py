"""The errors of this package.

    ApiError
    ├── StartupError               the service cannot start; permanent until its administrator acts
    │   ├── AddressInUse           the address cannot be listened on
    │   ├── ModelsDirInUse         another service uses MODELS_DIR
    │   ├── ModelsDirNotWritable   MODELS_DIR cannot be written to
    │   └── SecretUnreadable       the secret for the keys of runs is damaged
    ├── InvalidRequest             fields of a request break rules; permanent
    ├── RunUnknown                 there is no such run; permanent
    ├── RunDone                    the run has ended, so it cannot be cancelled, suspended or resumed; permanent
    ├── RequestIdTaken             the request_id was used for another request; permanent
    ├── FailedPrecondition         something outside the request must change first
    ├── LimitReached               a limit of the service is reached; transient
    ├── ReportRefused              a trainer's report or session is refused
    │   ├── NotAuthenticated       there is no token, or it is not valid
    │   ├── NotPermitted           the token is of another run or attempt, or the pool not the run's
    │   └── AttemptOver            the attempt has ended or is not the newest one
    ├── ServiceStopping            the service is stopping; transient
    ├── LaunchFailed               a trainer could not be started; transient
    ├── BackendUnavailable         what stores the runs does not answer, or is behind; transient
    └── ClusterRefused             the Kubernetes API refuses a call; permanent until its administrator acts

Their gRPC statuses are in :mod:`aisandbox_api.status_codes`.
"""

from __future__ import annotations

from collections.abc import Iterable

from aisandbox_crds import FieldError
from aisandbox_model_store import unknown_run


class ApiError(Exception):
    """Base of the errors of this package."""


class StartupError(ApiError):
    """The service cannot start."""


class AddressInUse(StartupError):
    """The address cannot be listened on; ``variable`` is the setting of its port."""

    def __init__(self, address: str, variable: str) -> None:
        super().__init__(
            f"cannot listen on {address}: the port is in use, perhaps by another AISandbox service, or the host is not "
            f"one of this machine. Stop that process, or set {variable} (port 0 picks a free one)"
            + (" and GRPC_HOST." if variable.endswith("_PORT") else ".")
        )


class ModelsDirInUse(StartupError):
    """Another service uses MODELS_DIR."""

    def __init__(self, models_dir: object, owner: str) -> None:
        super().__init__(
            f"MODELS_DIR {models_dir} is in use by another AISandbox service{owner}: two services would train the same "
            "runs twice. Stop that service, or set MODELS_DIR to another folder."
        )


class ModelsDirNotWritable(StartupError):
    """MODELS_DIR cannot be written to; ``why`` is the cause."""

    def __init__(self, models_dir: object, why: OSError) -> None:
        super().__init__(
            f"MODELS_DIR {models_dir} cannot be written to: {why.strerror or why}. Give this user write permission, "
            "free some space, or set MODELS_DIR to another folder."
        )


class SecretUnreadable(StartupError):
    """The file with the secret of which the keys of runs are derived cannot be read; ``why`` is the cause."""

    def __init__(self, path: object, why: Exception) -> None:
        super().__init__(
            f"{path} cannot be read: {why}. Restore it from a backup. Without it unfinished runs cannot read the "
            "checkpoints that they have signed: if you remove the file, they begin from scratch."
        )


class InvalidRequest(ApiError):
    """``errors`` names every field, as the proto does, and the rule it broke; at least one."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(str(error) for error in self.errors))


class RunUnknown(ApiError):
    """There is no run ``run``; ``why`` adds what is known about it."""

    def __init__(self, run: str, why: str = "") -> None:
        super().__init__(f"{unknown_run(run)}{': ' + why if why else ''}")
        self.run = run


class RunDone(ApiError):
    """The run has ended, so it cannot be cancelled, suspended or resumed."""

    def __init__(self, run: str, phase: str, asked: str) -> None:
        advice = "; start a new one" if asked == "resumed" else ""
        super().__init__(f"run {run!r} has ended ({phase}) and cannot be {asked}{advice}")
        self.run = run


class RequestIdTaken(ApiError):
    """``request_id`` was used for another request, which is ``run``."""

    def __init__(self, request_id: str, run: str) -> None:
        super().__init__(
            f"request_id {request_id!r} was used for another request, run {run!r}: repeat that request unchanged to "
            "get its run, or choose a new request_id to start another one"
        )
        self.run = run


class FailedPrecondition(ApiError):
    """``subject`` is not in the state the call needs; the message says what to do."""

    def __init__(self, kind: str, subject: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.subject = subject


class LimitReached(ApiError):
    """The limit ``limit`` (a variable's name) is reached."""

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit


class ReportRefused(ApiError):
    """A trainer's report, or its session with a simulator, is refused."""


class NotAuthenticated(ReportRefused):
    """There is no token, or it is not valid."""


class NotPermitted(ReportRefused):
    """The token is of another run or attempt, or the pool is not the run's."""


class AttemptOver(ReportRefused):
    """The attempt has ended or is not the newest one."""


class ServiceStopping(ApiError):
    """The service is stopping; the same call succeeds once it, or another replica, is serving."""


class LaunchFailed(ApiError):
    """A trainer could not be started."""


class BackendUnavailable(ApiError):
    """What stores the runs does not answer, is busy, or is behind; a retry of the call may succeed."""


class ClusterRefused(ApiError):
    """The Kubernetes API refused a call; ``code`` is the HTTP status, ``reason`` and ``causes`` are its Status's."""

    def __init__(self, code: int, reason: str, message: str, causes: Iterable[FieldError] = ()) -> None:
        super().__init__(f"the Kubernetes API refused the call ({code} {reason}): {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.causes = tuple(causes)
