"""Which modules a Gymnasium id may name: "my_package:MyEnv-v0" has a trainer import my_package.

The code of the module then runs on the service's machine, as its user. So where others than this machine's users may
call, an administrator lists the modules (ENVIRONMENT_MODULES). Must not know what is in a module.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from aisandbox_crds import FieldError, GymnasiumEnvironment, TrainingRunSpec

from aisandbox_api.errors import InvalidRequest

SETTING = "ENVIRONMENT_MODULES"
ANY = ("*",)
_PATTERN = re.compile(r"[A-Za-z0-9_.*?]+")


def read_patterns(text: str) -> tuple[str, ...]:
    """The patterns of the setting, with commas, as ``my_envs,lab.*``. Raises ValueError naming a wrong one."""
    patterns = tuple(part.strip() for part in text.split(",") if part.strip())
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern):
            raise ValueError(pattern)
    return patterns


def check_environment_module(spec: TrainingRunSpec, patterns: Sequence[str]) -> None:
    """Whether the run's environment names a module that is allowed, or none. Raises InvalidRequest."""
    environment = spec.environment
    if not isinstance(environment, GymnasiumEnvironment):
        return
    module, colon, _ = environment.id.partition(":")
    if colon and not any(fnmatchcase(module, pattern) for pattern in patterns):
        allowed = ", ".join(patterns) or "none"
        rule = f"the service does not allow the module {module!r}: its setting {SETTING} allows {allowed}"
        raise InvalidRequest([FieldError("environment.gymnasium.id", rule)])
