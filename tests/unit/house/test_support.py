"""tests/support/README.md has a row for each module of the folder."""

from __future__ import annotations

import re

from workspace import ROOT

SUPPORT = ROOT / "tests" / "support"


def test_table_has_each_module_once() -> None:
    rows = re.findall(r"^\| `(\w+)/?` \| (.+) \|$", (SUPPORT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    modules = [path.stem for path in SUPPORT.iterdir() if path.suffix == ".py" or (path / "trainer.py").exists()]
    assert sorted(name for name, _ in rows) == sorted(modules)
