"""A store in a temporary folder and a run in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from aisandbox_model_store import RunFolder, RunStore


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "models", tmp_path / "checkpoints")


@pytest.fixture
def run(store: RunStore) -> RunFolder:
    return store.run("cartpole-1")
