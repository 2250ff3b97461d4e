"""The TensorBoard files of a run. Errors of the disk do not end a training: they are logged once, as a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog
from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat

log = structlog.get_logger(__name__)


class _TolerantWriter(KVWriter):
    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._inner: TensorBoardOutputFormat | None = None
        self._failed = False

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        if self._failed:
            return
        try:
            if self._inner is None:  # opened late: it starts a thread and writes a file
                self._inner = TensorBoardOutputFormat(self._folder)
            self._inner.write(key_values, key_excluded, step)
        except OSError as error:
            self._failed = True
            log.warning("TensorBoard files are no longer written", folder=self._folder, error=str(error))

    def close(self) -> None:
        if self._inner is not None and not self._failed:
            try:
                self._inner.close()
            except OSError as error:
                log.warning("TensorBoard file not closed", folder=self._folder, error=str(error))


def tensorboard_logger(folder: Path) -> Logger:
    """SB3's logger into ``folder``, and nowhere else."""
    return Logger(str(folder), [_TolerantWriter(folder)])
