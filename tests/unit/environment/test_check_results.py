"""The sentences of failed checks, whatever a simulator has said."""

import pytest
from aisandbox_environment import CheckFailed


@pytest.mark.parametrize("received", ["no reply", "'Not now.' said by the simulator.", "nothing..."])
def test_sentences_are_joined_by_one_full_stop(received: str) -> None:
    message = str(CheckFailed("a reply", received, "Answer every request."))
    assert message.endswith(". Answer every request.")
    assert ".." not in message
