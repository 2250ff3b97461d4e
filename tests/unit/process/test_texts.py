import pytest
from aisandbox_crds.errors import printable as printable_in_a_run
from aisandbox_process import printable

HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202ereversed\r\n\x00"
SHOWN = r"\x1b[2J\x1b]0;owned\x07\u202ereversed\r\n\x00"


@pytest.mark.parametrize("escape", [printable, printable_in_a_run])
def test_control_characters_are_escaped_and_all_others_kept(escape: object) -> None:
    assert callable(escape)
    assert escape(HOSTILE) == SHOWN
    assert escape("Größe 3 → 4 ✓") == "Größe 3 → 4 ✓"


def test_long_text_is_cut() -> None:
    assert printable("x" * 5_000_000, 10) == "xxxxxxx..."


def test_lines_are_kept_where_they_may_be() -> None:
    assert printable_in_a_run("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"
