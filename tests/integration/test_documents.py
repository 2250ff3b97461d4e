"""The code that documents show, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from aisandbox_environment.adapter_host import AdapterSimulation
from aisandbox_environment.compliance import check_simulator
from aisandbox_environment.server import create_environment_server

DOCS = Path(__file__).parents[2] / "docs"


def _python_of(name: str) -> dict[str, Any]:
    code = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.S)
    namespace: dict[str, Any] = {"__name__": name}
    exec("\n".join(code), namespace)
    return namespace


def test_simulator_of_the_documents_keeps_the_contract() -> None:
    corridor = _python_of("simulators.md")["Corridor"]
    with create_environment_server(AdapterSimulation(corridor), host="127.0.0.1", port=0) as server:
        results = check_simulator(server.address)
    assert len(results) > 20
    assert [result for result in results if not result.ok] == []
