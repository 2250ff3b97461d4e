using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace AISandbox.Simulation;

/// <summary>
/// The environments of one session, with same-step autoreset: an environment whose episode ends begins the next one in the same step.
/// All arrays are allocated once; each call overwrites them. Must not know messages.
/// </summary>
internal sealed class EnvironmentBatch : IDisposable
{
    private readonly EnvironmentRow[] rows;
    private readonly byte[][] finals;
    private readonly double[] metrics;
    private readonly Exception?[] failures;
    private readonly StepThreads? threads;
    private readonly Action<int> stepOne;
    private byte[] actions = [];

    /// <summary>Owns the environments from now on. Throws InvalidSpecException if their specs differ.</summary>
    /// <param name="environments">At least one.</param>
    /// <param name="options">Of the session.</param>
    /// <param name="recorder">Keeps the episodes that fail.</param>
    /// <param name="hasTicks">Whether an engine moves the world: resets and steps may wait for it, and all run in its thread.</param>
    public EnvironmentBatch(IReadOnlyList<IEnvironment> environments, SimulationOptions options, FailureRecorder recorder, bool hasTicks)
    {
        var n = environments.Count;
        Spec = environments[0].Spec ?? throw new InvalidSpecException($"{environments[0].GetType().Name}.Spec is null");
        for (var i = 1; i < n; i++)
            if (!ReferenceEquals(environments[i].Spec, Spec) && !Spec.Message.Equals(environments[i].Spec?.Message))
                throw new InvalidSpecException($"the spec of environment {i} differs from the one of environment 0: all of a session have the same");
        Observations = new ObservationBuffers(Spec, n);
        Masks = new byte[checked(n * Spec.MaskWidth)];
        (Rewards, Terminated, Truncated) = (new byte[4 * n], new byte[n], new byte[n]);
        finals = Array.ConvertAll(Observations.Data, data => new byte[data.Length]);
        metrics = new double[n * Spec.Metrics.Count];
        failures = new Exception?[n];
        rows = new EnvironmentRow[n];
        for (var i = 0; i < n; i++)
            rows[i] = new EnvironmentRow(environments[i], options, Observations, Masks, i, n, recorder, hasTicks);
        stepOne = StepOne;
        if (Spec.StepsInParallel && !hasTicks && n > 1 && Environment.ProcessorCount > 1)
            threads = new StepThreads(Math.Min(n, Environment.ProcessorCount) - 1, Spec.Name);
    }

    public EnvironmentSpec Spec { get; }

    public int Count => rows.Length;

    public ObservationBuffers Observations { get; }

    public byte[] Masks { get; }

    /// <summary>A little-endian float for each environment.</summary>
    public byte[] Rewards { get; }

    public byte[] Terminated { get; }

    public byte[] Truncated { get; }

    /// <summary>How many episodes ended in the last step.</summary>
    public int Ends { get; private set; }

    /// <summary>From its next episode on, the environment has these parameters.</summary>
    public void SetParameters(int environment, SimulationOptions parameters) => rows[environment].NextParameters = parameters;

    /// <summary>
    /// Starts an episode in every environment; without seeds each continues its own sequence of them. False: some wait for a tick,
    /// after which <see cref="Continue"/> comes.
    /// </summary>
    public bool Reset(IReadOnlyList<ulong> seeds)
    {
        for (var i = 0; i < rows.Length; i++)
            rows[i].Reset(seeds.Count > 0 ? seeds[i] : null);
        return !Wait();
    }

    /// <summary>
    /// One step of every environment, with actions that were checked. False: some wait for a tick, after which <see cref="Continue"/> comes.
    /// Throws the EnvironmentFailedException of the first environment that failed.
    /// </summary>
    public bool Step(byte[] checkedActions)
    {
        actions = checkedActions;
        if (threads is null)
        {
            for (var i = 0; i < rows.Length; i++)
                Advance(i);
        }
        else
        {
            threads.Run(rows.Length, stepOne);
            foreach (var failure in failures)
                if (failure is not null)
                    throw failure;
        }
        return CountEnds();
    }

    /// <summary>Continues the calls that waited for a tick. False: some wait for another tick.</summary>
    public bool Continue()
    {
        for (var i = 0; i < rows.Length; i++)
        {
            var row = rows[i];
            if (row.IsResetting)
                row.ContinueReset();
            else if (row.WaitsForTick)
                Finish(i, row.ContinueStep(Action(i)));
        }
        return CountEnds();
    }

    public bool Ended(int environment) => (Terminated[environment] | Truncated[environment]) != 0;

    /// <summary>The last observations of the episodes that ended in the last step, one row after the other.</summary>
    public byte[] Finals(int leaf, int ends)
    {
        var size = Observations.Leaves[leaf].RowBytes;
        var data = new byte[ends * size];
        for (int i = 0, k = 0; i < rows.Length; i++)
            if (Ended(i))
                finals[leaf].AsSpan(i * size, size).CopyTo(data.AsSpan(size * k++));
        return data;
    }

    /// <summary>The metrics of the episode of an environment that ended in the last step.</summary>
    public ReadOnlySpan<double> Metrics(int environment) => metrics.AsSpan(environment * Spec.Metrics.Count, Spec.Metrics.Count);

    public void Dispose()
    {
        threads?.Dispose();
        foreach (var row in rows)
            row.Dispose();
    }

    private void StepOne(int i)
    {
        try
        {
            Advance(i);
        }
        catch (Exception error)
        {
            // Whatever it is: in a thread of its own it would end the process.
            failures[i] = error;
        }
    }

    private void Advance(int i)
    {
        Finish(i, rows[i].Step(Action(i)));
    }

    private ReadOnlySpan<byte> Action(int i) => actions.AsSpan(i * Spec.ActionLeaf.RowBytes, Spec.ActionLeaf.RowBytes);

    private bool Wait()
    {
        foreach (var row in rows)
            if (row.WaitsForTick)
                return true;
        return false;
    }

    private bool CountEnds()
    {
        if (Wait())
            return false;
        Ends = 0;
        for (var i = 0; i < rows.Length; i++)
            Ends += Ended(i) ? 1 : 0;
        return true;
    }

    private void Finish(int i, StepResult result)
    {
        if (result.WaitsForTick)
            return;
        var row = rows[i];
        MemoryMarshal.Cast<byte, float>(Rewards.AsSpan())[i] = result.Reward;
        Terminated[i] = result.IsTerminated ? (byte)1 : (byte)0;
        Truncated[i] = result.IsTruncated ? (byte)1 : (byte)0;
        if (!result.Ended)
            return;
        for (var leaf = 0; leaf < finals.Length; leaf++)
            Observations.Row(leaf, i).CopyTo(finals[leaf].AsSpan(i * Observations.Leaves[leaf].RowBytes));
        row.Metrics.CopyTo(metrics, i * row.Metrics.Length);
        row.Reset(null);
    }
}
