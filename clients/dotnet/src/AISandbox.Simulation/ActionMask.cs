using System;

namespace AISandbox.Simulation;

/// <summary>
/// Which actions are allowed next. At every reset and before every step all are allowed; at least one must remain (of a
/// MultiDiscrete and a MultiBinary, one value of each dimension). Throws <see cref="InvalidOperationException"/> if the spec declares
/// no masks.
/// </summary>
public readonly ref struct ActionMask
{
    private readonly EnvironmentSpec spec;
    private readonly Span<byte> row;

    internal ActionMask(EnvironmentSpec spec, Span<byte> row)
    {
        this.spec = spec;
        this.row = row;
    }

    /// <summary>
    /// One byte for each action, 0 or 1; for a MultiDiscrete those of all its dimensions, one after the other; for a MultiBinary two
    /// for each bit: whether it may be 0, and whether it may be 1.
    /// </summary>
    public Span<byte> AsSpan() => spec.HasActionMasks
        ? row
        : throw new InvalidOperationException("the spec declares no masks: add ActionMasks() to it");

    /// <summary>Forbids a number of a Discrete.</summary>
    public void Forbid(long action) => Of(action) = 0;

    /// <summary>Forbids the member of an enum.</summary>
    public void Forbid<TEnum>(TEnum action) where TEnum : unmanaged, Enum => Forbid(EnumNumber.Of(action));

    /// <summary>Forbids a value of one dimension of a MultiDiscrete, or of one bit of a MultiBinary.</summary>
    public void Forbid(int dimension, int value) => Of(dimension, value) = 0;

    /// <summary>Allows a number of a Discrete.</summary>
    public void Allow(long action) => Of(action) = 1;

    /// <summary>Allows the member of an enum.</summary>
    public void Allow<TEnum>(TEnum action) where TEnum : unmanaged, Enum => Allow(EnumNumber.Of(action));

    /// <summary>Allows a value of one dimension of a MultiDiscrete, or of one bit of a MultiBinary.</summary>
    public void Allow(int dimension, int value) => Of(dimension, value) = 1;

    /// <summary>Forbids all; <c>Allow</c> then names those that are allowed.</summary>
    public void ForbidAll() => AsSpan().Clear();

    /// <summary>Whether a number of a Discrete is allowed.</summary>
    public bool IsAllowed(long action) => Of(action) == 1;

    /// <summary>Whether a value of one dimension of a MultiDiscrete, or of one bit of a MultiBinary, is allowed.</summary>
    public bool IsAllowed(int dimension, int value) => Of(dimension, value) == 1;

    /// <summary>What is wrong with a mask, in words; null if nothing is.</summary>
    internal static string? Problem(EnvironmentSpec spec, ReadOnlySpan<byte> row)
    {
        var first = 0;
        for (var dimension = 0; dimension < spec.MaskCounts.Length; dimension++)
        {
            var count = spec.MaskCounts[dimension];
            var values = row.Slice(first, count);
            for (var i = 0; i < count; i++)
                if (values[i] > 1)
                    return $"the action mask, element [{first + i}] is {values[i]}, expected 0 or 1";
            if (values.IndexOf((byte)1) < 0)
                return spec.ActionLeaf.Kind == LeafKind.Discrete
                    ? "the action mask allows no action"
                    : $"the action mask allows no value of {spec.ActionLeaf.Place(dimension)}";
            first += count;
        }
        return null;
    }

    private ref byte Of(long action)
    {
        var mask = AsSpan();
        var index = action - spec.ActionLeaf.Start;
        if (spec.ActionLeaf.Kind != LeafKind.Discrete || index < 0 || index >= mask.Length)
            throw new ArgumentException($"action mask: there is no action {action}");
        return ref mask[(int)index];
    }

    private ref byte Of(int dimension, int value)
    {
        var mask = AsSpan();
        var counts = spec.MaskCounts;
        if (spec.ActionLeaf.Kind == LeafKind.Discrete || dimension < 0 || dimension >= counts.Length || value < 0 || value >= counts[dimension])
            throw new ArgumentException($"action mask: there is no value {value} of dimension {dimension}");
        var first = 0;
        for (var i = 0; i < dimension; i++)
            first += counts[i];
        return ref mask[first + value];
    }
}
