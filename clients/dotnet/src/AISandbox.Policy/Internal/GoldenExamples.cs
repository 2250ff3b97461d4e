using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace AISandbox.Internal;

/// <summary>Observations, noise, masks and the actions that the trainer's policy chose for them (golden.json of a published model).</summary>
internal sealed class GoldenExamples
{
    private const double RelativeTolerance = 1e-3;
    private const double AbsoluteTolerance = 1e-4;

    private GoldenExamples(
        int count, float[][] observations, float[] noise, byte[] masks, bool[] episodeStarts, float[] actions, bool isFloat)
    {
        Count = count;
        Observations = observations;
        Noise = noise;
        Masks = masks;
        EpisodeStarts = episodeStarts;
        Actions = actions;
        IsFloat = isFloat;
    }

    public int Count { get; }

    /// <summary>The numbers of each leaf, example by example.</summary>
    public float[][] Observations { get; }

    public float[] Noise { get; }

    /// <summary>Empty for a policy without masks.</summary>
    public byte[] Masks { get; }

    /// <summary>
    /// For a recurrent policy, whether an example is the first of an episode; otherwise it has the state that the one before it has left.
    /// </summary>
    public bool[] EpisodeStarts { get; }

    public float[] Actions { get; }

    public bool IsFloat { get; }

    public static GoldenExamples Parse(string json)
    {
        try
        {
            using var document = JsonDocument.Parse(json);
            var root = document.RootElement;
            var (noise, shape) = Tensor(root.GetProperty("noise"));
            var observations = root.GetProperty("observations").EnumerateArray().Select(each => Tensor(each).Values).ToArray();
            var actions = root.GetProperty("actions");
            var masks = root.TryGetProperty("action_mask", out var mask) ? mask.GetProperty("data").GetBytesFromBase64() : [];
            var starts = root.TryGetProperty("episode_start", out var start) ? Array.ConvertAll(Tensor(start).Values, value => value != 0) : [];
            return new GoldenExamples(
                checked((int)shape[0]), observations, noise, masks, starts, Tensor(actions).Values, Dtype(actions) == "float32");
        }
        catch (Exception error) when (error is JsonException or KeyNotFoundException or InvalidOperationException or FormatException or OverflowException
            or IndexOutOfRangeException or ArgumentException)
        {
            throw new PolicyException(PolicyErrorReason.Damaged, $"The golden examples of the policy are malformed: {error.Message}", error);
        }
    }

    /// <summary>The observation with this index, leaf after leaf.</summary>
    public void CopyObservation(int index, Span<float> observation)
    {
        foreach (var leaf in Observations)
        {
            var size = leaf.Length / Count;
            leaf.AsSpan(index * size, size).CopyTo(observation);
            observation = observation[size..];
        }
    }

    /// <summary>Describes how actions differ from the golden ones; null if they are equal within the tolerances.</summary>
    public string? Difference(ReadOnlySpan<float> actions)
    {
        var size = Actions.Length / Count;
        for (var i = 0; i < Actions.Length; i++)
        {
            var expected = Actions[i];
            if (!(Math.Abs(actions[i] - expected) <= Tolerance(i % size, size, expected)))
            {
                return $"For golden example {i / size} it gives {Leaf.Text(actions[i])} as number {i % size} of the action instead of {Leaf.Text(expected)}";
            }
        }

        return null;
    }

    private double Tolerance(int column, int size, float expected)
    {
        if (!IsFloat)
        {
            return 0;
        }

        var largest = 1.0;
        for (var i = column; i < Actions.Length; i += size)
        {
            largest = Math.Max(largest, Math.Abs(Actions[i]));
        }

        return (AbsoluteTolerance * largest) + (RelativeTolerance * Math.Abs(expected));
    }

    private static string? Dtype(JsonElement tensor) => tensor.GetProperty("dtype").GetString();

    private static (float[] Values, long[] Shape) Tensor(JsonElement tensor)
    {
        var data = tensor.GetProperty("data").GetBytesFromBase64();
        var shape = tensor.GetProperty("shape").EnumerateArray().Select(extent => extent.GetInt64()).ToArray();
        float[] values = Dtype(tensor) switch
        {
            "float32" => MemoryMarshal.Cast<byte, float>(data).ToArray(),
            "uint8" => Array.ConvertAll(data, value => (float)value),
            "int64" => Array.ConvertAll(MemoryMarshal.Cast<byte, long>(data).ToArray(), value => (float)value),
            var other => throw new FormatException($"dtype {other}"),
        };
        var size = shape.Aggregate(1L, (product, extent) => product * extent);
        return shape.Length > 0 && shape[0] > 0 && size == values.Length
            ? (values, shape)
            : throw new FormatException($"a tensor has {values.Length} elements and the shape [{string.Join(", ", shape)}]");
    }
}
