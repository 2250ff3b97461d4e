using System;
using Google.Protobuf.WellKnownTypes;

namespace AISandbox.Client;

/// <summary>The state of a run.</summary>
public enum TrainingPhase
{
    /// <summary>Not known to this version of the package.</summary>
    Unknown = 0,

    /// <summary>Accepted; waits for a free trainer.</summary>
    Pending = 1,

    /// <summary>The trainer is loading or connecting.</summary>
    Starting = 2,

    /// <summary>Training.</summary>
    Running = 3,

    /// <summary>Stopped on request; continues from its newest checkpoint when resumed.</summary>
    Suspended = 4,

    /// <summary>Done: the final model is published.</summary>
    Succeeded = 5,

    /// <summary>Done: <see cref="TrainingStatus.Failure"/> says why.</summary>
    Failed = 6,

    /// <summary>Done on request.</summary>
    Cancelled = 7,
}

/// <summary>What the trainer of a run is doing.</summary>
public enum TrainerActivity
{
    /// <summary>Not known.</summary>
    Unknown = 0,

    /// <summary>Loading, connecting to the simulator, building or restoring the policy.</summary>
    Starting = 1,

    /// <summary>Collecting experience or updating the policy.</summary>
    Training = 2,

    /// <summary>Waiting for a simulator that cannot be reached.</summary>
    WaitingForSimulator = 3,

    /// <summary>Running evaluation episodes.</summary>
    Evaluating = 4,

    /// <summary>Updating the policy, for some seconds already.</summary>
    Updating = 5,

    /// <summary>Waiting for the answer to a step, for some seconds already.</summary>
    WaitingForStep = 6,

    /// <summary>Learning from demonstrations, before the first step.</summary>
    Cloning = 7,
}

/// <summary>Why a run failed.</summary>
/// <param name="Reason">One word in CamelCase for programs: <c>SimulatorUnreachable</c>.</param>
/// <param name="Message">A message for people: the cause, and what to do.</param>
public sealed record TrainingFailure(string Reason, string Message);

/// <summary>Why a run ended before its total timesteps, by <see cref="Training.StopWhen"/>.</summary>
/// <param name="Reason">One word in CamelCase for programs: <c>RewardReached</c>, <c>NoImprovement</c>, <c>TimeReached</c>.</param>
/// <param name="Message">A message for people: what was reached.</param>
public sealed record EarlyStop(string Reason, string Message);

/// <summary>The lesson that a run is in.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Number">Its number, from 1.</param>
/// <param name="Count">How many lessons the run has.</param>
/// <param name="Episodes">How many of its episodes have ended.</param>
/// <param name="Timesteps">Environment steps taken in it, over all environments.</param>
/// <param name="RewardMean">The mean undiscounted return of its last episodes, by which its end is decided; null before the first one has ended.</param>
public sealed record LessonProgress(string Name, int Number, int Count, long Episodes, long Timesteps, double? RewardMean);

/// <summary>How far a policy has learned from demonstrations.</summary>
/// <param name="Epoch">The epoch that it is in, from 1; when it is done, the last one.</param>
/// <param name="Epochs">How many epochs there are.</param>
/// <param name="Loss">The mean loss of the last epoch that is complete; null before. What it is depends on the algorithm.</param>
/// <param name="Episodes">How many episodes it learns from.</param>
/// <param name="Steps">How many steps they have.</param>
public sealed record CloningProgress(int Epoch, int Epochs, double? Loss, long Episodes, long Steps);

/// <summary>A checkpoint or a model of a run.</summary>
/// <param name="Path">Relative to the run's folder, <c>models/20000</c>.</param>
/// <param name="Timesteps">The environment steps done when it was made.</param>
/// <param name="Digest"><c>sha256:</c> and 64 digits, its identity.</param>
/// <param name="RewardMean">The mean return for which a best model was chosen.</param>
public sealed record TrainingArtifact(string Path, long Timesteps, string Digest, double? RewardMean);

/// <summary>The status of a run at one moment.</summary>
public sealed record TrainingStatus
{
    /// <summary>The name of the run.</summary>
    public required string Run { get; init; }

    /// <summary>Its state.</summary>
    public TrainingPhase Phase { get; init; }

    /// <summary>Whether the run has succeeded, failed or been cancelled, and will never change again.</summary>
    public bool IsDone { get; init; }

    /// <summary>The run's current step, over all environments; it falls back to the checkpoint's when an attempt resumes.</summary>
    public long TimestepsDone { get; init; }

    /// <summary>Environment steps to do, as requested.</summary>
    public long TotalTimesteps { get; init; }

    /// <summary>The mean undiscounted return of the last 100 training episodes; null before the first one has ended.</summary>
    public double? EpisodeRewardMean { get; init; }

    /// <summary>The mean length of the same episodes, in steps.</summary>
    public double? EpisodeLengthMean { get; init; }

    /// <summary>The mean return of the last evaluation; null before the first.</summary>
    public double? EvaluationRewardMean { get; init; }

    /// <summary>Environment steps per second; 0 unless running.</summary>
    public double StepsPerSecond { get; init; }

    /// <summary>At the current speed; null if it is not known.</summary>
    public TimeSpan? EstimatedRemaining { get; init; }

    /// <summary>Why the run failed; null unless it did.</summary>
    public TrainingFailure? Failure { get; init; }

    /// <summary>What the run started from, by <see cref="Training.StartFrom"/>; its path is relative to the folder of models.</summary>
    public TrainingArtifact? StartedFrom { get; init; }

    /// <summary>Why the run ended before <see cref="TotalTimesteps"/>; null if it did not.</summary>
    public EarlyStop? EarlyStop { get; init; }

    /// <summary>The lesson that the run is in; null without lessons, and before the first report.</summary>
    public LessonProgress? Lesson { get; init; }

    /// <summary>How far the policy has learned from demonstrations; null without them, and before the first report.</summary>
    public CloningProgress? Cloning { get; init; }

    /// <summary>Who started the run, where the service authenticates its callers; else empty.</summary>
    public string Owner { get; init; } = "";

    /// <summary>A problem that does not stop the run; empty if there is none.</summary>
    public string Warning { get; init; } = "";

    /// <summary>What the trainer is doing, while the run is starting or running.</summary>
    public TrainerActivity Activity { get; init; }

    /// <summary>The experiment that the run belongs to.</summary>
    public string Experiment { get; init; } = "";

    /// <summary>The algorithm by the name of its class: <c>PPO</c>, <c>SAC</c>, <c>CrossQ</c>.</summary>
    public string Algorithm { get; init; } = "";

    /// <summary>
    /// The algorithm that trains: <see cref="Algorithm"/>, or MaskablePPO where that is PPO and the environment declares action masks. Empty until a
    /// trainer has seen the environment.
    /// </summary>
    public string TrainedAlgorithm { get; init; } = "";

    /// <summary>The seed, as requested or chosen by the service.</summary>
    public long Seed { get; init; }

    /// <summary>How often the trainer was restarted after it had stopped without a request.</summary>
    public int Restarts { get; init; }

    /// <summary>Environment steps that were lost by restarts.</summary>
    public long TimestepsLost { get; init; }

    /// <summary>The newest published model.</summary>
    public TrainingArtifact? LatestModel { get; init; }

    /// <summary>The best published model.</summary>
    public TrainingArtifact? BestModel { get; init; }

    /// <summary>The newest checkpoint.</summary>
    public TrainingArtifact? LatestCheckpoint { get; init; }

    /// <summary>The checkpoint that the current attempt started from; null if it started from scratch.</summary>
    public TrainingArtifact? ResumedFrom { get; init; }

    /// <summary>The stable-baselines3 zip of the newest checkpoint, or the requested final one; empty before the first.</summary>
    public string LastCheckpointPath { get; init; } = "";

    /// <summary>When the start was accepted.</summary>
    public DateTimeOffset? CreateTime { get; init; }

    /// <summary>When the first attempt began.</summary>
    public DateTimeOffset? StartTime { get; init; }

    /// <summary>When the run was done.</summary>
    public DateTimeOffset? CompletionTime { get; init; }

    internal static TrainingStatus From(V1.StatusResponse status) => new()
    {
        Run = status.RunId,
        Phase = status.Phase is >= V1.Phase.Pending and <= V1.Phase.Cancelled ? (TrainingPhase)status.Phase : TrainingPhase.Unknown,
        IsDone = status.IsDone,
        TimestepsDone = status.TimestepsDone,
        TotalTimesteps = status.TotalTimesteps,
        EpisodeRewardMean = status.HasEpisodeRewardMean ? status.EpisodeRewardMean : null,
        EpisodeLengthMean = status.HasEpisodeLengthMean ? status.EpisodeLengthMean : null,
        EvaluationRewardMean = status.HasEvaluationRewardMean ? status.EvaluationRewardMean : null,
        StepsPerSecond = status.Fps,
        EstimatedRemaining = status.HasEstimatedRemainingSeconds ? Remaining(status.EstimatedRemainingSeconds) : null,
        Failure = status.Failure is { } failure ? new TrainingFailure(failure.Reason, failure.Message) : null,
        StartedFrom = Artifact(status.StartedFrom),
        EarlyStop = status.EarlyStop is { } stop ? new EarlyStop(stop.Reason, stop.Message) : null,
        Lesson = status.Lesson is { } lesson
            ? new LessonProgress(lesson.Name, lesson.Number, lesson.Count, lesson.Episodes, lesson.Timesteps, lesson.HasRewardMean ? lesson.RewardMean : null)
            : null,
        Cloning = status.Cloning is { } cloning
            ? new CloningProgress(cloning.Epoch, cloning.Epochs, cloning.HasLoss ? cloning.Loss : null, cloning.Episodes, cloning.Steps)
            : null,
        Owner = status.Owner,
        Warning = status.Warning,
        Activity = status.Activity is >= V1.TrainerActivity.Starting and <= V1.TrainerActivity.Cloning
            ? (TrainerActivity)status.Activity : TrainerActivity.Unknown,
        Experiment = status.ExperimentId,
        Algorithm = AlgorithmNames.Of(status.Algorithm),
        TrainedAlgorithm = status.TrainedAlgorithm,
        Seed = status.Seed,
        Restarts = (int)status.Restarts,
        TimestepsLost = status.TimestepsLost,
        LatestModel = Artifact(status.LatestModel),
        BestModel = Artifact(status.BestModel),
        LatestCheckpoint = Artifact(status.LatestCheckpoint),
        ResumedFrom = Artifact(status.ResumedFrom),
        LastCheckpointPath = status.LastCheckpointPath,
        CreateTime = Time(status.CreateTime),
        StartTime = Time(status.StartTime),
        CompletionTime = Time(status.CompletionTime),
    };

    private static TimeSpan? Remaining(double seconds) =>
        seconds < TimeSpan.MaxValue.TotalSeconds ? TimeSpan.FromSeconds(seconds) : null;

    private static DateTimeOffset? Time(Timestamp? time) => time?.ToDateTimeOffset();

    private static TrainingArtifact? Artifact(V1.Artifact? artifact) =>
        artifact is null ? null
            : new TrainingArtifact(artifact.Path, artifact.Timesteps, artifact.Digest, artifact.HasRewardMean ? artifact.RewardMean : null);
}
