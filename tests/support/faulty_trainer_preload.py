"""The preload of the fault suite's fork server: its import installs the faults, then warms the trainer up."""

from __future__ import annotations

import faulty_trainer

faulty_trainer.install()

from aisandbox_trainer.warm import preload  # noqa: E402, F401
