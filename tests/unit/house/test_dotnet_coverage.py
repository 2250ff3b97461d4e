"""The table of the C# coverage: a line that one of several test projects has run counts once, as run."""

from __future__ import annotations

from pathlib import Path

import pytest
from dotnet_coverage import main, read

REPORT = """<coverage><packages><package name="A"><classes><class filename="a.cs"><lines>
<line number="1" hits="{first}"/><line number="2" hits="{second}"/><line number="3" hits="0"/>
</lines></class></classes></package></packages></coverage>"""


def test_coverage_counts_a_line_that_any_project_has_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "coverage.cobertura.1.xml").write_text(REPORT.format(first=4, second=0))
    (tmp_path / "coverage.cobertura.2.xml").write_text(REPORT.format(first=0, second=1))
    assert list(read(tmp_path)["A"].values()) == [True, True, False]
    assert main(str(tmp_path)) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["TOTAL", "3", "67%"]


def test_coverage_without_a_report_fails(tmp_path: Path) -> None:
    assert main(str(tmp_path)) == 1
