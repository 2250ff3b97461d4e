"""The compliance suite: tells a simulator's author what keeps to environment.proto, what does not, and what to do.

It speaks to the simulator as a stranger does, over the wire, and takes nothing on trust. Must not know how the
simulator is made.
"""

from aisandbox_environment.compliance.examination import CheckResult
from aisandbox_environment.compliance.suite import check_simulator

__all__ = ["CheckResult", "check_simulator"]
