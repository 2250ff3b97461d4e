"""Counting faults: how many were injected, survived, lost, and how long recovery took at worst.

Owns the rounds of a row, their random numbers, and the result as JSON. Must not know any fault.

A row's test hands a function to :meth:`Tally.run`, which calls it once a round with a :class:`Fault`:

    def test_something(row: Rows) -> None:
        with row("trainer-killed") as tally:
            tally.run(one_round)

    def one_round(fault: Fault) -> None:
        k = fault.random.randrange(100)             # the same in every run with this seed and round
        fault.injected("before write", f"k={k}")    # from here on the round counts
        ...
        fault.recovered(seconds)                    # from the fault to normal work
        assert ...                                  # an exception is a loss, and told with the case
"""

from __future__ import annotations

import json
import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fault_rows import Row

MOST_LOSSES = 20
"""A row that has lost this often stops: something is broken."""
SAVE_SECONDS = 10.0


@dataclass(slots=True)
class Result:
    """What came out of a row. ``losses``: {round, case, error} each. ``nearest``: how it differs from the row."""

    key: str
    seed: int
    rounds: int
    kinds: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    intact: int = 0
    worst_recovery_seconds: float | None = None
    duration_seconds: float = 0.0
    nearest: str = ""
    notes: list[str] = field(default_factory=list)
    losses: list[dict[str, Any]] = field(default_factory=list)
    commit: str = ""
    finished: bool = False

    @property
    def injected(self) -> int:
        return sum(self.kinds.values())

    @classmethod
    def load(cls, path: Path) -> Result:
        return cls(**json.loads(path.read_text()))


@dataclass(slots=True)
class Fault:
    """One round of a row: its own random numbers, and what happened in it."""

    number: int
    random: random.Random
    kinds: Counter[str] = field(default_factory=Counter)
    cases: list[str] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)

    def injected(self, kind: str, case: str = "", times: int = 1) -> None:
        """``times`` faults of a kind were done to it; ``case`` says which, so that a person can do it again."""
        self.kinds[kind] += times
        self.cases.append(f"{kind}: {case}" if case else kind)

    def wait(self, least: float, most: float) -> float:
        """Lets a random time pass, in seconds, and returns it: at which moment a fault comes differs between rounds."""
        seconds = self.random.uniform(least, most)
        time.sleep(seconds)
        return seconds

    def recovered(self, seconds: float) -> None:
        """It worked again that long after the fault, or after whatever ended the fault."""
        self.recoveries.append(seconds)


class Tally:
    """The rounds of one row. ``only``: the single round to do."""

    def __init__(self, row: Row, rounds: int, seed: int, file: Path, commit: str = "", only: int | None = None) -> None:
        self.row = row
        self.result = Result(row.key, seed, rounds, commit=commit)
        self._file = file
        self._only = only
        self._lock = threading.Lock()
        self._began = self._saved = time.monotonic()

    @property
    def rounds(self) -> int:
        """How many rounds are to be done."""
        return self.result.rounds

    def nearest(self, text: str) -> None:
        """Says in the table how what is done differs from the words of the row."""
        self.result.nearest = text

    def note(self, text: str) -> None:
        """Says something under the table that the figures do not."""
        self.result.notes.append(text)

    def random_of(self, number: int | str) -> random.Random:
        """The random numbers of a round, or of a purpose of the row."""
        return random.Random(f"{self.result.seed}/{self.row.key}/{number}")

    def accepted(self, times: int = 1) -> None:
        """Something intact was checked and found intact."""
        with self._lock:
            self.result.intact += times

    def run(self, one_round: Callable[[Fault], None], workers: int = 1) -> None:
        """Does all rounds, ``workers`` at a time."""
        numbers = range(self.rounds) if self._only is None else [self._only]
        with ThreadPoolExecutor(workers, thread_name_prefix=self.row.key) as pool:
            try:
                for done in [pool.submit(self._round, one_round, number) for number in numbers]:
                    done.result()
            except BaseException:  # Ctrl-C does not wait for the rounds that have not begun
                pool.shutdown(cancel_futures=True)
                raise

    def _round(self, one_round: Callable[[Fault], None], number: int) -> None:
        if self.result.lost < MOST_LOSSES:
            with self.fault(number) as fault:
                one_round(fault)

    @contextmanager
    def fault(self, number: int = 0) -> Iterator[Fault]:
        """One round, for a row that is not many of them. What is raised in it is a loss, and not raised again."""
        fault = Fault(number, self.random_of(number))
        try:
            yield fault
        except (Exception, pytest.fail.Exception) as error:
            text = "".join(traceback.format_exception(error))
            self._take(fault, {"round": number, "case": "; ".join(fault.cases[-5:]), "error": text[-4000:]})
        else:
            self._take(fault, None)

    def _take(self, fault: Fault, loss: dict[str, Any] | None) -> None:
        with self._lock:
            result = self.result
            if loss is not None:
                fault.kinds = fault.kinds or Counter({"not injected": 1})
                result.losses.append(loss)
                result.lost += 1
            for kind, times in fault.kinds.items():
                result.kinds[kind] = result.kinds.get(kind, 0) + times
            for seconds in fault.recoveries:
                result.worst_recovery_seconds = round(max(seconds, result.worst_recovery_seconds or 0.0), 3)
            if time.monotonic() - self._saved > SAVE_SECONDS:
                self.save()

    def save(self, finished: bool = False) -> None:
        """Writes the result as it stands."""
        self._saved = time.monotonic()
        self.result.duration_seconds = round(self._saved - self._began, 1)
        self.result.finished = finished
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(asdict(self.result), indent=1))

    def check(self) -> None:
        """Raises AssertionError unless all was injected that was to be, and nothing lost."""
        result = self.result
        told = "\n".join(f"round {loss['round']}: {loss['case']}\n{loss['error']}" for loss in result.losses[:5])
        assert not result.lost, f"{result.lost} of {result.injected} lost (seed {result.seed})\n{told}"
        least = self.row.least if result.rounds >= self.row.full and self._only is None else 1
        assert result.injected >= least, f"{result.injected} faults were injected, and not {least}"


Rows = Callable[[str], AbstractContextManager[Tally]]
"""``with row(KEY) as tally``: the fixture of tests/faults/conftest.py."""
