"""A launcher whose trainers do nothing until the test ends them.

Must not know what the service does with them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from aisandbox_api.errors import LaunchFailed
from aisandbox_crds import ExitCode, TrainerStart


class HeldTrainer:
    """A trainer that runs until the test ends it."""

    pid = 0

    def __init__(self, start: TrainerStart) -> None:
        self.start = start
        self.code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await asyncio.shield(self.code)

    def terminate(self) -> None:
        if not self.code.done():
            self.code.set_result(ExitCode.CANCELLED)

    kill = terminate


class HeldLauncher:
    """Starts HeldTrainers, and fails as often as the test sets."""

    def __init__(self) -> None:
        self.trainers: list[HeldTrainer] = []
        self.launched = asyncio.Condition()
        self.failures = 0

    async def start(self) -> None: ...
    async def ready(self) -> None: ...
    async def close(self) -> None: ...

    async def launch(self, start: TrainerStart, log_path: Path) -> HeldTrainer:
        if self.failures:
            self.failures -= 1
            raise LaunchFailed("no more processes")
        trainer = HeldTrainer(start)
        self.trainers.append(trainer)
        async with self.launched:
            self.launched.notify_all()
        return trainer

    async def trainer(self, number: int = 1) -> HeldTrainer:
        async with asyncio.timeout(60), self.launched:
            await self.launched.wait_for(lambda: len(self.trainers) >= number)
        return self.trainers[number - 1]
