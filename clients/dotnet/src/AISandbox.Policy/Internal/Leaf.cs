using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using AISandbox.V1;

namespace AISandbox.Internal;

/// <summary>One leaf of a space: its elements lie together in an observation, in C order.</summary>
internal sealed class Leaf
{
    private Leaf(string key, long[] shape, bool isBytes, double low, double high, long[]? counts, IReadOnlyList<string> names)
    {
        Key = key;
        Shape = shape;
        Size = 1;
        foreach (var extent in shape)
        {
            if (extent < 1 || (Size *= extent) > int.MaxValue)
            {
                throw new PolicyException(PolicyErrorReason.NotAPolicy, $"The space of {Describe(key)} has no valid shape.");
            }
        }

        IsBytes = isBytes;
        Low = low;
        High = high;
        Counts = counts;
        Names = names;
    }

    public string Key { get; }

    /// <summary>The shape of one value, without the batch.</summary>
    public long[] Shape { get; }

    public long Size { get; }

    /// <summary>Whether the input of the ONNX file has bytes; otherwise it has float32.</summary>
    public bool IsBytes { get; }

    /// <summary>Whether stable-baselines3 takes the leaf for an image.</summary>
    public bool IsImage { get; private init; }

    /// <summary>Whether the elements are whole numbers from Low to High.</summary>
    public bool IsWhole => !double.IsNaN(Low);

    public double Low { get; }

    public double High { get; }

    /// <summary>For a MultiDiscrete, how many values each element has.</summary>
    public long[]? Counts { get; }

    public IReadOnlyList<string> Names { get; }

    public string Input => Key.Length == 0 ? "observation" : "observation." + Key;

    public static Leaf[] Of(Space space)
    {
        if (space.KindCase != Space.KindOneofCase.Dict)
        {
            return [Of(string.Empty, space)];
        }

        var leaves = new Leaf[space.Dict.Entries.Count];
        for (var i = 0; i < leaves.Length; i++)
        {
            leaves[i] = Of(space.Dict.Entries[i].Key, space.Dict.Entries[i].Space);
        }

        return leaves.Length > 0 ? leaves : throw new PolicyException(PolicyErrorReason.NotAPolicy, "The observation space is an empty Dict.");
    }

    /// <summary>Says which element is meant: "number 3 ('speed' of 'car')".</summary>
    public string NameOf(long index)
    {
        var name = Names.Count > index ? $"'{Names[(int)index]}'" : string.Empty;
        var of = Key.Length == 0 ? string.Empty : $"of '{Key}'";
        return (name.Length + of.Length) switch
        {
            0 => string.Empty,
            _ => $" ({(name + " " + of).Trim()})",
        };
    }

    public static string Text(double value) => value.ToString("R", CultureInfo.InvariantCulture);

    private static string Describe(string key) => key.Length == 0 ? "the observation" : $"'{key}'";

    private static Leaf Of(string key, Space space)
    {
        switch (space.KindCase)
        {
            case Space.KindOneofCase.Box:
                var shape = new long[space.Box.Shape.Count];
                space.Box.Shape.CopyTo(shape, 0);
                var (low, high) = Range(space.Box.Dtype);
                var isBytes = space.Box.Dtype == DataType.Uint8;
                return new Leaf(key, shape, isBytes, low, high, null, space.Box.Names)
                {
                    IsImage = isBytes && shape.Length == 3 && space.Box.Low.All(bound => bound <= 0) && space.Box.High.All(bound => bound >= 255),
                };
            case Space.KindOneofCase.Discrete:
                var first = space.Discrete.Start;
                return new Leaf(key, [], false, first, first + space.Discrete.N - 1, null, Array.Empty<string>());
            case Space.KindOneofCase.MultiDiscrete:
                var counts = new long[space.MultiDiscrete.N.Count];
                space.MultiDiscrete.N.CopyTo(counts, 0);
                return new Leaf(key, [counts.Length], false, 0, 0, counts, space.MultiDiscrete.Names);
            case Space.KindOneofCase.MultiBinary:
                return new Leaf(key, [space.MultiBinary.N], false, 0, 1, null, space.MultiBinary.Names);
            default:
                throw new PolicyException(
                    PolicyErrorReason.NotAPolicy,
                    $"The space of {Describe(key)} is of a kind that this version of AISandbox.Policy does not know; use a newer one.");
        }
    }

    private static (double Low, double High) Range(DataType dtype) => dtype switch
    {
        DataType.Uint8 => (byte.MinValue, byte.MaxValue),
        DataType.Int8 => (sbyte.MinValue, sbyte.MaxValue),
        DataType.Int16 => (short.MinValue, short.MaxValue),
        DataType.Uint16 => (ushort.MinValue, ushort.MaxValue),
        DataType.Int32 => (int.MinValue, int.MaxValue),
        DataType.Int64 => (long.MinValue, long.MaxValue),
        _ => (double.NaN, double.NaN),
    };
}
