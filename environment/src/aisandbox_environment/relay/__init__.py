"""The relay for simulators that dial in: keeps their streams and joins the sessions of trainers to them.

:class:`SimulatorRelay` is what a service serves as SimulatorPoolService and, for pools, as EnvironmentService. Messages
of a session pass as bytes; only the first of each direction is parsed. For one event loop. The modules are internal.
Must not know runs, or how it is decided who may attach.
"""

from aisandbox_environment.relay.links import Link
from aisandbox_environment.relay.registrations import Registration
from aisandbox_environment.relay.relay import Admit, RelayLimits, SimulatorRelay

__all__ = ["Admit", "Link", "Registration", "RelayLimits", "SimulatorRelay"]
