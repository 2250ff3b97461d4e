"""docs/security.md names tests that there are."""

from __future__ import annotations

import re

from workspace import ROOT


def test_every_test_of_the_page_exists() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|.*`test_.*\|$", page, re.MULTILINE)
    assert len(rows) > 10
    named = {name for row in rows for name in re.findall(r"`(test_\w+)`", row)}
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert named - set(re.findall(r"def (test_\w+)\(", sources)) == set()
