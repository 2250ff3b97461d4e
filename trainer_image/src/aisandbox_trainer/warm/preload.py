"""The module that the api-server's fork server preloads: its import is the warm-up. Nothing else may import it."""

from __future__ import annotations

from aisandbox_trainer.run.process import set_up_native_libraries
from aisandbox_trainer.warm.warm_up import warm_up

set_up_native_libraries()  # before the warm-up imports them
WARM_UP = warm_up()
