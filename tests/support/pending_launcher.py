"""A launcher that is never ready, for tests of what happens before a trainer starts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from aisandbox_crds import TrainerStart


class NeverReady:
    """A launcher whose runs stay pending."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...

    async def ready(self) -> None:
        await asyncio.Event().wait()

    async def launch(self, start: TrainerStart, log_path: Path) -> Any:
        raise AssertionError("not ready")
