"""The rows of the fault suite: what is done, how often at least, and what must hold.

Owns their words and counts; docs/reliability.md shows them in this order. Must not know how a fault is made.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """``full`` and ``short`` are rounds of the two forms of the suite.

    ``at_least`` says in words how much is asked for, ``least`` how many faults that are.
    """

    key: str
    done: str
    at_least: str
    holds: str
    full: int
    short: int
    least: int


ROWS = (
    Row(
        "operator-killed",
        "the operator is killed before and after each of its API writes",
        "200",
        "all runs converge, no second Job, none lost",
        200,
        4,
        200,
    ),
    Row(
        "api-server-faults",
        "a fault-injecting proxy before the API server: 409, 429, 500, dropped answers, time-outs, 30 % of calls; "
        "outages of 5 s to several minutes",
        "10 minutes in all",
        "none lost, recovery within 60 s after the end",
        10,
        1,
        10,
    ),
    Row(
        "watch-events",
        "watch events dropped, doubled, reordered, history expired (410)",
        "200",
        "all converge",
        200,
        4,
        200,
    ),
    Row(
        "trainer-killed",
        "the trainer is killed (SIGKILL) at random and around every write, fsync and rename of a checkpoint",
        "400",
        "all resume, at most one interval lost, the final model is that of a run that was not killed",
        800,
        12,
        400,
    ),
    Row(
        "files-damaged",
        "checkpoints and models truncated, a bit flipped, files swapped or missing",
        "1,000",
        "every one detected, none falsely, the previous one used",
        1000,
        40,
        1000,
    ),
    Row(
        "disk-trouble",
        "no space, I/O error at each write of the trainer",
        "50",
        "the last good checkpoint intact, a clear reason, the run continues when there is space",
        50,
        6,
        50,
    ),
    Row(
        "pod-ended",
        "out of memory, eviction, SIGTERM, forced deletion of the pod (on kind)",
        "20 each",
        "disruptions spend no retry, the run finishes",
        80,
        4,
        80,
    ),
    Row(
        "trainer-ended-locally",
        "on one machine: the trainer out of memory, terminated, crashed; its fork server killed; the service killed",
        "20 each",
        "disruptions spend no retry, the run finishes",
        100,
        5,
        100,
    ),
    Row(
        "jobs-removed",
        "finished and failed runs lose their Jobs and pods",
        "100 each",
        "nothing runs again",
        200,
        4,
        200,
    ),
    Row(
        "two-trainers",
        "two trainers of one run alive at once",
        "100",
        "no write of the older one after the newer one began",
        100,
        6,
        100,
    ),
    Row(
        "starts-retried",
        "1,000 starts from 16 clients with 10 % of the answers dropped and retried",
        "1",
        "one run for each request id",
        1000,
        100,
        1,
    ),
    Row(
        "simulator-trouble",
        "the simulator crashes, hangs, sends invalid replies, restarts",
        "50 each",
        "the run continues or fails with the reason, no wrong transition learned",
        200,
        4,
        200,
    ),
    Row(
        "pool-trouble",
        "an attached simulator crashes, hangs, sends invalid replies, comes back",
        "50 each",
        "the run continues or fails with the reason, no wrong transition learned",
        200,
        4,
        200,
    ),
    Row(
        "pool-service-killed",
        "the service is killed with simulators attached, and with it the trainer or not",
        "50",
        "the simulators attach again, the run continues, no wrong transition learned, no retry spent",
        50,
        2,
        50,
    ),
    Row(
        "pool-peers",
        "while a run trains on a pool: a simulator registers another spec, an instance that is taken, another protocol "
        "version, a pool name that is none; a flood of registrations; a simulator and a trainer that read no more",
        "50 each",
        "each is told what is wrong, the others notice nothing, no wrong transition learned",
        350,
        7,
        350,
    ),
)
