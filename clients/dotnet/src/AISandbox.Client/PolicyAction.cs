using System;
using System.Collections.Generic;

namespace AISandbox.Client;

/// <summary>Which of a run's models answers.</summary>
public readonly struct ModelSelector : IEquatable<ModelSelector>
{
    private readonly string? _text;

    private ModelSelector(string text) => _text = text;

    /// <summary>The newest published model; the default.</summary>
    public static ModelSelector Latest => default;

    /// <summary>The best one so far.</summary>
    public static ModelSelector Best { get; } = new("best");

    /// <summary>The one published when the run succeeded.</summary>
    public static ModelSelector Final { get; } = new("final");

    /// <summary>The one published at that timestep.</summary>
    /// <param name="timesteps">The environment steps that it was trained with.</param>
    public static ModelSelector Step(long timesteps) => new(FormattableString.Invariant($"step:{timesteps}"));

    /// <summary>One as the service writes it: <c>latest</c>, <c>best</c>, <c>final</c>, <c>step:20000</c> or <c>sha256:...</c>.</summary>
    /// <param name="text">The selector.</param>
    public static ModelSelector Parse(string text) => new(text);

    /// <inheritdoc/>
    public override string ToString() => _text ?? "";

    /// <inheritdoc/>
    public bool Equals(ModelSelector other) => ToString() == other.ToString();

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is ModelSelector other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => StringComparer.Ordinal.GetHashCode(ToString());

    /// <summary>Whether both are the same.</summary>
    public static bool operator ==(ModelSelector left, ModelSelector right) => left.Equals(right);

    /// <summary>Whether they differ.</summary>
    public static bool operator !=(ModelSelector left, ModelSelector right) => !left.Equals(right);
}

/// <summary>The action of a policy for one observation.</summary>
public readonly struct PolicyAction
{
    private readonly V1.ActResponse _response;

    internal PolicyAction(V1.ActResponse response) => _response = response;

    /// <summary>One number for each dimension of the action space.</summary>
    public IReadOnlyList<float> Values => _response.Action;

    /// <summary>The only number of a Discrete action.</summary>
    public int Discrete => _response.Action.Count == 1
        ? (int)_response.Action[0]
        : throw new InvalidOperationException($"the action has {_response.Action.Count} numbers; a Discrete action has one");

    /// <summary>The digest of the model that answered.</summary>
    public string Model => _response.Model;

    /// <summary>The environment steps that the model was trained with.</summary>
    public long ModelTimesteps => _response.ModelTimesteps;

    /// <summary>
    /// Of a recurrent policy: what the next observation of the same episode is asked with, see
    /// <see cref="TrainingRunHandle.ActInEpisodeAsync"/>. Empty for a policy that is not recurrent.
    /// </summary>
    public ReadOnlyMemory<byte> State => _response.State.Memory;

    /// <summary>Copies the numbers, for example into an array of the caller that is used again.</summary>
    /// <param name="destination">As long as the action, or longer.</param>
    /// <exception cref="ArgumentException">It is shorter.</exception>
    public void CopyTo(Span<float> destination)
    {
        if (destination.Length < _response.Action.Count)
        {
            throw new ArgumentException($"must have at least {_response.Action.Count} elements, has {destination.Length}", nameof(destination));
        }

        for (var i = 0; i < _response.Action.Count; i++)
        {
            destination[i] = _response.Action[i];
        }
    }
}

/// <summary>The actions of a policy for many observations.</summary>
public sealed class ActionBatch
{
    private readonly float[] _values;

    internal ActionBatch(float[] values, int count, string model, long modelTimesteps, IReadOnlyList<ReadOnlyMemory<byte>> states) =>
        (_values, Count, Model, ModelTimesteps, States) = (values, count, model, modelTimesteps, states);

    /// <summary>How many there are: as many as observations.</summary>
    public int Count { get; }

    /// <summary>How many numbers each has: one for each dimension of the action space.</summary>
    public int Width => _values.Length / Count;

    /// <summary>The digest of the model that answered all of them.</summary>
    public string Model { get; }

    /// <summary>The environment steps that the model was trained with.</summary>
    public long ModelTimesteps { get; }

    /// <summary>Of a recurrent policy: one for each action, as of <see cref="PolicyAction.State"/>. Empty otherwise.</summary>
    public IReadOnlyList<ReadOnlyMemory<byte>> States { get; }

    /// <summary>The numbers of one action, as of <see cref="PolicyAction.Values"/>.</summary>
    /// <param name="index">From 0 to <see cref="Count"/> - 1.</param>
    public ReadOnlySpan<float> this[int index] => (uint)index < (uint)Count
        ? _values.AsSpan(index * Width, Width)
        : throw new ArgumentOutOfRangeException(nameof(index), index, $"must be from 0 to {Count - 1}");
}
