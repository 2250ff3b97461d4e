using System;
using System.Collections.Generic;
using System.Globalization;
using System.Threading;
using System.Threading.Tasks;

namespace AISandbox.Simulation;

/// <summary>How <see cref="EnvironmentRunner.PlayAsync"/> plays.</summary>
public sealed class PlayOptions
{
    /// <summary>The seed of the episode; null: a new one.</summary>
    public ulong? Seed { get; init; }

    /// <summary>
    /// How many seconds of the environment pass in a second: 1 is its own pace, as <see cref="EnvironmentSpec.SecondsPerStep"/> says;
    /// infinity is as fast as it goes.
    /// </summary>
    public double Speed { get; init; } = 1;

    /// <summary>Called after the reset and after every step: to draw.</summary>
    public Action<EnvironmentRunner>? OnStep { get; init; }

    /// <summary>The clock.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;
}

/// <summary>
/// Plays one environment in this process, by an agent or by hand, through the checks and with the masks, seeds and limits of training.
/// Not for two threads at once.
/// </summary>
public sealed class EnvironmentRunner : IDisposable
{
    private readonly EnvironmentRow row;
    private readonly byte[] action;
    private readonly bool[] written = new bool[1];
    private bool wasReset;
    private StepResult last;
    private double reward;

    /// <summary>A runner for this environment, with the defaults of the options that its spec declares.</summary>
    public EnvironmentRunner(IEnvironment environment) : this(environment, new Dictionary<string, object>()) { }

    /// <summary>
    /// A runner with these options: long, double, string or bool. Throws <see cref="InvalidOptionException"/> for those that the spec does not
    /// declare.
    /// </summary>
    public EnvironmentRunner(IEnvironment environment, IReadOnlyDictionary<string, object> options)
    {
        Spec = environment.Spec ?? throw new InvalidSpecException($"{environment.GetType().Name}.Spec is null");
        var buffers = new ObservationBuffers(Spec, 1);
        row = new EnvironmentRow(
            environment, OptionDeclaration.Read(Spec.Options, options), buffers, new byte[Spec.MaskWidth], 0, 1, FailureRecorder.None);
        action = new byte[Spec.ActionLeaf.RowBytes];
    }

    /// <summary>The spec of the environment.</summary>
    public EnvironmentSpec Spec { get; }

    /// <summary>The seed of the episode.</summary>
    public ulong Seed => row.Seed;

    /// <summary>The number of steps of the episode so far.</summary>
    public long Steps => row.Steps;

    /// <summary>Whether the episode has ended; then <see cref="Reset"/> comes next.</summary>
    public bool Ended => last.Ended;

    /// <summary>What is observed now.</summary>
    public ObservationReader Observation => new(row.Buffers, 0);

    /// <summary>Which actions are allowed now.</summary>
    public ActionMask Mask => row.Mask;

    /// <summary>The next action, to be written before <see cref="Step()"/>.</summary>
    public ValueWriter Action => new(Spec.ActionLeaf, action, written, "the action");

    /// <summary>What the episode has come to so far.</summary>
    public EpisodeResult Result
    {
        get
        {
            var metrics = new Dictionary<string, double>();
            for (var i = 0; i < row.Metrics.Length; i++)
                metrics[Spec.Metrics[i]] = row.Metrics[i];
            return new EpisodeResult(Seed, Steps, reward, last.IsTerminated, last.IsTruncated, metrics);
        }
    }

    /// <summary>
    /// Starts an episode, of this seed or of a new one. Throws <see cref="EnvironmentFailedException"/>, and
    /// <see cref="InvalidOptionException"/> for parameters that the spec does not declare or that are out of their range.
    /// </summary>
    /// <param name="seed">Null: a new one.</param>
    /// <param name="parameters">Of the episode, by name; those that are missing have their defaults. Null: all have.</param>
    public void Reset(ulong? seed = null, IReadOnlyDictionary<string, object>? parameters = null)
    {
        row.NextParameters = parameters is null
            ? Spec.DefaultParameters : OptionDeclaration.Read(Spec.ParameterDeclarations, parameters, "parameter");
        (last, reward, wasReset, written[0]) = (default, 0, false, false);
        row.Reset(seed);
        wasReset = true;
    }

    /// <summary>
    /// Takes a step with the action that was written. Throws <see cref="EnvironmentFailedException"/>,
    /// <see cref="ArgumentException"/> for an action outside its space, and <see cref="InvalidOperationException"/> without a reset before it.
    /// </summary>
    public StepResult Step()
    {
        if (!wasReset)
            throw new InvalidOperationException("the first step needs a reset before it");
        if (Ended)
            throw new InvalidOperationException("the episode has ended: call Reset");
        var leaf = Spec.ActionLeaf;
        var problem = written[0] ? leaf.Problem(action) ?? leaf.OutOfBounds(action, 0) : "was not written";
        written[0] = false;
        if (problem is not null)
            throw new ArgumentException($"the action, {problem}");
        last = row.Step(action);
        reward += last.Reward;
        return last;
    }

    /// <summary>Takes a step with this action, a number for each of its elements.</summary>
    public StepResult Step(params ReadOnlySpan<double> values)
    {
        Action.Write(values);
        return Step();
    }

    /// <summary>Takes a step with the action of an agent.</summary>
    public StepResult Step(IAgent agent)
    {
        agent.Act(new AgentContext(this));
        return Step();
    }

    /// <summary>Plays an episode to its end, as fast as it goes.</summary>
    public EpisodeResult Play(IAgent agent, ulong? seed = null)
    {
        Reset(seed);
        while (!Ended)
            Step(agent);
        return Result;
    }

    /// <summary>Plays an episode to its end at a pace; a step that was late is not made up for.</summary>
    public async Task<EpisodeResult> PlayAsync(IAgent agent, PlayOptions? options = null, CancellationToken cancellationToken = default)
    {
        options ??= new PlayOptions();
        var pause = Pause(options.Speed);
        Reset(options.Seed);
        options.OnStep?.Invoke(this);
        var due = options.Time.GetTimestamp();
        while (!Ended)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (pause > TimeSpan.Zero)
            {
                var late = options.Time.GetElapsedTime(due);
                if (late < pause)
                    await Wait(pause - late, options.Time, cancellationToken).ConfigureAwait(true); // the caller's context: an engine's thread
                due = options.Time.GetTimestamp();
            }
            Step(agent);
            options.OnStep?.Invoke(this);
        }
        return Result;
    }

    /// <summary>The episode so far, to be saved or played again.</summary>
    public EpisodeRecording Record() => EpisodeRecording.Of(row, "");

    /// <summary>The first element of the observation that is outside its bounds, in words.</summary>
    internal string? OutOfBounds(double tolerance)
    {
        for (var i = 0; i < row.Buffers.Leaves.Length; i++)
            if (row.Buffers.Leaves[i].OutOfBounds(row.Buffers.Row(i, 0), tolerance) is { } problem)
                return $"seed {Seed}, after {Steps} steps: {row.Buffers.Whats[i]}, {problem}";
        return null;
    }

    /// <summary>Everything that is seen after a step, as a text to be compared.</summary>
    internal string State(StepResult result)
    {
        var parts = new List<string> { $"{result.Reward:R} {result.IsTerminated} {result.IsTruncated}" };
        for (var i = 0; i < row.Buffers.Leaves.Length; i++)
            parts.Add(Convert.ToBase64String(row.Buffers.Row(i, 0)));
        if (Spec.HasActionMasks)
            parts.Add(Convert.ToBase64String(Mask.AsSpan()));
        return string.Join(' ', parts);
    }

    /// <summary>Disposes of the environment.</summary>
    public void Dispose() => row.Dispose();

    private static Task Wait(TimeSpan time, TimeProvider clock, CancellationToken cancellationToken) =>
#if NET
        Task.Delay(time, clock, cancellationToken);
#else
        clock.Delay(time, cancellationToken);
#endif

    private TimeSpan Pause(double speed)
    {
        if (double.IsPositiveInfinity(speed))
            return TimeSpan.Zero;
        if (!(speed > 0))
            throw new ArgumentException($"Speed: more than 0, not {speed.ToString(CultureInfo.InvariantCulture)}");
        if (Spec.SecondsPerStep == 0)
            throw new ArgumentException("Speed: the spec does not say how long a step is; add SecondsPerStep(0.02) to it, or play at Speed = infinity");
        return TimeSpan.FromSeconds(Spec.SecondsPerStep / speed);
    }
}
