"""A run that is to train: the rules of ``training``, a row a case."""

from dataclasses import replace

from aisandbox_crds.reasons import Reason
from aisandbox_crds.status import Phase, Progress, TrainingRunStatus
from aisandbox_operator.decision import CreateJob, DeleteJob, EndPod, SuspendJob
from aisandbox_operator.observed_state import ObservedState
from aisandbox_operator.rules.training import create_job, observe_trainer, resume_job
from operator_objects import (
    JOB_UID,
    NOW,
    QUEUE,
    RUNNING,
    SETTINGS,
    ago,
    ended_pod,
    ending,
    job,
    pod,
    run,
    running_pod,
    spec,
)
from rule_cases import Decided, check, observed, table

QUEUED_FLAG, ATTENTION = frozenset({"is_queued"}), frozenset({"needs_attention"})
QUEUED = run(of=spec(labels=QUEUE))
QUEUED_RUNNING = run(RUNNING, of=spec(labels=QUEUE))
STARTED = run(TrainingRunStatus(phase=Phase.STARTING))
PAUSED = replace(RUNNING, phase=Phase.SUSPENDED, suspensions=1)
QUIET = run(replace(RUNNING, progress=Progress(last_updated_time="2026-03-01T11:49:59Z")))
ACTIVE, STOPPED = job(active=1), job(is_suspended=True)
KUEUES = job(is_suspended=True, queue="gpus")
LABELLED = run(labels=QUEUE)
WITH_SIDECAR = pod(phase="Running", exit_code=0, started=ago(40), ended=ago(10), sidecars=("istio-proxy", "logs"))
CREATING = pod(waits_for="ContainerCreating", created=ago(2000), scheduled=ago(590))


def starting(requeue_after: float | None = None) -> Decided:
    return Decided(Phase.STARTING, Reason.TRAINER_STARTING, requeue_after=requeue_after)


def node_lost(message: str) -> Decided:
    flags = frozenset({"needs_attention", "is_uncertain"})
    return Decided(Phase.RUNNING, Reason.NODE_LOST, message=message, flags=flags)


@table(
    ("a run with a Job gets no other", observed(run(), ACTIVE), None),
    (
        "a new run gets a Job",
        observed(run()),
        Decided(Phase.STARTING, Reason.TRAINER_STARTING, CreateJob(suspended=False, failures_before=0)),
    ),
    (
        "a Job that was deleted is created again with the rest of the backoff limit",
        observed(run(replace(RUNNING, restarts_count_towards_max=2))),
        Decided(Phase.STARTING, Reason.TRAINER_STARTING, CreateJob(suspended=False, failures_before=2)),
    ),
    (
        "a queued run gets a suspended Job for Kueue",
        observed(QUEUED),
        Decided(
            Phase.PENDING,
            Reason.QUEUED,
            CreateJob(suspended=True, failures_before=0),
            message="queue 'gpus'",
            flags=QUEUED_FLAG,
        ),
    ),
    (
        "a run whose own label names a queue gets a suspended Job for Kueue",
        observed(LABELLED),
        Decided(Phase.PENDING, Reason.QUEUED, CreateJob(suspended=True, failures_before=0), flags=QUEUED_FLAG),
    ),
    (
        "a Job that the API server will never accept fails the run",
        observed(run(), job_refusal="422: bad label", is_refused_permanently=True),
        Decided(Phase.FAILED, Reason.JOB_REFUSED, message="422: bad label"),
    ),
    (
        "a Job that the API server does not accept for now is created later",
        observed(run(), job_refusal="403: exceeded quota"),
        Decided(Phase.PENDING, Reason.JOB_FORBIDDEN, requeue_after=30.0, message="quota", flags=ATTENTION),
    ),
    (
        "an admission webhook that does not answer is waited for",
        observed(run(), job_refusal='500: failed calling webhook "owners"', is_webhook_down=True),
        Decided(
            Phase.PENDING, Reason.WEBHOOK_UNAVAILABLE, requeue_after=10.0, message='webhook "owners"', flags=ATTENTION
        ),
    ),
)
def test_job_is_created(state: ObservedState, decided: Decided | None) -> None:
    check(create_job(state), decided)


@table(
    ("an active Job is not resumed", observed(run(RUNNING), ACTIVE), None),
    ("a run without a Job has none to resume", observed(run(PAUSED)), None),
    (
        "a suspended Job is resumed",
        observed(run(PAUSED), STOPPED),
        Decided(Phase.STARTING, Reason.TRAINER_STARTING, SuspendJob(JOB_UID, suspended=False)),
    ),
    (
        "a suspended Job of Kueue is left to Kueue",
        observed(QUEUED, KUEUES),
        Decided(Phase.PENDING, Reason.QUEUED, flags=QUEUED_FLAG),
    ),
    (
        "a Job that Kueue has given its default queue is left to Kueue",
        observed(run(), KUEUES),
        Decided(Phase.PENDING, Reason.QUEUED, flags=QUEUED_FLAG),
    ),
    (
        "a Job that waits in another queue is made again",
        observed(run(labels={"kueue.x-k8s.io/queue-name": "night"}), KUEUES),
        Decided(Phase.PENDING, Reason.QUEUED, DeleteJob(JOB_UID), flags=QUEUED_FLAG),
    ),
    (
        "a Job from before the run was given to a queue is made again when it has stopped",
        observed(run(PAUSED, labels=QUEUE), STOPPED),
        Decided(Phase.PENDING, Reason.QUEUED, DeleteJob(JOB_UID), flags=QUEUED_FLAG),
    ),
    (
        "a Job that Kueue has preempted lets its trainer write a checkpoint",
        observed(QUEUED_RUNNING, KUEUES, running_pod(deletion_time=NOW)),
        Decided(Phase.RUNNING, Reason.PREEMPTED),
    ),
    (
        "a Job that another client has suspended after it was resumed is left to that one",
        observed(run(RUNNING, generation=3), replace(STOPPED, resumed_generation=3, suspended_by="budget")),
        Decided(
            Phase.PENDING,
            Reason.JOB_SUSPENDED,
            message="suspended by budget",
            flags=frozenset({"is_queued", "needs_attention"}),
        ),
    ),
    (
        "a Job that another client suspends lets its trainer write a checkpoint",
        observed(run(RUNNING), replace(STOPPED, resumed_generation=1), running_pod(deletion_time=NOW)),
        Decided(Phase.RUNNING, Reason.JOB_SUSPENDED, message="another client", flags=ATTENTION),
    ),
    (
        "a Job that was resumed for an earlier generation of the run is resumed",
        observed(run(PAUSED, generation=4), replace(STOPPED, resumed_generation=3)),
        Decided(Phase.STARTING, Reason.TRAINER_STARTING, SuspendJob(JOB_UID, suspended=False)),
    ),
)
def test_job_is_resumed(state: ObservedState, decided: Decided | None) -> None:
    check(resume_job(state), decided)


@table(
    ("a Job that has just been created starts", observed(STARTED, job(started=ago(10))), starting(20.0)),
    ("a Job that counts a pod starts", observed(STARTED, job(active=1, started=ago(31))), starting(1.0)),
    (
        "a Job without a pod for 30 s needs attention",
        observed(STARTED, job(started=ago(31))),
        Decided(Phase.STARTING, Reason.NO_POD, message="kubectl describe job walk", flags=ATTENTION),
    ),
    ("a Job without a pod is looked at soon", observed(STARTED, job(started=ago(1))), starting(2.0)),
    (
        "a pod that the API server refuses is reported with the reason",
        observed(STARTED, job(started=ago(4)), pod_refusal="the pod is forbidden: exceeded quota: gpus"),
        Decided(Phase.STARTING, Reason.NO_POD, requeue_after=30.0, message="exceeded quota: gpus", flags=ATTENTION),
    ),
    (
        "a node that does not answer is named",
        observed(run(RUNNING), ACTIVE, running_pod(node="rack-7", lost_since=ago(5))),
        node_lost("the node 'rack-7' has not answered since 2026-03-01T11:59:55Z"),
    ),
    (
        "a node that does not answer is named also while its pod is evicted",
        observed(run(RUNNING), ACTIVE, running_pod(node="rack-7", lost_since=ago(400), deletion_time=ago(100))),
        node_lost("rack-7"),
    ),
    (
        "a node that does not end a pod that is overdue is named",
        observed(run(RUNNING), ACTIVE, running_pod(node="rack-7", deletion_time=ago(30))),
        node_lost("rack-7"),
    ),
    (
        "a pod that is being deleted is looked at when it is overdue",
        observed(run(RUNNING), ACTIVE, running_pod(deletion_time=ago(-20))),
        Decided(Phase.RUNNING, Reason.TRAINER_RUNNING, requeue_after=50.0),
    ),
    (
        "sidecars have some seconds after the trainer",
        observed(run(RUNNING), ACTIVE, replace(WITH_SIDECAR, ended=ago(4))),
        Decided(Phase.RUNNING, Reason.TRAINER_ENDING, requeue_after=6.0, message="still run: istio-proxy, logs"),
    ),
    (
        "a pod whose trainer is done is ended",
        observed(run(RUNNING), ACTIVE, WITH_SIDECAR),
        Decided(Phase.RUNNING, Reason.TRAINER_ENDING, EndPod("walk-abcde", "pod-uid", "Succeeded")),
    ),
    (
        "a pod whose trainer has failed is ended, also if the trainer was never seen",
        observed(STARTED, ACTIVE, replace(WITH_SIDECAR, exit_code=1)),
        Decided(Phase.RUNNING, Reason.TRAINER_ENDING, EndPod("walk-abcde", "pod-uid", "Failed")),
    ),
    (
        "a pod that is being deleted is not ended",
        observed(run(RUNNING), ACTIVE, replace(WITH_SIDECAR, deletion_time=NOW)),
        Decided(Phase.RUNNING, Reason.TRAINER_ENDING, message="pod has not finished"),
    ),
    ("a pod whose container is being created starts", observed(STARTED, ACTIVE, CREATING), starting(10.0)),
    (
        "a pod whose container has not started at the deadline needs attention",
        observed(STARTED, ACTIVE, replace(CREATING, scheduled=ago(600))),
        Decided(Phase.STARTING, Reason.STARTING_SLOWLY, message="kubectl describe pod walk-abcde", flags=ATTENTION),
    ),
    (
        "a trainer that runs is Running until it stalls",
        observed(run(RUNNING), ACTIVE, running_pod()),
        Decided(Phase.RUNNING, Reason.TRAINER_RUNNING, requeue_after=SETTINGS.stall_seconds - 40),
    ),
    (
        "a trainer without progress has stalled",
        observed(QUIET, ACTIVE, running_pod(started=ago(9000))),
        Decided(
            Phase.RUNNING, Reason.TRAINER_RUNNING, message="no progress for 600 s", flags=frozenset({"has_stalled"})
        ),
    ),
    (
        "a pod that an earlier suspend ends is not the trainer",
        observed(run(PAUSED), ACTIVE, running_pod(deletion_time=ago(5), scheduled=ago(45))),
        starting(555.0),
    ),
    (
        "a trainer has exited before its pod has finished",
        observed(run(RUNNING), ACTIVE, pod(phase="Running", exit_code=0, started=ago(40))),
        Decided(Phase.RUNNING, Reason.TRAINER_ENDING, message="pod has not finished"),
    ),
    (
        "a failure that the Job has not counted is not retried yet",
        observed(run(RUNNING), job(), ended_pod(78, termination_message=ending(1, 78))),
        Decided(Phase.RUNNING, Reason.TRAINER_ENDING, message="Job has not finished"),
    ),
    (
        "a failure that ends the Job is not retried",
        observed(run(RUNNING), job(failed=1, is_finishing=True), ended_pod(78, termination_message=ending(1, 78))),
        Decided(Phase.RUNNING, Reason.TRAINER_ENDING, message="Job has not finished"),
    ),
    (
        "a success that the Job has not counted is waited for",
        observed(run(RUNNING), job(), ended_pod(0)),
        Decided(Phase.RUNNING, Reason.TRAINER_ENDING, message="Job has not finished"),
    ),
    (
        "a failure that the Job has counted is retried",
        observed(run(RUNNING), job(failed=1), ended_pod(137, exit_reason="OOMKilled")),
        Decided(Phase.PENDING, Reason.RETRYING, message="OOMKilled", flags=ATTENTION),
    ),
    (
        "a disruption is retried and needs no attention",
        observed(run(RUNNING), job(), ended_pod(137, was_disrupted=True)),
        Decided(Phase.PENDING, Reason.RETRYING, message="Evicted"),
    ),
    (
        "a trainer that was stopped is retried and needs no attention",
        observed(run(RUNNING), job(), ended_pod(143)),
        Decided(Phase.PENDING, Reason.RETRYING, message="SIGTERM"),
    ),
)
def test_trainer_is_observed(state: ObservedState, decided: Decided) -> None:
    check(observe_trainer(state), decided)
