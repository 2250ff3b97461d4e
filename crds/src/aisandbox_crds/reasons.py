"""The reasons in a run's status: of its conditions, of its failure, and of the operator's events.

A reason is one CamelCase word for programs; the message beside it is for people. The values are part of the resource's
interface and do not change. Must not know who sets a reason. What Kubernetes says of a pod ("Evicted", "OOMKilled")
keeps Kubernetes' word; such a word, or one of a newer trainer, may be missing here.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Every reason that this project sets; the line below each says when."""

    # The phase of a run that is done or suspended, as the reason of the conditions Complete, Failed and Suspended.

    SUCCEEDED = "Succeeded"
    """The run has trained to its end."""
    FAILED = "Failed"
    """The run has failed, as the reason of the condition Complete."""
    REWARD_REACHED = "RewardReached"
    """The run has succeeded before its totalTimesteps, with the mean return of spec.stopWhen."""
    NO_IMPROVEMENT = "NoImprovement"
    """The run has succeeded before its totalTimesteps, after evaluations without improvement (spec.stopWhen)."""
    TIME_REACHED = "TimeReached"
    """The run has succeeded before its totalTimesteps, after the seconds of spec.stopWhen."""
    CANCELLED = "Cancelled"
    """The run was stopped by spec.cancel."""
    SUSPENDED = "Suspended"
    """The run was stopped by spec.suspend, or was created suspended."""

    # The condition Running.

    TRAINER_RUNNING = "TrainerRunning"
    """The trainer's container is running."""
    TRAINER_STARTING = "TrainerStarting"
    """The trainer's pod is being created or started."""
    STARTING_SLOWLY = "StartingSlowly"
    """The pod has had a node for START_DEADLINE_SECONDS and its container has not started."""
    TRAINER_ENDING = "TrainerEnding"
    """The trainer has exited, and its pod or Job has not finished yet."""
    RETRYING = "Retrying"
    """The trainer has failed, and the Job starts another one after its backoff."""
    QUEUED = "Queued"
    """Kueue has not admitted the run's Job."""
    PREEMPTED = "Preempted"
    """Kueue has suspended the run's Job, and its trainer writes a checkpoint."""
    SUSPENDING = "Suspending"
    """The spec has suspend set, and the trainer writes a checkpoint."""
    CANCELLING = "Cancelling"
    """The spec has cancel set, and the trainer writes a checkpoint."""
    ENDING = "Ending"
    """The run's Job, or a pod of an earlier one, is being deleted."""
    EARLIER_JOB_ENDING = "EarlierJobEnding"
    """The Job of a deleted run of the same name is being deleted."""
    JOB_FORBIDDEN = "JobForbidden"
    """The API server does not accept the run's Job for now, because of a quota, a permission or an admission rule."""
    WEBHOOK_UNAVAILABLE = "AdmissionWebhookUnavailable"
    """An admission webhook does not answer the API server, which therefore does not accept the run's Job for now."""
    JOB_SUSPENDED = "JobSuspended"
    """Another client has suspended the run's Job, which the operator had let run, and has to resume it."""
    REPLACING_JOB = "ReplacingJob"
    """The Job is created again, because the run or the operator's settings have changed before its trainer ran."""
    NO_POD = "NoPod"
    """The Job has no pod, because the API server refuses it or nothing has created one in 30 seconds."""
    NODE_LOST = "NodeLost"
    """The node of the trainer's pod does not answer."""
    UNSCHEDULABLE = "Unschedulable"
    """No node has room for the trainer's pod."""
    DELETED = "Deleted"
    """The run is being deleted (never written)."""
    DONE = "Done"
    """The run has ended and needs nothing more (never written)."""

    # The other conditions while they are False, and ProgressStalled and CheckpointsSaved.

    NOT_SUSPENDED = "NotSuspended"
    """The condition Suspended is False."""
    NOT_DONE = "NotDone"
    """The conditions Complete and Failed are False because the run has not ended."""
    PROGRESSING = "Progressing"
    """The condition ProgressStalled is False because the trainer reports progress."""
    NOT_RUNNING = "NotRunning"
    """The condition ProgressStalled is False because no trainer is running."""
    NO_PROGRESS = "NoProgress"
    """The trainer has reported no progress for STALL_SECONDS."""
    CANNOT_START = "CannotStart"
    """The trainer's pod cannot start until a person acts."""
    SAVED = "Saved"
    """The condition CheckpointsSaved is True: what was due last is saved."""

    # Events of the operator that are not named after a condition's reason.

    JOB_CREATED = "JobCreated"
    """The operator has created the run's Job."""
    SIDECARS_STOPPED = "SidecarsStopped"
    """The trainer has exited, and the other containers of its pod, which still ran, were stopped."""
    PROGRESS_STALLED = "ProgressStalled"
    """The condition ProgressStalled has become True."""

    # Failures: the request or the environment.

    INVALID_RUN = "InvalidRun"
    """The spec breaks a rule that the resource's schema cannot express."""
    NOT_ALLOWED = "NotAllowed"
    """The run asks for a pod that the administrator does not allow (TRAINER_POD_ALLOWED of the operator)."""
    INVALID_HYPERPARAMETER = "InvalidHyperparameter"
    """A hyperparameter is unknown or out of range, or stable-baselines3 refuses it for this environment."""
    INVALID_OUTPUT_PATH = "InvalidOutputPath"
    """The path modelOutputPath leads out of the volume by a symbolic link."""
    UNSUPPORTED_OBSERVATION_SPACE = "UnsupportedObservationSpace"
    """The algorithm or the policy cannot take the environment's observation space."""
    UNSUPPORTED_ACTION_SPACE = "UnsupportedActionSpace"
    """The algorithm cannot take the environment's action space."""
    CANNOT_TRAIN = "CannotTrain"
    """The rehearsal on made-up observations failed for these spaces and hyperparameters, before the first real step."""
    UNKNOWN_ENVIRONMENT = "UnknownEnvironment"
    """Gymnasium has no environment of this id, or cannot make it with these arguments."""
    ADAPTER_MISSING = "AdapterMissing"
    """The run needs the adapter of the service that started it, and this service has none."""
    SIMULATOR_UNREACHABLE = "SimulatorUnreachable"
    """The simulator did not answer for as long as a trainer waits, or kept failing."""
    SIMULATOR_SESSIONS_TOO_SHORT = "SimulatorSessionsTooShort"
    """The simulator's sessions ended again and again before enough was collected for one update of the policy."""
    SIMULATOR_PROTOCOL = "SimulatorProtocol"
    """The simulator broke the contract, or has other spaces than when the run began."""
    SIMULATOR_INVALID_REPLY = "SimulatorInvalidReply"
    """The environment returned values outside of its spaces, or NaN or infinity."""

    # Failures: the training.

    NON_FINITE_TRAINING = "NonFiniteTraining"
    """The policy's weights became NaN or infinite."""
    CANNOT_EXPORT = "CannotExport"
    """The policy cannot be exported to ONNX."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    """The run has trained for its activeDeadlineSeconds."""
    DISK_FULL = "DiskFull"
    """The volume of checkpoints and models has no space left; also of the condition CheckpointsSaved."""
    FENCED = "Fenced"
    """A newer attempt at the run has started, and this one may publish nothing."""
    OUT_OF_MEMORY = "OutOfMemory"
    """The trainer could not allocate memory."""
    INTERNAL = "Internal"
    """The trainer ended by an error that has no reason of its own."""

    # Failures: the trainer's process or container.

    OOM_KILLED = "OOMKilled"
    """Kubernetes killed the trainer because it used more memory than its limit."""
    TRAINER_KILLED = "TrainerKilled"
    """The trainer was killed by SIGKILL."""
    TRAINER_STOPPED = "TrainerStopped"
    """The trainer was stopped by SIGTERM, and not by this service."""
    TRAINER_CRASHED = "TrainerCrashed"
    """The trainer ended without a termination message."""
    TRAINER_FAILED = "TrainerFailed"
    """The trainer gave a reason that is not one CamelCase word."""
    LAUNCH_FAILED = "LaunchFailed"
    """The trainer's process could not be started."""
    SERVICE_FAULT = "ServiceFault"
    """The service itself failed while it supervised the run."""

    # Failures: the run's Job and pod on Kubernetes.

    JOB_NAME_TAKEN = "JobNameTaken"
    """A Job that does not belong to the run has the run's name."""
    JOB_REFUSED = "JobRefused"
    """The API server refuses the run's Job permanently, because of a rule that the resource's schema does not have."""
    POD_FAILED = "PodFailed"
    """The trainer's pod failed before its container ended, and Kubernetes gave no reason."""
    EVICTED = "Evicted"
    """The trainer's pod was evicted, preempted or drained from its node."""
    CLAIM_NOT_FOUND = "ClaimNotFound"
    """The PersistentVolumeClaim of models does not exist."""
    IMAGE_PULL_BACK_OFF = "ImagePullBackOff"
    """The trainer's image cannot be pulled."""
    ERR_IMAGE_NEVER_PULL = "ErrImageNeverPull"
    """The trainer's image is not on the node, and the pull policy is Never."""
    INVALID_IMAGE_NAME = "InvalidImageName"
    """The name of the trainer's image is not valid."""
    IMAGE_INSPECT_ERROR = "ImageInspectError"
    """The node cannot read the trainer's image."""
    CREATE_CONTAINER_CONFIG_ERROR = "CreateContainerConfigError"
    """The trainer's container refers to something that does not exist."""
    CREATE_CONTAINER_ERROR = "CreateContainerError"
    """The trainer's container cannot be created."""
    RUN_CONTAINER_ERROR = "RunContainerError"
    """The trainer's container cannot be run."""
    CONTAINER_CANNOT_RUN = "ContainerCannotRun"
    """The trainer's container was created and could not be started."""
    START_ERROR = "StartError"
    """The trainer's program could not be started in its container."""


EARLY_STOPS = frozenset({Reason.REWARD_REACHED, Reason.NO_IMPROVEMENT, Reason.TIME_REACHED})
"""Of a run that has succeeded before its totalTimesteps; the reason of its condition Complete."""
