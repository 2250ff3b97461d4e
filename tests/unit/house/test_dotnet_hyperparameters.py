"""The hyperparameters of AISandbox.Client are those of the table: what all records have is written by hand."""

from __future__ import annotations

import re

import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_crds.generate.dotnet_records import FOLDER, dotnet_files, record_name
from aisandbox_crds.hyperparameter_table import parameters_of
from aisandbox_crds.spec import Algorithm
from aisandbox_wire import ALGORITHM_NAMES
from workspace import ROOT

CLIENT = ROOT / FOLDER
RECORDS = {algorithm: f"{record_name(algorithm)}.cs" for algorithm in Algorithm}


def _written(file: str) -> dict[str, str]:
    """The keywords that a record writes, and the property of each."""
    text = (CLIENT / file).read_text(encoding="utf-8")
    return dict(re.findall(r'text\.Add\("(\w+)", (\w+)', text))


def test_names_of_the_contract_are_those_of_the_classes() -> None:
    assert list(ALGORITHM_NAMES.values()) == list(Algorithm)
    numbers = {number for number in pb.Algorithm.values() if number != pb.ALGORITHM_UNSPECIFIED}
    assert ALGORITHM_NAMES.keys() == numbers
    for number, name in ALGORITHM_NAMES.items():
        assert pb.Algorithm.Name(number) == f"ALGORITHM_{Algorithm(name).name}"  # type: ignore[arg-type]


def test_records_are_named_as_the_classes_are() -> None:
    known = {Algorithm.PPO: "Ppo", Algorithm.A2C: "A2c", Algorithm.TD3: "Td3", Algorithm.CROSSQ: "CrossQ"}
    assert {algorithm: record_name(algorithm).removesuffix("Hyperparameters") for algorithm in known} == known


def test_generated_files_are_current() -> None:
    for path, text in dotnet_files(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run make crds"


@pytest.mark.parametrize("algorithm", RECORDS, ids=str)
def test_record_has_the_keywords_of_the_table(algorithm: Algorithm) -> None:
    written = _written("Hyperparameters.cs") | _written(RECORDS[algorithm])
    assert set(written) == {parameter.name for parameter in parameters_of(algorithm)}


@pytest.mark.parametrize("file", ["Hyperparameters.cs", *RECORDS.values()])
def test_property_has_the_name_of_its_keyword(file: str) -> None:
    special = {"replay_buffer_kwargs": "HandleTimeoutTermination"}
    written = _written(file)
    assert written == {
        name: special.get(name, "".join(word.capitalize() for word in name.split("_"))) for name in written
    }
