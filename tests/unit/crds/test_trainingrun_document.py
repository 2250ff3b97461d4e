from __future__ import annotations

import importlib.util
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from aisandbox_crds.codec import spec_from_json
from aisandbox_crds.errors import InvalidRun
from aisandbox_crds.status import ConditionType, Phase
from aisandbox_crds.validation import validate_spec

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "trainingrun.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document() -> ModuleType:
    place = importlib.util.spec_from_file_location("document", ROOT / "crds" / "document.py")
    assert place is not None
    assert place.loader is not None
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def examples() -> list[dict[str, Any]]:
    blocks = re.findall(r"((?:^    .*\n|^\n)+)", TEXT, re.MULTILINE)
    read = [yaml.safe_load(textwrap.dedent(block)) for block in blocks if "spec:\n" in block]
    assert len(read) == 3
    return [example["spec"] for example in read]


def test_the_tables_are_current(document: ModuleType) -> None:
    assert document.current(TEXT) == TEXT, "run: python crds/document.py"


def test_every_field_has_a_row(document: ModuleType) -> None:
    for path in ("spec", "status", "status.progress", "status.failure", "status.latestModel"):
        for name in document.field(path)["properties"]:
            assert f"| `{name}` |" in TEXT


def test_every_row_has_as_many_cells_as_its_header() -> None:
    columns = 0
    for line in TEXT.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (columns and cells) or cells == columns, line
        columns = cells


@pytest.mark.parametrize("spec", examples())
def test_the_examples_are_taken(spec: dict[str, Any]) -> None:
    validate_spec(spec_from_json(spec))


def test_every_phase_and_condition_is_explained() -> None:
    for word in (*Phase, *ConditionType):
        assert f"\n| `{word}` |" in TEXT


def test_the_check_says_whether_the_document_is_current(
    document: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "trainingrun.md"
    copy.write_text(TEXT.replace("| `seed` |", "| `sead` |"), encoding="utf-8")
    monkeypatch.setattr(document, "DOCUMENT", copy)
    with pytest.raises(SystemExit, match="is not current"):
        document.main(["--check"])
    document.main([])
    assert copy.read_text(encoding="utf-8") == TEXT
    with pytest.raises(SystemExit) as ended:
        document.main(["--check"])
    assert ended.value.code == 0


def test_a_spec_that_the_schema_takes_and_the_validation_refuses_is_an_invalid_run() -> None:
    with pytest.raises(InvalidRun, match=r"hyperparameters\.gamma: must be a number of at least 0 and at most 1"):
        validate_spec(spec_from_json({"algorithm": "PPO", "totalTimesteps": 1, "hyperparameters": {"gamma": "1.5"}}))
