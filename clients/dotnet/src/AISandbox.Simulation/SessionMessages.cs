using System;
using System.Collections.Generic;
using Google.Protobuf;
using Google.Protobuf.Collections;
using Google.Protobuf.WellKnownTypes;

namespace AISandbox.Simulation;

/// <summary>
/// A batch as messages of the contract. The replies are made once and show the batch's arrays, so that a step allocates only when an
/// episode ends.
/// </summary>
internal sealed class SessionMessages
{
    private readonly V1.ResetReply resetReply = new();
    private readonly V1.StepReply stepReply = new();
    private readonly V1.SimulatorReply reset;
    private readonly V1.SimulatorReply step;
    private readonly byte[] actions;
    private bool steps;

    public SessionMessages(EnvironmentBatch batch)
    {
        Batch = batch;
        actions = new byte[checked(batch.Count * batch.Spec.ActionLeaf.RowBytes)];
        for (var i = 0; i < batch.Observations.Leaves.Length; i++)
        {
            var tensor = Tensors.View(batch.Observations.Leaves[i], batch.Count, batch.Observations.Data[i]);
            resetReply.Observations.Add(tensor);
            stepReply.Observations.Add(tensor);
        }
        stepReply.Rewards = UnsafeByteOperations.UnsafeWrap(batch.Rewards);
        stepReply.Terminated = UnsafeByteOperations.UnsafeWrap(batch.Terminated);
        stepReply.Truncated = UnsafeByteOperations.UnsafeWrap(batch.Truncated);
        resetReply.ActionMasks = stepReply.ActionMasks = UnsafeByteOperations.UnsafeWrap(batch.Masks);
        reset = new V1.SimulatorReply { Reset = resetReply };
        step = new V1.SimulatorReply { Step = stepReply };
    }

    public EnvironmentBatch Batch { get; }

    /// <summary>Starts an episode in every environment; null: some wait for a tick.</summary>
    public V1.SimulatorReply? Reset(RepeatedField<ulong> seeds)
    {
        steps = false;
        return Reply(Batch.Reset(seeds));
    }

    /// <summary>Continues the calls that waited for a tick; null: some wait for another tick.</summary>
    public V1.SimulatorReply? Continue() => Reply(Batch.Continue());

    /// <summary>Keeps the actions of the next step; what is wrong with them, in words, null if nothing is.</summary>
    public string? ReadActions(V1.Tensor? tensor)
    {
        var leaf = Batch.Spec.ActionLeaf;
        if (Tensors.Problem(tensor, leaf, Batch.Count) is { } problem)
            return problem;
        var data = tensor!.Data.Span;
        for (var i = 0; i < Batch.Count; i++)
        {
            var row = data.Slice(i * leaf.RowBytes, leaf.RowBytes);
            if ((leaf.Problem(row) ?? leaf.OutOfBounds(row, 0)) is { } wrong)
                return $"environment {i}, {wrong}";
        }
        data.CopyTo(actions);
        return null;
    }

    /// <summary>
    /// Gives environments the parameters of their next episodes: all of them those of <paramref name="all"/> if it is there, and
    /// then single ones. What is wrong with them, in words, and nothing is changed; null if nothing is.
    /// </summary>
    public string? ReadParameters(Struct? all, MapField<uint, Struct> single, string field)
    {
        if (all is null && single.Count == 0)
            return null;
        var declared = Batch.Spec.ParameterDeclarations;
        var where = "reset.parameters";
        try
        {
            var common = all is null ? null : OptionDeclaration.Read(declared, all, "parameter");
            var read = new List<(int, SimulationOptions)>();
            foreach (var (environment, values) in single)
            {
                where = FormattableString.Invariant($"{field}[{environment}]");
                if (environment >= Batch.Count)
                    return FormattableString.Invariant($"{where}: the environments are numbered from 0 to {Batch.Count - 1}");
                read.Add(((int)environment, OptionDeclaration.Read(declared, values, "parameter")));
            }
            for (var i = 0; common is not null && i < Batch.Count; i++)
                Batch.SetParameters(i, common);
            foreach (var (environment, parameters) in read)
                Batch.SetParameters(environment, parameters);
            return null;
        }
        catch (InvalidOptionException error)
        {
            return $"{where}: {error.Message}";
        }
    }

    /// <summary>One step of every environment with the actions that were read; null: some wait for a tick.</summary>
    public V1.SimulatorReply? Step()
    {
        steps = true;
        stepReply.FinalObservations.Clear();
        stepReply.EpisodeMetrics.Clear();
        return Reply(Batch.Step(actions));
    }

    private V1.SimulatorReply? Reply(bool isOver)
    {
        if (!isOver)
            return null;
        if (!steps)
            return reset;
        if (Batch.Ends > 0)
            AddEnds(Batch.Ends);
        return step;
    }

    private void AddEnds(int ends)
    {
        for (var i = 0; i < Batch.Observations.Leaves.Length; i++)
            stepReply.FinalObservations.Add(Tensors.View(Batch.Observations.Leaves[i], ends, Batch.Finals(i, ends)));
        IReadOnlyList<string> names = Batch.Spec.Metrics;
        if (names.Count == 0)
            return;
        for (var i = 0; i < Batch.Count; i++)
        {
            if (!Batch.Ended(i))
                continue;
            var metrics = new V1.EpisodeMetrics { Environment = (uint)i };
            var values = Batch.Metrics(i);
            for (var j = 0; j < names.Count; j++)
                metrics.Values[names[j]] = values[j];
            stepReply.EpisodeMetrics.Add(metrics);
        }
    }
}
