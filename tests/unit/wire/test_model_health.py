from __future__ import annotations

import pytest
from aisandbox_wire.model_health import model_health_service, run_of_health_service


def test_health_service_of_a_run_has_the_name_that_clients_know() -> None:
    assert model_health_service("walker-1") == "model/walker-1"


@pytest.mark.parametrize(
    ("service", "run"),
    [("model/walker-1", "walker-1"), ("model/", ""), ("", None), ("model", None), ("a/model/b", None)],
)
def test_run_is_found_in_the_name_of_a_health_service(service: str, run: str | None) -> None:
    assert run_of_health_service(service) == run
