from typing import Any

from aisandbox_operator.probes import health_problem
from aisandbox_operator.watch_cache import SILENCE_SECONDS, WatchCache
from operator_objects import RUN_UID, ended_pod, ending, running_pod


def thing(uid: str, version: int) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "resourceVersion": str(version)}}


def test_termination_message_of_the_newest_trainer_is_kept_until_the_run_is_deleted() -> None:
    watch_cache = WatchCache()
    watch_cache.record_termination(running_pod())
    assert watch_cache.termination_messages(RUN_UID) == ()
    watch_cache.record_termination(ended_pod(143, termination_message=ending(2, 143)))
    watch_cache.record_termination(ended_pod(143, termination_message=ending(1, 143)))
    assert [said.attempt for said in watch_cache.termination_messages(RUN_UID)] == [2]
    watch_cache.retain_runs({"another"})
    assert watch_cache.termination_messages(RUN_UID) == ()


def test_watch_that_delivers_everything_is_not_silent() -> None:
    watch_cache = WatchCache()
    for version in range(1, 5):
        watch_cache.record_event("pods", thing("p", version))
        watch_cache.compare_with_list({"pods": [thing("p", version)]}, 300.0 * version)
        assert not watch_cache.silent_watches


def test_watch_that_lags_is_not_silent_before_its_time_however_many_resyncs() -> None:
    watch_cache = WatchCache()
    for second in range(3):
        watch_cache.compare_with_list({"pods": [thing("p", 1)]}, float(second))
        assert not watch_cache.silent_watches
    watch_cache.record_event("pods", thing("p", 1))
    watch_cache.compare_with_list({"pods": [thing("p", 1)]}, SILENCE_SECONDS)
    assert not watch_cache.silent_watches


def test_object_that_changes_often_does_not_make_its_watch_silent() -> None:
    watch_cache = WatchCache()
    for version in range(1, 5):
        watch_cache.compare_with_list({"pods": [thing("p", version)]}, SILENCE_SECONDS * version)
        watch_cache.record_event("pods", thing("p", version))
    assert not watch_cache.silent_watches


def test_watch_that_misses_a_change_is_silent_until_it_delivers_it() -> None:
    watch_cache = WatchCache()
    watch_cache.record_event("jobs", thing("j", 1))
    for now in (0.0, SILENCE_SECONDS):
        watch_cache.compare_with_list({"jobs": [thing("j", 2)], "pods": []}, now)
    assert watch_cache.silent_watches == {"jobs"}
    watch_cache.record_event("jobs", thing("j", 2))
    watch_cache.compare_with_list({"jobs": [thing("j", 2)]}, SILENCE_SECONDS)
    assert not watch_cache.silent_watches


def test_watch_that_delivers_nothing_is_silent_also_if_the_object_changes_all_the_time() -> None:
    watch_cache = WatchCache()
    watch_cache.record_event("trainingruns", thing("r", 1))
    for time, version in ((0.0, 5), (SILENCE_SECONDS / 2, 9), (SILENCE_SECONDS, 13)):
        assert not watch_cache.silent_watches
        watch_cache.compare_with_list({"trainingruns": [thing("r", version)]}, time)
    assert watch_cache.silent_watches == {"trainingruns"}


def test_deleted_object_is_dropped() -> None:
    watch_cache = WatchCache()
    watch_cache.record_event("jobs", thing("j", 1))
    watch_cache.record_event("jobs", thing("j", 2), is_deleted=True)
    for now in (0.0, SILENCE_SECONDS):
        watch_cache.compare_with_list({"jobs": []}, now)
    assert not watch_cache.silent_watches


def test_operator_is_unhealthy_when_it_cannot_list_or_a_watch_is_silent() -> None:
    assert health_problem(10, 300, frozenset()) == ""
    assert health_problem(961, 300, frozenset()) == "nothing could be listed for 961 s"
    assert "pods" in health_problem(10, 300, frozenset({"pods"}))
