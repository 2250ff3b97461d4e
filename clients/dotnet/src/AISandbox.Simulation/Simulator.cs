using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.Diagnostics;
using System.IO;
using System.Threading;
using Grpc.Core;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace AISandbox.Simulation;

/// <summary>How a simulator is served.</summary>
public sealed class SimulatorOptions
{
    /// <summary>The most environments of all its sessions together; 0: no limit.</summary>
    public int Capacity { get; set; }

    /// <summary>
    /// The folder where the episodes are recorded that end because an environment failed, at most 20 of a process; null: they are not.
    /// </summary>
    public string? FailedEpisodesDirectory { get; set; } = Path.Combine(Path.GetTempPath(), "aisandbox", "failed-episodes");

    /// <summary>
    /// Requests that take longer, several in a row or a single one that takes 200 times as long, move their session from the thread pool
    /// to a thread of its own, so that long steps leave the pool to other work.
    /// </summary>
    public TimeSpan LongRequestThreshold { get; set; } = TimeSpan.FromMilliseconds(5);

    /// <summary>
    /// For how long trainers are asked to wait for each reply at least, up to a day, so that a breakpoint or a pause does not end a run;
    /// zero: for as long as they wait by themselves, a minute for a step. Null: an hour if a debugger is attached when a session opens, else zero.
    /// </summary>
    public TimeSpan? ReplyTimeout { get; set; }

    /// <summary>Whether a debugger is attached; replaced in tests.</summary>
    internal Func<bool> HasDebugger { get; set; } = () => Debugger.IsAttached;

    /// <summary>What a session that opens now asks for.</summary>
    internal TimeSpan AskedReplyTimeout => ReplyTimeout ?? (HasDebugger() ? TimeSpan.FromHours(1) : TimeSpan.Zero);

    /// <summary>
    /// Environments run only within <see cref="Simulator.Pump"/>, in the thread that calls it: for engines whose objects belong to their own
    /// thread. A spec's <see cref="EnvironmentSpecBuilder.StepsInParallel"/> has no effect then.
    /// </summary>
    public bool UsePump { get; set; }

    /// <summary>The earlier name of <see cref="FailedEpisodesDirectory"/>.</summary>
    [Obsolete("Use FailedEpisodesDirectory."), EditorBrowsable(EditorBrowsableState.Never)]
    public string? FailedEpisodes
    {
        get => FailedEpisodesDirectory;
        set => FailedEpisodesDirectory = value;
    }

    /// <summary>The earlier name of <see cref="LongRequestThreshold"/>.</summary>
    [Obsolete("Use LongRequestThreshold."), EditorBrowsable(EditorBrowsableState.Never)]
    public TimeSpan LongRequest
    {
        get => LongRequestThreshold;
        set => LongRequestThreshold = value;
    }

    /// <summary>The earlier name of <see cref="UsePump"/>.</summary>
    [Obsolete("Use UsePump."), EditorBrowsable(EditorBrowsableState.Never)]
    public bool Pumped
    {
        get => UsePump;
        set => UsePump = value;
    }

    /// <summary>How long a request waits for <see cref="Simulator.Pump"/> before that is logged.</summary>
    internal TimeSpan PumpPatience { get; set; } = TimeSpan.FromSeconds(10);
}

/// <summary>
/// Environments of one kind, to be trained against: what EnvironmentService (environment.proto) describes, without the network. The
/// server of AISandbox.Simulation.AspNetCore, and every other transport, opens its sessions here.
/// </summary>
public sealed partial class Simulator
{
    private readonly Func<SimulationOptions, IEnvironment> create;
    private readonly FailureRecorder recorder;
    private int inUse;

    /// <summary>
    /// A simulator of the environments that <paramref name="create"/> makes; it is called once at once, to read the spec, and once for
    /// each environment of each session. Throws <see cref="InvalidSpecException"/>.
    /// </summary>
    public Simulator(Func<IEnvironment> create, SimulatorOptions? options = null, ILogger? logger = null)
        : this(ReadSpec(create), _ => create(), options, logger) { }

    /// <summary>
    /// A simulator of environments that are made with the options of their session, which <paramref name="spec"/> declares. Their own
    /// spec may depend on the options.
    /// </summary>
    public Simulator(
        EnvironmentSpec spec, Func<SimulationOptions, IEnvironment> create, SimulatorOptions? options = null, ILogger? logger = null)
    {
        Spec = spec;
        this.create = create;
        Options = options ?? new SimulatorOptions();
        if (Options.Capacity < 0)
            throw new ArgumentException($"Capacity: must not be negative, got {Options.Capacity}; 0 means no limit");
        if (Options.ReplyTimeout is { } timeout && (timeout < TimeSpan.Zero || timeout > TimeSpan.FromDays(1)))
            throw new ArgumentException($"ReplyTimeout: must be from 0 to a day, got {timeout}");
        Logger = logger ?? NullLogger.Instance;
        recorder = new FailureRecorder(Options.FailedEpisodesDirectory);
        SessionPump = Options.UsePump ? new SessionPump(Options.PumpPatience, Logger) : null;
        if (!BitConverter.IsLittleEndian)
            throw new PlatformNotSupportedException("elements travel as little-endian numbers, and this platform has others");
    }

    /// <summary>The spec of a session that is opened without options.</summary>
    public EnvironmentSpec Spec { get; }

    /// <summary>The number of environments that open sessions have.</summary>
    public int InUse => Volatile.Read(ref inUse);

    internal SimulatorOptions Options { get; }

    internal ILogger Logger { get; }

    internal SessionPump? SessionPump { get; }

    /// <summary>The reply to Describe.</summary>
    public V1.DescribeResponse Describe() => new()
    {
        ProtocolVersion = SimulatorSession.ProtocolVersion,
        Name = Spec.Name,
        Version = Spec.Version,
        Spec = Spec.ToContract(),
        Capacity = (uint)Options.Capacity,
        InUse = (uint)InUse,
    };

    /// <summary>A session whose first request has not come yet. Dispose of it when its stream ends.</summary>
    public SimulatorSession CreateSession() => new(this);

    /// <summary>
    /// One tick of an engine, for a simulator with <see cref="SimulatorOptions.UsePump"/>: goes on with the steps that have waited for it
    /// (<see cref="StepResult.NextTick"/>), then makes, resets, steps and disposes of environments as requests that have come ask for it. Call it in
    /// every physics tick, from Unity's FixedUpdate or Godot's _PhysicsProcess. It never waits for the network, unless <paramref name="wait"/> says so.
    /// Exceptions of environments end their session, and are not thrown here.
    /// </summary>
    /// <param name="wait">
    /// For how long to wait for a request while a session is open and no step waits for the next tick. Then no tick passes between the reply to
    /// a step and the next action, if the trainer answers in this time.
    /// </param>
    /// <returns>
    /// Whether a step waits for the next tick. If not, the trainer has not said yet what to do next, and an engine that can hold its world still
    /// may do so.
    /// </returns>
    /// <exception cref="InvalidOperationException">The simulator does not use Pump, or Pump is running.</exception>
    public bool Pump(TimeSpan wait = default) =>
        (SessionPump ?? throw new InvalidOperationException("Pump needs a simulator with SimulatorOptions.UsePump = true")).Run(wait);

    /// <summary>Takes environments. Throws RpcException with RESOURCE_EXHAUSTED if fewer are free.</summary>
    internal void Reserve(int environments)
    {
        // Nothing is taken before it is known to be free: a session that is refused must not refuse another.
        var held = Volatile.Read(ref inUse);
        while (Options.Capacity == 0 || environments <= Options.Capacity - held)
        {
            var seen = Interlocked.CompareExchange(ref inUse, held + environments, held);
            if (seen == held)
                return;
            held = seen;
        }
        throw new RpcException(new Status(
            StatusCode.ResourceExhausted, $"{environments} environments were requested and {Options.Capacity - held} of {Options.Capacity} are free"));
    }

    internal void Release(int environments) => Interlocked.Add(ref inUse, -environments);

    /// <summary>The environments of a session. Throws what making one throws; those made before are then disposed of.</summary>
    internal EnvironmentBatch Make(int environments, SimulationOptions options)
    {
        var made = new List<IEnvironment>(Math.Min(environments, 1024));
        try
        {
            for (var i = 0; i < environments; i++)
                made.Add(create(options));
            return new EnvironmentBatch(made, options, recorder, SessionPump is not null);
        }
        catch
        {
            foreach (var environment in made)
                (environment as IDisposable)?.Dispose();
            throw;
        }
    }

    private static EnvironmentSpec ReadSpec(Func<IEnvironment> create)
    {
        var environment = create();
        try
        {
            return environment.Spec ?? throw new InvalidSpecException($"{environment.GetType().Name}.Spec is null");
        }
        finally
        {
            (environment as IDisposable)?.Dispose();
        }
    }
}
