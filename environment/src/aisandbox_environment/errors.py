"""The errors of a simulator as its client sees them, and those a simulation raises.

    SimulatorError
    ├── TransientSimulatorError     a new session may succeed
    │   ├── SimulatorUnreachable    nothing answers at the address
    │   ├── SimulatorLost           the session's stream broke
    │   ├── SimulatorHung           no reply within the time allowed
    │   ├── AtCapacity              too few environments are free now
    │   ├── SimulatorBusy           it refused this request for now (in band: the session continues)
    │   └── SimulationFailed        the simulation raised an exception for this request
    ├── PermanentSimulatorError     the same request fails again
    │   ├── InvalidAddress          the text is not an address
    │   ├── ProtocolMismatch        it speaks another version, or is no simulator
    │   ├── InvalidReply            its reply breaks the contract
    │   └── RefusedRequest          it refuses the request (in band: the session continues)
    └── SessionCancelled            cancel() was called

    RefusalError                    raised by a simulation; nothing has changed, the session continues
    ├── InvalidRequest              in band: INVALID_ARGUMENT
    └── Busy                        in band: BUSY
    AttachRefused                   raised by attach: the service refuses the simulator for good
    InvalidOptions                  raised by Simulation.make: the stream ends with INVALID_ARGUMENT
    InvalidDemonstrationFile        a file of demonstrations is damaged, or has what no environment does
    InvalidRecording                a recording of an episode is damaged, or its actions lead to another episode

Must not know gRPC: :mod:`aisandbox_environment.calls` translates its statuses.
"""

from __future__ import annotations

from aisandbox_process import printable

LONGEST_MESSAGE = 2_000
"""Characters. A simulator's own words are in a message, and it may have any."""


class SimulatorError(Exception):
    """The base of a client's errors. ``address`` says which simulator, ``message`` what is wrong.

    The message is cut after LONGEST_MESSAGE characters, and has no control characters.
    """

    def __init__(self, address: str, message: str) -> None:
        message = printable(message, LONGEST_MESSAGE)
        super().__init__(f"simulator {address}: {message}")
        self.address = address
        self.message = message


class TransientSimulatorError(SimulatorError):
    """A new session, perhaps later, may succeed."""


class SimulatorUnreachable(TransientSimulatorError):
    """Nothing answers at the address."""


class SimulatorLost(TransientSimulatorError):
    """The session's stream broke: the simulator ended, or the network did."""


class SimulatorHung(TransientSimulatorError):
    """No reply came within the time allowed."""


class AtCapacity(TransientSimulatorError):
    """The simulator has too few free environments now."""


class SimulatorBusy(TransientSimulatorError):
    """The simulator refused this request for now; the session is as it was."""


class SimulationFailed(TransientSimulatorError):
    """The simulation raised an exception for a request, and the stream ended with INTERNAL."""


class PermanentSimulatorError(SimulatorError):
    """A retry of the same request fails again; the request, the simulator or the configuration must change."""


class InvalidAddress(PermanentSimulatorError):
    """The text is not an address."""


class ProtocolMismatch(PermanentSimulatorError):
    """The simulator speaks another version of the protocol, or what answers is no simulator."""


class InvalidReply(PermanentSimulatorError):
    """The simulator's reply breaks the contract; the message names the field and the rule."""


class RefusedRequest(PermanentSimulatorError):
    """The simulator refuses the request; after an in-band refusal the session is as it was."""


class SessionCancelled(SimulatorError):
    """``cancel()`` was called while a reply was awaited."""


class RefusalError(Exception):
    """The base of what a simulation raises to refuse a request, having changed nothing; ``message`` is for people."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(RefusalError):
    """The request breaks a rule of the simulation."""


class Busy(RefusalError):
    """The simulation cannot do this right now."""


class AttachRefused(Exception):
    """The service at ``address`` refuses a simulator that attaches, and would again; ``message`` says why."""

    def __init__(self, address: str, message: str) -> None:
        super().__init__(f"the service at {address} refuses the simulator: {message}")
        self.address = address
        self.message = message


class InvalidOptions(ValueError):
    """An option is unknown, or its value is not accepted; the message names the key."""


class InvalidDemonstrationFile(Exception):
    """A file of demonstrations that cannot be learned from; the message says why, and names the row."""


class InvalidRecording(Exception):
    """A recording of an episode that cannot be played again; the message names the file, and says why."""
