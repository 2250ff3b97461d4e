"""What can go wrong in serving.

    InferenceError
    ├── InvalidField         a field of a request breaks a rule; permanent
    ├── TooManyObservations  a batch over the limit; permanent
    ├── ModelTooLarge        a model over the memory limit; permanent until the limit is raised
    ├── UnusableModel        a published model that breaks its contract; permanent
    ├── Stopping             the server is shutting down; transient
    └── StartupError         the server cannot start
        └── AddressInUse     the server cannot listen on its address

The errors of aisandbox_model_store and aisandbox_wire are passed on; status_codes.py maps all of them.
"""

from __future__ import annotations


class InferenceError(Exception):
    """Base of the errors of this package."""


class InvalidField(InferenceError, ValueError):
    """The field ``field`` of a request breaks the rule ``rule``."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule


class TooManyObservations(InferenceError):
    """A call has ``count`` observations, and ``limit`` are allowed."""

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(f"observations: {count} in one call, at most {limit} (MAX_BATCH_OBSERVATIONS)")
        self.count = count
        self.limit = limit


class ModelTooLarge(InferenceError):
    """The model ``digest`` needs ``size`` bytes of memory; ``limit`` is allowed for all models together."""

    def __init__(self, digest: str, size: int, limit: int) -> None:
        super().__init__(
            f"model {digest} needs {size} bytes of memory, at most {limit} are allowed (MODEL_CACHE_BYTES)"
        )
        self.digest = digest


class UnusableModel(InferenceError):
    """The published model ``digest`` breaks its contract; ``why`` says how."""

    def __init__(self, digest: str, why: str) -> None:
        super().__init__(f"model {digest} cannot be served: {why}")
        self.digest = digest
        self.why = why


class Stopping(InferenceError):
    """The server is shutting down."""

    def __init__(self) -> None:
        super().__init__("the server is stopping; open a new stream")


class StartupError(InferenceError):
    """The server cannot start."""


class AddressInUse(StartupError):
    """The server cannot listen on ``address``, which the environment variable ``name`` sets."""

    def __init__(self, address: str, name: str) -> None:
        super().__init__(
            f"cannot listen on {address}: another process uses the port, or the address is not one of this host. "
            f"Change {name}."
        )
        self.address = address
