"""The errors of a simulator, as its client sees them, and those a simulation answers with.

    SimulatorError
    ├── TransientSimulatorError     a new session may cure it
    │   ├── SimulatorUnreachable    nothing answers at the address
    │   ├── SimulatorLost           the session's stream broke
    │   ├── SimulatorHung           no reply within the time allowed
    │   ├── AtCapacity              it carries no more environments now
    │   ├── SimulatorBusy           it refused this request for now (in band: the session lives)
    │   └── SimulationFailed        the simulation broke on this request
    ├── PermanentSimulatorError     the same again fails again
    │   ├── InvalidAddress          no address: the text is wrong
    │   ├── ProtocolMismatch        it speaks another version, or is no simulator
    │   ├── InvalidReply            its reply breaks the contract
    │   └── RefusedRequest          it refuses the request (in band: the session lives)
    └── SessionCancelled            somebody called cancel()

    RefusalError                    raised by a simulation; nothing has changed, the session goes on
    ├── InvalidRequest              in band: INVALID_ARGUMENT
    └── Busy                        in band: BUSY
    InvalidOptions                  raised by Simulation.make: the stream ends with INVALID_ARGUMENT

Must not know gRPC: :mod:`aisandbox_environment.calls` translates.
"""

from __future__ import annotations


class SimulatorError(Exception):
    """Something is wrong with a simulator; ``address`` says which."""

    def __init__(self, address: str, message: str) -> None:
        super().__init__(f"simulator {address}: {message}")
        self.address = address
        self.message = message


class TransientSimulatorError(SimulatorError):
    """A new session, perhaps later, may cure it."""


class SimulatorUnreachable(TransientSimulatorError):
    """Nothing answers at the address."""


class SimulatorLost(TransientSimulatorError):
    """The session's stream broke: the simulator ended, or the network did."""


class SimulatorHung(TransientSimulatorError):
    """No reply came within the time allowed."""


class AtCapacity(TransientSimulatorError):
    """The simulator carries no more environments now."""


class SimulatorBusy(TransientSimulatorError):
    """The simulator refused this request for now; the session is as it was."""


class SimulationFailed(TransientSimulatorError):
    """The simulation broke on a request, and the stream ended with INTERNAL."""


class PermanentSimulatorError(SimulatorError):
    """The same again fails again; a person has to change something."""


class InvalidAddress(PermanentSimulatorError):
    """The text is no address."""


class ProtocolMismatch(PermanentSimulatorError):
    """The simulator speaks another version of the protocol, or what answers is no simulator."""


class InvalidReply(PermanentSimulatorError):
    """The simulator's reply breaks the contract; the message names the field and the rule."""


class RefusedRequest(PermanentSimulatorError):
    """The simulator refuses the request; after an in-band refusal the session is as it was."""


class SessionCancelled(SimulatorError):
    """Somebody called ``cancel()`` while a reply was awaited."""


class RefusalError(Exception):
    """Raised by a simulation that refuses a request and has changed nothing; ``message`` is for people."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(RefusalError):
    """The request breaks a rule of the simulation."""


class Busy(RefusalError):
    """The simulation cannot do this right now."""


class InvalidOptions(ValueError):
    """An option the simulation does not know, or cannot take; the message names the key."""
