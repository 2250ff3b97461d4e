"""The module that the api-server's fork server preloads: its import is the warm-up. Nothing else may import it."""

from __future__ import annotations

from aisandbox_process.passed_checks import PASSED_CHECKS

from aisandbox_trainer.run.process import leave_working_directory, set_up_native_libraries
from aisandbox_trainer.warm.warm_up import warm_up

leave_working_directory()
set_up_native_libraries()  # before the warm-up imports them
PASSED_CHECKS.share()
WARM_UP = warm_up()
