from __future__ import annotations

import dataclasses
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from aisandbox_crds.codec import camel_case, spec_from_json
from aisandbox_crds.conditions import ConditionType
from aisandbox_crds.errors import InvalidRun
from aisandbox_crds.field_rules import rule_of
from aisandbox_crds.generate.__main__ import generated, main
from aisandbox_crds.generate.resource import resource
from aisandbox_crds.generate.trainingrun_page import field_at
from aisandbox_crds.generate.yaml_text import yaml_text
from aisandbox_crds.spec import TrainingRunSpec
from aisandbox_crds.status import Phase
from aisandbox_crds.validation import validate_spec

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "trainingrun.md").read_text(encoding="utf-8")


def examples() -> list[dict[str, Any]]:
    blocks = re.findall(r"((?:^    .*\n|^\n)+)", TEXT, re.MULTILINE)
    read = [yaml.safe_load(textwrap.dedent(block)) for block in blocks if "spec:\n" in block]
    assert len(read) == 6
    return [example["spec"] for example in read]


@pytest.mark.parametrize("path", ["crds/trainingrun.yaml", "docs/trainingrun.md", "docs/hyperparameters.md"])
def test_committed_files_are_what_the_generator_makes(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == generated(ROOT)[ROOT / path], "run: make crds"


def test_every_field_has_a_row() -> None:
    for path in ("spec", "status", "status.progress", "status.failure", "status.latestModel"):
        for name in field_at(path)["properties"]:
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


def test_fields_that_change_while_no_trainer_runs_have_a_row() -> None:
    idle = [camel_case(field.name) for field in dataclasses.fields(TrainingRunSpec) if rule_of(field).while_idle]
    assert f"\n| {', '.join(f'`{name}`' for name in idle)} | while the run is suspended" in TEXT


def test_check_names_a_file_that_is_not_current(tmp_path: Path) -> None:
    for path in generated(ROOT):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    main(["--check"], tmp_path)
    page = tmp_path / "docs" / "trainingrun.md"
    page.write_text(TEXT.replace("| `seed` |", "| `sead` |"), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"trainingrun\.md is not current; run: make crds"):
        main(["--check"], tmp_path)
    main([], tmp_path)
    assert page.read_text(encoding="utf-8") == TEXT
    main(["--check"], tmp_path)


def test_resource_is_the_same_after_a_trip_through_its_text() -> None:
    assert yaml.safe_load(yaml_text(resource())) == resource()
    odd = {
        "a: b": ["yes", "- x", "1e3", "", "it's", 'say "so"', "#", "a #b", "x: y", "null"],
        "n": 5,
        "f": False,
        "e": {},
    }
    assert yaml.safe_load(yaml_text(odd)) == odd
    long = {"text": "two  spaces " * 30, "folded": "many words of a sentence " * 20 + "end."}
    assert yaml.safe_load(yaml_text(long)) == long


def test_a_spec_that_the_schema_takes_and_the_validation_refuses_is_an_invalid_run() -> None:
    with pytest.raises(InvalidRun, match=r"hyperparameters\.gamma: must be a number of at least 0 and at most 1"):
        validate_spec(spec_from_json({"algorithm": "PPO", "totalTimesteps": 1, "hyperparameters": {"gamma": "1.5"}}))
