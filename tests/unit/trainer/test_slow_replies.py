"""The notice while a simulator is waited for that has asked for it."""

from __future__ import annotations

import pytest
from aisandbox_trainer.environments.slow_replies import SlowReplies
from waiting import wait_until


def test_long_wait_is_said_and_taken_back() -> None:
    said: list[str] = []
    slow_replies = SlowReplies(said.append, slow_seconds=0.01)

    def reply() -> str:
        wait_until(lambda: bool(said))
        return "reply"

    assert slow_replies.wait(600.0, reply) == "reply"
    assert said[0].startswith("waiting for a simulator that asks for up to 600 s for each reply")
    assert said[1:] == [""]
    assert slow_replies.longest == 600


def test_wait_that_ends_with_an_error_is_taken_back() -> None:
    said: list[str] = []
    slow_replies = SlowReplies(said.append, slow_seconds=0.01)

    def fail() -> None:
        wait_until(lambda: bool(said))
        raise ConnectionError

    with pytest.raises(ConnectionError):
        slow_replies.wait(600.0, fail)
    assert said[1:] == [""]


@pytest.mark.parametrize(("asked", "slow_seconds"), [(0.0, 0.0), (600.0, 3600.0)])
def test_reply_that_is_not_slow_or_not_asked_for_is_not_mentioned(asked: float, slow_seconds: float) -> None:
    said: list[str] = []
    slow_replies = SlowReplies(said.append, slow_seconds)
    assert slow_replies.wait(asked, lambda: "reply") == "reply"
    slow_replies._reply_is_slow()  # as of a watchdog that was late
    assert said == []
