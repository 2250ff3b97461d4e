"""What settings are taken from environment variables, and in which words others are refused."""

from collections.abc import Callable

import pytest
from aisandbox_crds import trainer_start
from aisandbox_process import environ
from aisandbox_process.environ import Environ, InvalidSetting

Read = Callable[[Environ, str], object]

READERS: dict[str, Read] = {
    "whole": lambda variables, name: environ.whole_number(variables, name, 3, 1, 10),
    "port": lambda variables, name: environ.port(variables, name, 50051),
    "seconds": lambda variables, name: environ.seconds(variables, name, 2.5),
    "positive": lambda variables, name: environ.positive_number(variables, name, 1),
    "choice": lambda variables, name: environ.choice(variables, name, "IfNotPresent", ("IfNotPresent", "Always")),
}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("whole", "10", 10),
        ("port", "0", 0),
        ("seconds", "0", 0.0),
        ("seconds", "86400", 86_400.0),
        ("positive", "1e3", 1000.0),
        ("choice", "ALWAYS", "Always"),
    ],
)
def test_variable_is_read(kind: str, text: str, value: object) -> None:
    assert READERS[kind]({"V": text}, "V") == value


@pytest.mark.parametrize(
    ("kind", "default"),
    [("whole", 3), ("port", 50051), ("seconds", 2.5), ("positive", 1.0), ("choice", "IfNotPresent")],
)
@pytest.mark.parametrize("variables", [{}, {"V": ""}])
def test_variable_that_is_unset_or_empty_has_its_default(kind: str, default: object, variables: Environ) -> None:
    assert READERS[kind](variables, "V") == default


@pytest.mark.parametrize(
    ("kind", "text", "rule"),
    [
        ("whole", "11", "a whole number from 1 to 10"),
        ("whole", "1.5", "a whole number from 1 to 10"),
        ("port", "65536", "a whole number from 0 to 65535"),
        ("seconds", "-1", "seconds, 0 to 86400"),
        ("seconds", "nan", "seconds, 0 to 86400"),
        ("seconds", "soon", "seconds, 0 to 86400"),
        ("positive", "0", "a number above 0 and below 10^9"),
        ("positive", "inf", "a number above 0 and below 10^9"),
        ("choice", "Never", "one of IfNotPresent, Always"),
    ],
)
def test_variable_that_breaks_its_rule_is_refused_by_name(kind: str, text: str, rule: str) -> None:
    with pytest.raises(InvalidSetting) as refusal:
        READERS[kind]({"V": text}, "V")
    assert str(refusal.value) == f"V: must be {rule}, got {text!r}"
    assert (refusal.value.variable, refusal.value.rule) == ("V", f"must be {rule}, got {text!r}")


def test_trainers_get_the_log_levels_of_servers() -> None:
    assert environ.LOG_LEVELS == trainer_start.LOG_LEVELS


def test_long_text_is_shortened_in_the_message() -> None:
    with pytest.raises(InvalidSetting) as refusal:
        environ.port({"V": "x" * 10_000}, "V", 1)
    assert len(str(refusal.value)) < 200


def test_variable_without_a_default_must_be_set() -> None:
    assert environ.required({"V": "here"}, "V") == "here"
    with pytest.raises(InvalidSetting, match="V: must be set"):
        environ.required({"V": ""}, "V")


def test_switch_is_on_or_off() -> None:
    assert environ.switch({"V": "on"}, "V", default=False)
    assert not environ.switch({"V": "OFF"}, "V", default=True)
    assert environ.switch({"V": ""}, "V", default=True)
    with pytest.raises(InvalidSetting, match="V: must be one of on, off, got 'yes'"):
        environ.switch({"V": "yes"}, "V", default=True)
