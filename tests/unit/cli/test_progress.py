"""The texts of a status, the lines and the bar."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import training_progress_pb2 as progress_pb
from aisandbox_cli.progress import Bar, Lines, display_for
from aisandbox_cli.rendering import duration, number, numbers_line, status_line

Status = Callable[..., pb.StatusResponse]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (250, "4 min 10 s"), (7500, "2 h 05 min"), (273_600, "3 d 04 h"), (-3, "0 s")],
)
def test_duration_is_in_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(500.0, "500"), (-1234.5, "-1,234"), (85.3456, "85.35"), (0.0123456, "0.01235")]
)
def test_number_has_four_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_numbers_line_parses_to_the_same_float32() -> None:
    action = pb.ActResponse(action=[0.1, -2.0, 1e-7]).action
    text = numbers_line(action)
    assert text.split()[:2] == ["0.1", "-2"]
    assert list(pb.ActResponse(action=[float(word) for word in text.split()]).action) == list(action)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_number_formats_values_that_are_not_finite(value: float) -> None:
    assert number(value) == numbers_line([value]) == str(value)


def test_status_line_shows_the_warning_of_a_waiting_trainer(status: Status) -> None:
    waiting = status(
        activity=progress_pb.TRAINER_ACTIVITY_WAITING_FOR_SIMULATOR,
        warning="simulator not reachable for 12 s",
        episode_reward_mean=85.34,
        fps=2100.4,
        estimated_remaining_seconds=38,
    )
    assert status_line(waiting) == (
        "Running (waiting for the simulator)  500/1,000 (50%)  reward 85.34  2,100 steps/s  38 s left"
        "  warning: simulator not reachable for 12 s"
    )


def test_lines_repeat_the_same_text_only_after_the_interval(status: Status) -> None:
    out, now = io.StringIO(), [100.0]
    lines = Lines(out, clock=lambda: now[0])
    lines.update(status(done=1))
    lines.update(status(done=2))
    now[0] += 5
    lines.update(status(done=3))
    lines.update(status("SUCCEEDED", 1000))
    assert [line.split()[1].split("/")[0] for line in out.getvalue().splitlines()] == ["1", "3", "1,000"]


def test_bar_is_only_for_terminals(status: Status) -> None:
    assert isinstance(display_for(Terminal(), json=False), Bar)
    assert isinstance(display_for(io.StringIO(), json=False), Lines)


def test_bar_fits_80_columns_and_shows_the_metrics(status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with display_for(out, json=False) as display:
        display.update(
            status(
                done=20_480,
                total_timesteps=100_000,
                episode_reward_mean=185.3,
                fps=2100,
                estimated_remaining_seconds=38,
            )
        )
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).replace("\r", "\n").strip().splitlines()[-1]
    for part in ("Running", "20%", "20,480/100,000", "reward 185.3", "2,100/s", "38 s left"):
        assert part in last
    assert len(last) <= 80
    assert "\x1b[3" not in out.getvalue()


def _waiting(status: Status, seconds: int, why: str = "refused") -> pb.StatusResponse:
    return status(
        activity=progress_pb.TRAINER_ACTIVITY_WAITING_FOR_SIMULATOR,
        warning=f"simulator not available for {seconds} s, trying again: simulator 127.0.0.1:9: {why}",
    )


def test_bar_prints_a_warning_once_for_each_cause_and_updates_the_seconds(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = Terminal()
    with display_for(out, json=False) as display:
        for seconds in (0, 1, 3, 7):
            display.update(_waiting(status, seconds))
        display.update(_waiting(status, 11, "reset"))
    assert out.getvalue().count("warning: simulator not available") == 2
    assert "waiting for the simulator, 11 s)" in out.getvalue()


def test_bar_prints_a_warning_that_returned(status: Status) -> None:
    out = Terminal()
    with display_for(out, json=False) as display:
        for current in (_waiting(status, 0), status(), _waiting(status, 2)):
            display.update(current)
    assert out.getvalue().count("warning: simulator not available") == 2


def test_lines_print_a_warning_once_for_each_cause(status: Status) -> None:
    out, now = io.StringIO(), [100.0]
    lines = Lines(out, clock=lambda: now[0])
    for seconds in range(12):
        lines.update(_waiting(status, seconds))
        now[0] += 1
    lines.update(_waiting(status, 12, "reset"))
    written = out.getvalue().splitlines()
    assert ["warning: " in line for line in written] == [True, False, False, True]


def test_status_line_shows_a_reward_after_the_first_episode(status: Status) -> None:
    assert "reward" not in status_line(status(fps=10))
    assert "reward 0" in status_line(status(episode_reward_mean=0.0))
