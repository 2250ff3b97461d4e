from typing import Any

from aisandbox_operator.probes import health_problem
from aisandbox_operator.recollection import Recollection
from operator_views import RUN_UID, ended_pod, ending, running_pod


def thing(uid: str, version: int) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "resourceVersion": str(version)}}


def test_last_words_of_the_newest_trainer_are_kept_until_the_run_is_gone() -> None:
    recollection = Recollection()
    recollection.hear(running_pod())
    assert recollection.endings(RUN_UID) == ()
    recollection.hear(ended_pod(143, ending=ending(2, 143)))
    recollection.hear(ended_pod(143, ending=ending(1, 143)))
    assert [said.attempt for said in recollection.endings(RUN_UID)] == [2]
    recollection.forget_runs({"another"})
    assert recollection.endings(RUN_UID) == ()


def test_watch_that_shows_everything_is_not_silent() -> None:
    recollection = Recollection()
    for version in range(1, 5):
        recollection.see("pods", thing("p", version))
        recollection.compare({"pods": [thing("p", version)]})
        assert not recollection.silent_watches


def test_watch_that_lags_is_given_until_the_next_resync() -> None:
    recollection = Recollection()
    recollection.compare({"pods": [thing("p", 1)]})
    assert not recollection.silent_watches
    recollection.see("pods", thing("p", 1))
    recollection.compare({"pods": [thing("p", 1)]})
    assert not recollection.silent_watches


def test_object_that_changes_all_the_time_says_nothing_against_its_watch() -> None:
    recollection = Recollection()
    for version in range(1, 5):
        recollection.compare({"pods": [thing("p", version)]})
        recollection.see("pods", thing("p", version))
    assert not recollection.silent_watches


def test_watch_that_misses_a_change_is_silent_until_it_shows_it() -> None:
    recollection = Recollection()
    recollection.see("jobs", thing("j", 1))
    for _ in range(2):
        recollection.compare({"jobs": [thing("j", 2)], "pods": []})
    assert recollection.silent_watches == {"jobs"}
    recollection.see("jobs", thing("j", 2))
    recollection.compare({"jobs": [thing("j", 2)]})
    assert not recollection.silent_watches


def test_deleted_object_is_forgotten() -> None:
    recollection = Recollection()
    recollection.see("jobs", thing("j", 1))
    recollection.see("jobs", thing("j", 2), is_gone=True)
    for _ in range(2):
        recollection.compare({"jobs": []})
    assert not recollection.silent_watches


def test_operator_is_ill_when_it_cannot_list_or_a_watch_is_silent() -> None:
    assert health_problem(10, 300, frozenset()) == ""
    assert health_problem(961, 300, frozenset()) == "nothing could be listed for 961 s"
    assert "pods" in health_problem(10, 300, frozenset({"pods"}))
