using System;

namespace AISandbox.Simulation;

/// <summary>The reward of a step, and whether the episode ended with it.</summary>
public readonly struct StepResult : IEquatable<StepResult>
{
    private StepResult(double reward, bool terminated, bool truncated, bool waits = false)
    {
        Reward = (float)reward;
        IsTerminated = terminated;
        IsTruncated = truncated;
        WaitsForTick = waits;
    }

    /// <summary>The reward of the step.</summary>
    public float Reward { get; }

    /// <summary>The episode reached a final state (the pole fell): the value of what follows is zero.</summary>
    public bool IsTerminated { get; }

    /// <summary>The episode was cut (a time limit): what would have followed has a value.</summary>
    public bool IsTruncated { get; }

    /// <summary>The step is not over: see <see cref="NextTick"/>.</summary>
    public bool WaitsForTick { get; }

    /// <summary>Whether the episode ended.</summary>
    public bool Ended => IsTerminated || IsTruncated;

    /// <summary>
    /// The step is not over: <see cref="IEnvironment.Step"/> is called again, with the same action and <see cref="StepContext.Tick"/> one
    /// higher, after the engine has moved the world by one tick. Only for a simulator with <see cref="SimulatorOptions.UsePump"/>.
    /// </summary>
    public static StepResult NextTick => new(0, false, false, true);

    /// <summary>The episode continues.</summary>
    public static StepResult Continue(double reward) => new(reward, false, false);

    /// <summary>The episode reached a final state.</summary>
    public static StepResult Terminated(double reward) => new(reward, true, false);

    /// <summary>The episode was cut; a limit of steps is better declared with <see cref="EnvironmentSpecBuilder.MaxEpisodeSteps"/>.</summary>
    public static StepResult Truncated(double reward) => new(reward, false, true);

    internal StepResult Cut() => new(Reward, IsTerminated, true);

    /// <inheritdoc/>
    public bool Equals(StepResult other) =>
        Reward.Equals(other.Reward) && IsTerminated == other.IsTerminated && IsTruncated == other.IsTruncated && WaitsForTick == other.WaitsForTick;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is StepResult other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Reward, IsTerminated, IsTruncated, WaitsForTick);

    /// <summary>Whether both are the same.</summary>
    public static bool operator ==(StepResult left, StepResult right) => left.Equals(right);

    /// <summary>Whether they differ.</summary>
    public static bool operator !=(StepResult left, StepResult right) => !left.Equals(right);
}
