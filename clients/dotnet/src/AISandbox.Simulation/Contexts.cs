using System;

namespace AISandbox.Simulation;

/// <summary>What <see cref="IEnvironment.Reset"/> gets: valid until it returns.</summary>
public readonly ref struct ResetContext
{
    private readonly EnvironmentRow row;

    internal ResetContext(EnvironmentRow row) => this.row = row;

    /// <summary>The seed of this episode: the same one gives the same episode.</summary>
    public ulong Seed => row.Seed;

    /// <summary>A random generator that was made of the seed.</summary>
    public Random Random => row.Random;

    /// <summary>The options of the session.</summary>
    public SimulationOptions Options => row.Options;

    /// <summary>The parameters of this episode, which the spec declares and the lessons of a run choose.</summary>
    public SimulationOptions Parameters => row.Parameters;

    /// <summary>The first observation, to be written.</summary>
    public ObservationWriter Observation => new(row.Buffers, row.Index);

    /// <summary>Which actions are allowed first.</summary>
    public ActionMask Mask => row.Mask;

    /// <summary>How many ticks of the engine this reset has waited for.</summary>
    public int Tick => row.Tick;

    /// <summary>
    /// The reset is not over: <see cref="IEnvironment.Reset"/> is called again, with <see cref="Tick"/> one higher, after the engine has
    /// moved the world by one tick. Only for a simulator with <see cref="SimulatorOptions.UsePump"/>.
    /// </summary>
    public void WaitForTick() => row.WaitForTick();
}

/// <summary>What <see cref="IEnvironment.Step"/> gets: valid until it returns.</summary>
public readonly ref struct StepContext
{
    private readonly EnvironmentRow row;
    private readonly ReadOnlySpan<byte> action;

    internal StepContext(EnvironmentRow row, ReadOnlySpan<byte> action)
    {
        this.row = row;
        this.action = action;
    }

    /// <summary>The action, which is a value of the action space.</summary>
    public ValueReader Action => new(row.Spec.ActionLeaf, action, "the action");

    /// <summary>The number of this step in its episode, from 1.</summary>
    public long StepNumber => row.Steps;

    /// <summary>How many ticks of the engine this step has waited for: see <see cref="StepResult.NextTick"/>.</summary>
    public int Tick => row.Tick;

    /// <summary>The random generator of the episode.</summary>
    public Random Random => row.Random;

    /// <summary>The observation after the step, to be written.</summary>
    public ObservationWriter Observation => new(row.Buffers, row.Index);

    /// <summary>Which actions are allowed next.</summary>
    public ActionMask Mask => row.Mask;

    /// <summary>The numbers that the episode ends with.</summary>
    public EpisodeMetrics Metrics => new(row.Spec, row.Metrics);
}

/// <summary>The numbers that an episode ends with: those that the spec declares, each 0 when the episode begins.</summary>
public readonly ref struct EpisodeMetrics
{
    private readonly EnvironmentSpec spec;
    private readonly double[] values;

    internal EpisodeMetrics(EnvironmentSpec spec, double[] values) => (this.spec, this.values) = (spec, values);

    /// <summary>A number, to be read and written. Throws <see cref="ArgumentException"/> if the spec declares none of that name.</summary>
    public ref double this[string name]
    {
        get
        {
            for (var i = 0; i < values.Length; i++)
                if (spec.Metrics[i] == name)
                    return ref values[i];
            throw new ArgumentException(values.Length == 0
                ? $"metric '{name}': the spec declares no metrics; add Metrics(\"{name}\") to it"
                : $"metric '{name}' is not declared in the spec, which has '{string.Join("', '", spec.Metrics)}'");
        }
    }
}
