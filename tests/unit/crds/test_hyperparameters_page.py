from __future__ import annotations

from aisandbox_crds.generate.hyperparameters_page import INTRODUCTION, hyperparameters_page
from aisandbox_crds.hyperparameter_table import PARAMETERS
from aisandbox_crds.hyperparameters import parse_hyperparameters
from aisandbox_crds.spec import Algorithm


def test_the_document_has_every_hyperparameter() -> None:
    text = hyperparameters_page()
    for algorithm in Algorithm:
        for parameter in PARAMETERS[algorithm]:
            assert f"| `{parameter.name}` |" in text


def test_every_row_has_as_many_cells_as_its_header() -> None:
    columns = 0
    for line in hyperparameters_page().splitlines():
        cells = line.count("|") if line.startswith("|") else 0
        assert not (columns and cells) or cells == columns
        columns = cells


def test_the_example_of_the_document_is_taken() -> None:
    lines = INTRODUCTION.split("MountainCarContinuous-v0:")[1].strip().splitlines()
    example = dict(line.split(maxsplit=1) for line in lines)
    assert parse_hyperparameters(Algorithm.PPO, example).keywords["use_sde"] is True
