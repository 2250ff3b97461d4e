"""What a run learns from: the bytes that are read are those whose digest is recorded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aisandbox_crds import Demonstrations
from aisandbox_environment import make_spec
from aisandbox_model_store import RunStore, StartingPoint, file_digest, starting_points
from aisandbox_trainer.run.source import find_demonstrations
from aisandbox_wire import box, discrete
from demonstration_files import write_demonstrations

SPEC = make_spec(box((2,)), discrete(2))


def test_file_that_replaces_another_after_its_digest_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_demonstrations(tmp_path / "a.parquet", SPEC, lambda leaves: 0, (3,))
    other = write_demonstrations(tmp_path / "b.parquet", SPEC, lambda leaves: 0, (5,))
    digest = file_digest(first)
    recorded: list[bytes] = []

    def found(*fields: Any) -> StartingPoint:
        os.replace(other, first)
        return StartingPoint(*fields)

    monkeypatch.setattr(starting_points, "StartingPoint", found)
    writer: Any = SimpleNamespace(
        run=SimpleNamespace(demonstrations_path=tmp_path / "none"), record_demonstrations=recorded.append
    )
    file = find_demonstrations(RunStore(tmp_path, tmp_path), Demonstrations("a.parquet"), writer)
    assert json.loads(recorded[0])["digest"] == digest
    assert file.steps == 3
