using System;
using System.Globalization;

namespace AISandbox.Simulation;

/// <summary>
/// One environment and its episode: its seed, its steps, its log of actions; checks everything that it returns. All that
/// plays an environment (a session, the runner, the checks) does it through this class.
/// </summary>
internal sealed class EnvironmentRow
{
    private readonly IEnvironment environment;
    private readonly SeededRandom episodeSeeds;
    private readonly byte[] masks;
    private readonly FailureRecorder recorder;
    private readonly int environments;
    private readonly bool hasTicks;

    public EnvironmentRow(
        IEnvironment environment, SimulationOptions options, ObservationBuffers buffers, byte[] masks, int index, int environments,
        FailureRecorder recorder, bool hasTicks = false)
    {
        this.environment = environment;
        (this.masks, this.recorder, this.environments, this.hasTicks) = (masks, recorder, environments, hasTicks);
        (Spec, Options, Buffers, Index) = (buffers.Spec, options, buffers, index);
        Metrics = new double[Spec.Metrics.Count];
        Parameters = NextParameters = Spec.DefaultParameters;
        episodeSeeds = new SeededRandom(BitConverter.ToUInt64(Guid.NewGuid().ToByteArray()));
    }

    public EnvironmentSpec Spec { get; }

    public SimulationOptions Options { get; }

    /// <summary>Those of the episode.</summary>
    public SimulationOptions Parameters { get; private set; }

    /// <summary>Those of the next episode.</summary>
    public SimulationOptions NextParameters { get; set; }

    public ObservationBuffers Buffers { get; }

    /// <summary>The number of the environment, from 0: the row that it writes.</summary>
    public int Index { get; }

    /// <summary>The seed of the episode.</summary>
    public ulong Seed { get; private set; }

    public SeededRandom Random { get; } = new();

    /// <summary>The steps of the episode so far; during a step its number, from 1.</summary>
    public long Steps { get; private set; }

    /// <summary>How many ticks of the engine the reset or step in progress has waited for.</summary>
    public int Tick { get; private set; }

    /// <summary>Whether the reset or step in progress continues after the next tick.</summary>
    public bool WaitsForTick { get; private set; }

    /// <summary>Whether it is a reset that does.</summary>
    public bool IsResetting { get; private set; }

    public double[] Metrics { get; }

    public EpisodeLog Log { get; } = new();

    public ActionMask Mask => new(Spec, MaskRow);

    private Span<byte> MaskRow => masks.AsSpan(Index * Spec.MaskWidth, Spec.MaskWidth);

    /// <summary>
    /// Starts an episode: of this seed, or of the next seed of the environment's own sequence. The seed after a given one is
    /// determined by it, so the same seeds and actions give the same episodes. Throws EnvironmentFailedException.
    /// </summary>
    public void Reset(ulong? seed)
    {
        if (seed is { } given)
        {
            Seed = given;
            episodeSeeds.Reseed(~given); // other numbers than those of the episode
        }
        else
        {
            Seed = episodeSeeds.NextUInt64();
        }
        Random.Reseed(Seed);
        Parameters = NextParameters;
        (Steps, Tick) = (0, 0);
        Log.Clear();
        Array.Clear(Metrics, 0, Metrics.Length);
        Clear();
        CheckSpec();
        CallReset();
    }

    /// <summary>Continues a reset that waited for a tick.</summary>
    public void ContinueReset()
    {
        Tick++;
        CallReset();
    }

    /// <summary>Takes a step with an action that is a value of the action space. Throws EnvironmentFailedException.</summary>
    public StepResult Step(ReadOnlySpan<byte> action)
    {
        Log.Append(action);
        Clear();
        Steps++;
        Tick = 0;
        return CallStep(action);
    }

    /// <summary>Continues a step that waited for a tick.</summary>
    public StepResult ContinueStep(ReadOnlySpan<byte> action)
    {
        Tick++;
        return CallStep(action);
    }

    public void WaitForTick() => WaitsForTick = true;

    public void Dispose() => (environment as IDisposable)?.Dispose();

    private void CallReset()
    {
        (IsResetting, WaitsForTick) = (true, false);
        try
        {
            environment.Reset(new ResetContext(this));
        }
        catch (Exception error)
        {
            throw Failure($"Reset threw {error.GetType().Name}: {error.Message}", error);
        }
        if (WaitsForTick)
        {
            CheckTicks("Reset called WaitForTick");
            return;
        }
        IsResetting = false;
        Check();
    }

    private StepResult CallStep(ReadOnlySpan<byte> action)
    {
        StepResult result;
        try
        {
            result = environment.Step(new StepContext(this, action));
        }
        catch (Exception error)
        {
            throw Failure($"Step threw {error.GetType().Name}: {error.Message}", error);
        }
        WaitsForTick = result.WaitsForTick;
        if (WaitsForTick)
        {
            CheckTicks("Step returned NextTick");
            return result;
        }
        if (Spec.MaxEpisodeSteps > 0 && Steps >= Spec.MaxEpisodeSteps && !result.IsTerminated)
            result = result.Cut();
        Check();
        if (!float.IsFinite(result.Reward))
            throw Failure($"the reward is {result.Reward.ToString(CultureInfo.InvariantCulture)}, which is not a finite float", null);
        if (result.Ended)
            CheckMetrics();
        return result;
    }

    private void CheckTicks(string what)
    {
        if (!hasTicks)
            throw Failure($"{what}, and there are no ticks here: they are the calls of Simulator.Pump, with SimulatorOptions.UsePump", null);
    }

    private void Clear()
    {
        Buffers.Clear(Index);
        if (Spec.HasActionMasks)
            MaskRow.Fill(1);
    }

    private void CheckSpec()
    {
        EnvironmentSpec? spec;
        try
        {
            spec = environment.Spec;
        }
        catch (Exception error)
        {
            throw Failure($"Spec threw {error.GetType().Name}: {error.Message}", error);
        }
        if (!ReferenceEquals(spec, Spec) && !Spec.Message.Equals(spec?.Message))
            throw Failure("Spec changed: it is the same for the whole life of an environment", null);
    }

    private void Check()
    {
        if (Buffers.Problem(Index) is { } problem)
            throw Failure(problem, null);
        if (Spec.HasActionMasks && ActionMask.Problem(Spec, MaskRow) is { } wrongMask)
            throw Failure(wrongMask, null);
    }

    private void CheckMetrics()
    {
        for (var i = 0; i < Metrics.Length; i++)
            if (!double.IsFinite(Metrics[i]))
                throw Failure($"metric '{Spec.Metrics[i]}' is {Metrics[i].ToString(CultureInfo.InvariantCulture)}, which is not finite", null);
    }

    private EnvironmentFailedException Failure(string problem, Exception? error)
    {
        var when = Steps == 0 ? "at the reset" : $"step {Steps.ToString(CultureInfo.InvariantCulture)}";
        var what = FormattableString.Invariant($"environment {Index} of {environments}, seed {Seed}, {when}: {problem}");
        var path = recorder.Write(this, what);
        var message = path is null ? what : $"{what}. EpisodeRecording.Load(\"{path}\") replays the episode";
        return new EnvironmentFailedException(message, error, Index, Seed, Steps, path);
    }
}
