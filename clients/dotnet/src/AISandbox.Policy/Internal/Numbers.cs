using System;
using System.Numerics;
using System.Runtime.InteropServices;

namespace AISandbox.Internal;

/// <summary>Checks of the numbers of an observation.</summary>
internal static class Numbers
{
    /// <summary>Whether no number is NaN or infinite.</summary>
    public static bool AreFinite(ReadOnlySpan<float> values)
    {
        // Zero times a finite number is zero, and NaN for the others.
        var vectors = MemoryMarshal.Cast<float, Vector<float>>(values);
        var products = Vector<float>.Zero;
        foreach (var vector in vectors)
        {
            products += vector * Vector<float>.Zero;
        }

        var rest = 0f;
        for (var i = vectors.Length * Vector<float>.Count; i < values.Length; i++)
        {
            rest += values[i] * 0f;
        }

        return rest == 0f && products == Vector<float>.Zero;
    }

    /// <summary>Throws, naming the first number that is NaN or infinite.</summary>
    public static void CheckFinite(ReadOnlySpan<float> observation, Leaf[] leaves, int divisor)
    {
        if (AreFinite(observation))
        {
            return;
        }

        var index = 0;
        while (float.IsFinite(observation[index]))
        {
            index++;
        }

        long size = 0;
        foreach (var leaf in leaves)
        {
            size += leaf.Size / divisor;
        }

        var row = index / size;
        var place = index % size;
        foreach (var leaf in leaves)
        {
            if (place < leaf.Size / divisor)
            {
                var of = divisor == 1 ? leaf.NameOf(place) : string.Empty;
                var where = row > 0 ? $" of observation {row}" : string.Empty;
                throw new ArgumentException(
                    $"Number {index % size}{of}{where} is {Leaf.Text(observation[index])}, and every number of an observation must be finite.",
                    nameof(observation));
            }

            place -= leaf.Size / divisor;
        }
    }

    /// <summary>Throws, naming the number, unless all are whole numbers of the leaf.</summary>
    /// <param name="observation">The numbers of one value of the leaf.</param>
    /// <param name="leaf">The leaf.</param>
    /// <param name="offset">Where the leaf begins in the observation.</param>
    public static void CheckWhole(ReadOnlySpan<float> observation, Leaf leaf, int offset)
    {
        for (var i = 0; i < observation.Length; i++)
        {
            var high = leaf.Counts is { } counts ? counts[i] - 1 : leaf.High;
            if (observation[i] >= leaf.Low && observation[i] <= high && observation[i] == MathF.Floor(observation[i]))
            {
                continue;
            }

            throw new ArgumentException(
                $"Number {offset + i}{leaf.NameOf(i)} is {Leaf.Text(observation[i])}, and must be a whole number from {Leaf.Text(leaf.Low)} to {Leaf.Text(high)}.",
                nameof(observation));
        }
    }
}
