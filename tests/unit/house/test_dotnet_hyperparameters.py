"""The hyperparameters of AISandbox.Client are those of the table: a keyword that the table gains needs its property."""

from __future__ import annotations

import re

import pytest
from aisandbox_crds.hyperparameter_table import PARAMETERS, ZOO_PARAMETERS
from aisandbox_crds.spec import Algorithm
from workspace import ROOT

CLIENT = ROOT / "clients" / "dotnet" / "src" / "AISandbox.Client"
RECORDS = {Algorithm.PPO: "Ppo", Algorithm.A2C: "A2c", Algorithm.DQN: "Dqn"}


def _written(file: str) -> dict[str, str]:
    """The keywords that a record writes, and the property of each."""
    text = (CLIENT / file).read_text(encoding="utf-8")
    return dict(re.findall(r'text\.Add\("(\w+)", (\w+)', text))


def test_every_algorithm_has_a_record() -> None:
    assert set(RECORDS) == set(PARAMETERS)


@pytest.mark.parametrize("algorithm", RECORDS, ids=str)
def test_record_has_the_keywords_of_the_table(algorithm: Algorithm) -> None:
    written = _written("Hyperparameters.cs") | _written(f"{RECORDS[algorithm]}Hyperparameters.cs")
    assert set(written) == {parameter.name for parameter in (*PARAMETERS[algorithm], *ZOO_PARAMETERS)}


@pytest.mark.parametrize("file", ["Hyperparameters.cs", *(f"{name}Hyperparameters.cs" for name in RECORDS.values())])
def test_property_has_the_name_of_its_keyword(file: str) -> None:
    special = {"replay_buffer_kwargs": "HandleTimeoutTermination"}
    written = _written(file)
    assert written == {
        name: special.get(name, "".join(word.capitalize() for word in name.split("_"))) for name in written
    }
