"""The compliance suite: checks that a simulator keeps to environment.proto.

It speaks to the simulator over the wire only, and says of each rule whether it is kept, what was seen, and what to do.
One module has the checks of one request: :mod:`.open`, :mod:`.reset`, :mod:`.step`; :mod:`.episodes` has those of the
replies of many steps, :mod:`.session` those of whole sessions. The names in ``__all__`` are for others; the modules are
internal. Must not know how the simulator is made.
"""

from aisandbox_environment.compliance.checks import CheckFailed, CheckResult, CheckSkipped, SpaceCheck
from aisandbox_environment.compliance.suite import check_simulator

__all__ = ["CheckFailed", "CheckResult", "CheckSkipped", "SpaceCheck", "check_simulator"]
