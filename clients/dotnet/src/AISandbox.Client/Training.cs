using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using Google.Protobuf.WellKnownTypes;

namespace AISandbox.Client;

/// <summary>What to train, for how long, and against which environment.</summary>
public sealed record Training
{
    /// <summary>A name that groups runs: 1 to 128 printable characters. The run's name begins with it.</summary>
    public required string Experiment { get; init; }

    /// <summary>Environment steps, over all environments; 1 to 10^12.</summary>
    public required long TotalTimesteps { get; init; }

    /// <summary>The algorithm by its type, and its hyperparameters. Default: PPO with its defaults.</summary>
    public Hyperparameters Hyperparameters { get; init; } = new PpoHyperparameters();

    /// <summary>What to train against. Null: the default of the service, a small built-in test environment.</summary>
    public TrainingEnvironment? Environment { get; init; }

    /// <summary>Environment i is seeded with seed + i at its first reset. Null: the service chooses one.</summary>
    public uint? Seed { get; init; }

    /// <summary>Episodes played with the policy during training, in an environment of their own. Null: none.</summary>
    public EvaluationPlan? Evaluation { get; init; }

    /// <summary>What the run starts from: what another run, or a file, has learned. Null: random weights.</summary>
    public StartingPoint? StartFrom { get; init; }

    /// <summary>Recorded episodes that the policy learns to act like before its first step. Null: none.</summary>
    public Demonstrations? Demonstrations { get; init; }

    /// <summary>What ends the run before <see cref="TotalTimesteps"/>, with its best model as the final one. Null: nothing.</summary>
    public StopRules? StopWhen { get; init; }

    /// <summary>
    /// Parameters of the environment that change as the policy learns: at most 32 lessons, one after the other. Empty: the environment's
    /// defaults.
    /// </summary>
    public IReadOnlyList<Lesson> Lessons { get; init; } = Array.Empty<Lesson>();

    /// <summary>The trainer's machine on Kubernetes; null: what the cluster's operator is configured with.</summary>
    public Placement? Placement { get; init; }

    /// <summary>Environment steps between checkpoints; null: a tenth of <see cref="TotalTimesteps"/>, at most 100,000.</summary>
    public long? CheckpointEveryTimesteps { get; init; }

    /// <summary>Where the service saves the final zip of stable-baselines3, relative to its folder of models; null: nowhere.</summary>
    public string? ModelOutputPath { get; init; }

    /// <summary>
    /// 1 to 128 printable characters: a start with the same id returns the same run, also from another process. Null: a new
    /// one for each start, whose retries start one run.
    /// </summary>
    public string? RequestId { get; init; }

    internal V1.TrainingRequest ToRequest()
    {
        var request = new V1.TrainingRequest
        {
            Algorithm = Hyperparameters.Algorithm,
            ExperimentId = Experiment,
            TotalTimesteps = TotalTimesteps,
            ModelOutputPath = ModelOutputPath ?? "",
            RequestId = RequestId ?? Guid.NewGuid().ToString(),
            CheckpointEveryTimesteps = ToPositive(CheckpointEveryTimesteps, nameof(CheckpointEveryTimesteps)),
        };
        if (Seed is { } seed)
        {
            request.Seed = seed;
        }

        foreach (var (name, value) in Hyperparameters.ToText())
        {
            request.Hyperparameters.Add(name, value);
        }

        if (Environment is not null)
        {
            request.Environment = Environment.ToMessage();
        }

        if (Evaluation is not null)
        {
            request.Evaluation = Evaluation.ToMessage();
        }

        if (StartFrom is not null)
        {
            request.StartFrom = StartFrom.ToMessage();
        }

        if (Demonstrations is not null)
        {
            request.Demonstrations = Demonstrations.ToMessage();
        }

        if (StopWhen is not null)
        {
            request.StopWhen = StopWhen.ToMessage();
        }

        request.Lessons.AddRange(Lessons.Select(lesson => lesson.ToMessage()));
        if (Placement is not null)
        {
            request.Placement = Placement.ToMessage();
        }

        return request;
    }

    /// <summary>0, which the service takes for its default, for null only.</summary>
    internal static uint ToPositive(int? value, string field) => (uint)ToPositive((long?)value, field);

    /// <summary>The same of a large number.</summary>
    internal static long ToPositive(long? value, string field) => value switch
    {
        null => 0,
        > 0 => value.Value,
        _ => throw new ArgumentOutOfRangeException(field, value, $"{field}: must be more than 0, or null for the default"),
    };
}

/// <summary>Episodes played with the policy during training.</summary>
public sealed record EvaluationPlan
{
    /// <summary>Environment steps of training between evaluations; null: the same as between checkpoints.</summary>
    public long? EveryTimesteps { get; init; }

    /// <summary>Episodes in each evaluation, 1 to 10,000; null: 10.</summary>
    public int? Episodes { get; init; }

    /// <summary>Whether actions are sampled from the policy's distribution.</summary>
    public bool Stochastic { get; init; }

    internal V1.Evaluation ToMessage() => new()
    {
        EveryTimesteps = Training.ToPositive(EveryTimesteps, "Evaluation.EveryTimesteps"),
        Episodes = Training.ToPositive(Episodes, "Evaluation.Episodes"),
        Stochastic = Stochastic,
    };
}

/// <summary>What a run can load besides the weights.</summary>
[Flags]
public enum TakenParts
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>The statistics with which observations are normalised; needs the hyperparameter Normalize.</summary>
    Normalization = 1,

    /// <summary>The state of the optimizers; of a checkpoint only.</summary>
    Optimizer = 2,

    /// <summary>The replay buffer; of a checkpoint only.</summary>
    ReplayBuffer = 4,
}

/// <summary>What a run starts from, instead of random weights.</summary>
public sealed record StartingPoint
{
    private StartingPoint()
    {
    }

    private string? Run { get; init; }

    private string Selector { get; init; } = "";

    private bool IsCheckpoint { get; init; }

    private string? Zip { get; init; }

    /// <summary>What to load besides the weights. Default: nothing.</summary>
    public TakenParts Take { get; init; }

    /// <summary>A model of a run.</summary>
    /// <param name="run">The run, by its name.</param>
    /// <param name="selector">latest, best, final, step:N or sha256:DIGEST; null: final if there is one, else latest.</param>
    public static StartingPoint Model(string run, string? selector = null) => new() { Run = run, Selector = selector ?? "" };

    /// <summary>A checkpoint of a run, which has an optimizer and a replay buffer too.</summary>
    /// <param name="run">The run, by its name.</param>
    /// <param name="selector">latest, step:N or sha256:DIGEST.</param>
    /// <exception cref="ArgumentException">The selector is empty.</exception>
    public static StartingPoint Checkpoint(string run, string selector = "latest") => string.IsNullOrEmpty(selector)
        ? throw new ArgumentException("StartFrom.Selector: must be latest, step:N or sha256:DIGEST", nameof(selector))
        : new() { Run = run, Selector = selector, IsCheckpoint = true };

    /// <summary>A zip file that stable-baselines3 has saved.</summary>
    /// <param name="path">Relative to the service's folder of models.</param>
    public static StartingPoint File(string path) => new() { Zip = path };

    internal V1.StartFrom ToMessage()
    {
        var message = new V1.StartFrom
        {
            Run = Run ?? "",
            Model = IsCheckpoint ? "" : Selector,
            Checkpoint = IsCheckpoint ? Selector : "",
            Zip = Zip ?? "",
        };
        var parts = new[]
        {
            (TakenParts.Normalization, V1.TakenPart.Normalization),
            (TakenParts.Optimizer, V1.TakenPart.Optimizer),
            (TakenParts.ReplayBuffer, V1.TakenPart.ReplayBuffer),
        };
        var unknown = Take & ~(TakenParts.Normalization | TakenParts.Optimizer | TakenParts.ReplayBuffer);
        if (unknown != TakenParts.None)
        {
            throw new ArgumentException($"StartFrom.Take: {unknown} is no part of a run");
        }

        message.Take.AddRange(parts.Where(each => Take.HasFlag(each.Item1)).Select(each => each.Item2));
        return message;
    }
}

/// <summary>What ends a run early: whichever of them comes first. The run has succeeded then.</summary>
public sealed record StopRules
{
    /// <summary>A mean return of the last training episodes that is enough, once there have been as many as it is of; null: none.</summary>
    public double? EpisodeRewardMean { get; init; }

    /// <summary>A mean return of an evaluation that is enough; null: none. Needs <see cref="Training.Evaluation"/>.</summary>
    public double? EvaluationRewardMean { get; init; }

    /// <summary>How many times in a row the mean return must be reached; null: once.</summary>
    public int? TimesInARow { get; init; }

    /// <summary>So many evaluations in a row that are not better than the best before them; null: any number.</summary>
    public int? EvaluationsWithoutImprovement { get; init; }

    /// <summary>So much time of training, over all attempts, in whole seconds; null: any.</summary>
    public TimeSpan? TrainingTime { get; init; }

    internal V1.StopWhen ToMessage()
    {
        var message = new V1.StopWhen
        {
            TimesInARow = Training.ToPositive(TimesInARow, "StopWhen.TimesInARow"),
            EvaluationsWithoutImprovement = Training.ToPositive(
                EvaluationsWithoutImprovement, "StopWhen.EvaluationsWithoutImprovement"),
            TrainingSeconds = Training.ToPositive(
                TrainingTime is { } time ? (long?)Math.Ceiling(time.TotalSeconds) : null, "StopWhen.TrainingTime"),
        };
        if (EpisodeRewardMean is { } episode)
        {
            message.EpisodeRewardMean = episode;
        }

        if (EvaluationRewardMean is { } evaluation)
        {
            message.EvaluationRewardMean = evaluation;
        }

        return message;
    }
}

/// <summary>What a run trains against.</summary>
public abstract record TrainingEnvironment
{
    private protected TrainingEnvironment()
    {
    }

    /// <summary>Simulators that the trainer connects to; the environments are distributed over them evenly.</summary>
    /// <param name="addresses">Each <c>HOST:PORT</c>, or <c>dns:///HOST:PORT</c> for every address that the name resolves to.</param>
    public static SimulatorEnvironment Simulator(params string[] addresses) => new() { Addresses = addresses };

    /// <summary>The simulators of a pool, which dial the service instead of being dialled; their number may change while the run trains.</summary>
    /// <param name="name">The pool that they name when they attach.</param>
    public static PoolEnvironment Pool(string name) => new() { Name = name };

    /// <summary>An environment registered with Gymnasium, made inside the trainer.</summary>
    /// <param name="id"><c>CartPole-v1</c>.</param>
    public static GymnasiumEnvironment Gymnasium(string id) => new() { Id = id };

    /// <summary>The small built-in environment of the service, to try it.</summary>
    public static TrainingEnvironment BuiltIn { get; } = new BuiltInEnvironment();

    internal abstract V1.Environment ToMessage();

    private sealed record BuiltInEnvironment : TrainingEnvironment
    {
        internal override V1.Environment ToMessage() => new() { Fake = new V1.FakeEnvironment() };
    }
}

/// <summary>Simulators that implement EnvironmentService.</summary>
public sealed record SimulatorEnvironment : TrainingEnvironment
{
    /// <summary>Each <c>HOST:PORT</c>, or <c>dns:///HOST:PORT</c> for every address that the name resolves to.</summary>
    public required IReadOnlyList<string> Addresses { get; init; }

    /// <summary>The number of environments over all addresses; null: one for each address.</summary>
    public int? Environments { get; init; }

    /// <summary>Options of the simulator: texts, numbers, truth values, null, lists and dictionaries of them.</summary>
    public IReadOnlyDictionary<string, object?>? Options { get; init; }

    internal override V1.Environment ToMessage()
    {
        foreach (var address in Addresses)
        {
            if (address.Contains(',', StringComparison.Ordinal))
            {
                throw new ArgumentException($"Environment.Addresses: \"{address}\" is more than one; pass each by itself");
            }
        }

        return new V1.Environment
        {
            Grpc = new V1.GrpcEnvironment
            {
                Address = string.Join(",", Addresses),
                Environments = Training.ToPositive(Environments, "Environment.Environments"),
                Options = Options is null ? null : OptionValues.ToStruct("Environment.Options", Options),
            },
        };
    }
}

/// <summary>The simulators of a pool, which dial the service (SimulatorPoolService).</summary>
public sealed record PoolEnvironment : TrainingEnvironment
{
    /// <summary>The pool: 1 to 63 lower-case letters, digits and "-".</summary>
    public required string Name { get; init; }

    /// <summary>The maximum number of environments to step together, up to 4,096; null: the hyperparameter n_envs, otherwise all that are free.</summary>
    public int? Environments { get; init; }

    /// <summary>
    /// The fewest, at most <see cref="Environments"/>: the run waits while there are fewer. Null: as many as
    /// <see cref="Environments"/> or n_envs says, otherwise 1.
    /// </summary>
    public int? Minimum { get; init; }

    /// <summary>Options of the simulators: texts, numbers, truth values, null, lists and dictionaries of them.</summary>
    public IReadOnlyDictionary<string, object?>? Options { get; init; }

    internal override V1.Environment ToMessage() => new()
    {
        Pool = new V1.PoolEnvironment
        {
            Name = Name,
            Environments = Training.ToPositive(Environments, "Environment.Environments"),
            Minimum = Training.ToPositive(Minimum, "Environment.Minimum"),
            Options = Options is null ? null : OptionValues.ToStruct("Environment.Options", Options),
        },
    };
}

/// <summary>An environment registered with Gymnasium.</summary>
public sealed record GymnasiumEnvironment : TrainingEnvironment
{
    /// <summary><c>CartPole-v1</c>.</summary>
    public required string Id { get; init; }

    /// <summary>Keyword arguments of gymnasium.make: texts, numbers, truth values, null, lists and dictionaries of them.</summary>
    public IReadOnlyDictionary<string, object?>? Arguments { get; init; }

    internal override V1.Environment ToMessage() => new()
    {
        Gymnasium = new V1.GymnasiumEnvironment
        {
            Id = Id,
            Kwargs = Arguments is null ? null : OptionValues.ToStruct("Environment.Arguments", Arguments),
        },
    };
}

/// <summary>Makes a Struct of plain values, without reflection.</summary>
internal static class OptionValues
{
    public static Struct ToStruct(string path, IEnumerable<KeyValuePair<string, object?>> values)
    {
        var result = new Struct();
        foreach (var (key, value) in values)
        {
            result.Fields.Add(key, ToValue($"{path}[\"{key}\"]", value));
        }

        return result;
    }

    private static Value ToValue(string path, object? value) => value switch
    {
        null => Value.ForNull(),
        string text => Value.ForString(text),
        bool truth => Value.ForBool(truth),
        float or double or decimal or sbyte or byte or short or ushort or int or uint or long or ulong =>
            Value.ForNumber(Convert.ToDouble(value, CultureInfo.InvariantCulture)),
        IEnumerable<KeyValuePair<string, object?>> values => Value.ForStruct(ToStruct(path, values)),
        IEnumerable<object?> list => Value.ForList(list.Select((each, i) => ToValue($"{path}[{i}]", each)).ToArray()),
        System.Collections.IEnumerable list => Value.ForList(list.Cast<object?>().Select((each, i) => ToValue($"{path}[{i}]", each)).ToArray()),
        _ => throw new ArgumentException(
            $"{path}: must be a text, a number, a truth value, null, or a list or dictionary of them, got {value.GetType()}"),
    };
}
