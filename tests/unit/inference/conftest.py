"""A store, and a way to publish small policies to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from aisandbox_inference.policy import Policy
from aisandbox_model_store import Published, RunStore
from onnx_policies import LinearPolicy

Publish = Callable[..., Published]
Load = Callable[..., Policy]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path)


@pytest.fixture
def publish(store: RunStore) -> Publish:
    """publish(policy, run="r", step=100, point=("latest",), **replaced files) -> Published"""

    def publish(
        policy: LinearPolicy,
        run: str = "r",
        step: int = 100,
        point: tuple[str, ...] = ("latest",),
        files: dict[str, bytes] | None = None,
    ) -> Published:
        writer = store.run(run).claim(1)
        published = writer.publish_model(step, {**policy.files(), **(files or {})})
        for name in point:
            writer.point(name, published)  # type: ignore[arg-type]
        return published

    return publish


@pytest.fixture
def load(store: RunStore, publish: Publish) -> Load:
    """load(policy, files={...}) -> the policy as it is served"""

    def load(policy: LinearPolicy, files: dict[str, bytes] | None = None) -> Policy:
        published = publish(policy, files=files)
        return Policy("r", store.run("r").read_model(published), np.random.default_rng(0))

    return load
