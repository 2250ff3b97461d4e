from typing import Any

from aisandbox_operator.probes import health_problem
from aisandbox_operator.recollection import PATIENCE_SECONDS, Recollection
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
        recollection.compare({"pods": [thing("p", version)]}, 300.0 * version)
        assert not recollection.silent_watches


def test_watch_that_lags_is_given_a_while_however_often_one_looks() -> None:
    recollection = Recollection()
    for second in range(3):
        recollection.compare({"pods": [thing("p", 1)]}, float(second))
        assert not recollection.silent_watches
    recollection.see("pods", thing("p", 1))
    recollection.compare({"pods": [thing("p", 1)]}, PATIENCE_SECONDS)
    assert not recollection.silent_watches


def test_object_that_changes_all_the_time_says_nothing_against_its_watch() -> None:
    recollection = Recollection()
    for version in range(1, 5):
        recollection.compare({"pods": [thing("p", version)]}, PATIENCE_SECONDS * version)
        recollection.see("pods", thing("p", version))
    assert not recollection.silent_watches


def test_watch_that_misses_a_change_is_silent_until_it_shows_it() -> None:
    recollection = Recollection()
    recollection.see("jobs", thing("j", 1))
    for now in (0.0, PATIENCE_SECONDS):
        recollection.compare({"jobs": [thing("j", 2)], "pods": []}, now)
    assert recollection.silent_watches == {"jobs"}
    recollection.see("jobs", thing("j", 2))
    recollection.compare({"jobs": [thing("j", 2)]}, PATIENCE_SECONDS)
    assert not recollection.silent_watches


def test_watch_that_shows_nothing_is_silent_also_if_the_object_changes_all_the_time() -> None:
    recollection = Recollection()
    recollection.see("trainingruns", thing("r", 1))
    for time, version in ((0.0, 5), (PATIENCE_SECONDS / 2, 9), (PATIENCE_SECONDS, 13)):
        assert not recollection.silent_watches
        recollection.compare({"trainingruns": [thing("r", version)]}, time)
    assert recollection.silent_watches == {"trainingruns"}


def test_deleted_object_is_forgotten() -> None:
    recollection = Recollection()
    recollection.see("jobs", thing("j", 1))
    recollection.see("jobs", thing("j", 2), is_gone=True)
    for now in (0.0, PATIENCE_SECONDS):
        recollection.compare({"jobs": []}, now)
    assert not recollection.silent_watches


def test_operator_is_ill_when_it_cannot_list_or_a_watch_is_silent() -> None:
    assert health_problem(10, 300, frozenset()) == ""
    assert health_problem(961, 300, frozenset()) == "nothing could be listed for 961 s"
    assert "pods" in health_problem(10, 300, frozenset({"pods"}))
