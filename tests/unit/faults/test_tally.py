from __future__ import annotations

from pathlib import Path

import pytest
from fault_rows import ROWS
from fault_table import BEGIN, END, load, render, write
from fault_tally import MOST_LOSSES, Fault, Result, Tally

ROW = ROWS[0]


def fail() -> None:
    raise OSError("no cluster")


@pytest.fixture
def tally(tmp_path: Path) -> Tally:
    return Tally(ROW, 10, 1, tmp_path / f"{ROW.key}.json")


def test_rounds_are_counted_by_kind_with_the_worst_recovery(tally: Tally) -> None:
    def one_round(fault: Fault) -> None:
        if fault.number % 2:
            fault.injected("cut", f"place {fault.number}")
            fault.recovered(float(fault.number))

    tally.run(one_round, workers=3)
    result = tally.result
    assert (result.kinds, result.lost, result.worst_recovery_seconds) == ({"cut": 5}, 0, 9.0)
    tally.check()


@pytest.mark.parametrize("raised", [AssertionError("gone"), OSError("gone"), pytest.fail.Exception("gone")])
def test_loss_is_reported_with_its_case_and_stops_no_other_round(tally: Tally, raised: BaseException) -> None:
    def one_round(fault: Fault) -> None:
        fault.injected("cut", f"place {fault.number}")
        if fault.number == 3:
            raise raised

    tally.run(one_round)
    assert (tally.result.injected, tally.result.lost) == (10, 1)
    with pytest.raises(AssertionError, match=r"(?s)1 of 10 lost \(seed 1\).*round 3: cut: place 3.*gone"):
        tally.check()


def test_row_in_which_nothing_was_injected_fails(tally: Tally) -> None:
    tally.run(lambda fault: None)
    with pytest.raises(AssertionError, match="0 faults were injected, and not 1"):
        tally.check()


def test_row_in_full_that_did_less_than_is_asked_for_fails(tmp_path: Path) -> None:
    tally = Tally(ROW, ROW.full, 1, tmp_path / "x.json")
    with tally.fault() as fault:
        fault.injected("cut", times=ROW.least - 1)
    with pytest.raises(AssertionError, match=f"{ROW.least - 1} faults were injected, and not {ROW.least}"):
        tally.check()
    with tally.fault() as fault:
        fault.injected("cut")
    tally.check()


def test_round_that_fails_before_its_fault_is_lost_too(tally: Tally) -> None:
    with tally.fault():
        fail()
    assert tally.result.kinds == {"not injected": 1}
    assert tally.result.lost == 1


def test_broken_row_stops(tmp_path: Path) -> None:
    tally = Tally(ROW, 1000, 1, tmp_path / "x.json")

    def one_round(fault: Fault) -> None:
        raise OSError

    tally.run(one_round)
    assert tally.result.lost == MOST_LOSSES


def test_random_numbers_follow_from_seed_row_and_round(tmp_path: Path) -> None:
    def draws(seed: int, only: int | None = None) -> list[float]:
        drawn: list[float] = []
        Tally(ROW, 3, seed, tmp_path / "x.json", only=only).run(lambda fault: drawn.append(fault.random.random()))
        return drawn

    assert draws(1) == draws(1)
    assert draws(1)[2:] == draws(1, only=2)
    assert len({*draws(1), *draws(2)}) == 6


def test_table_has_every_row_and_says_what_was_lost_or_broken_off(tally: Tally, tmp_path: Path) -> None:
    with tally.fault() as fault:
        fault.injected("cut", "place 7")
        fail()
    tally.nearest("with another saw")
    tally.accepted(5)
    tally.save()
    table = render(load(tmp_path))
    assert all(row.done in table for row in ROWS)
    assert table.count("not run") == len(ROWS) - 1
    assert f"{ROW.at_least} | 1 | 0 | 1 |" in table
    for text in (
        "Fewer than the 200 that are asked for",
        "with another saw",
        "5 intact ones",
        "Broken off",
        "Lost in round 0: cut: place 7",
        "Seed: 1.",
    ):
        assert text in table


def test_document_is_written_between_its_markers(tmp_path: Path) -> None:
    document = tmp_path / "doc.md"
    document.write_text(f"before\n{BEGIN}\nlast week\n{END}\nafter\n")
    write(document, {ROW.key: Result(ROW.key, 1, 10, kinds={"cut": 10}, finished=True)})
    first = document.read_text()
    assert first.startswith(f"before\n{BEGIN}\n")
    assert first.endswith(f"{END}\nafter\n")
    assert "last week" not in first
    write(document, {ROW.key: Result(ROW.key, 1, 10, kinds={"cut": 10}, finished=True)})
    assert document.read_text() == first
    document.write_text("no markers")
    with pytest.raises(ValueError, match="markers"):
        write(document, {})


def test_keys_of_rows_are_theirs_alone() -> None:
    assert len({row.key for row in ROWS}) == len(ROWS)
