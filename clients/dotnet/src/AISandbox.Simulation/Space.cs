using System;
using System.Linq;

namespace AISandbox.Simulation;

/// <summary>
/// The set of values that an observation or an action may take, as tensor.proto (and Gymnasium) has them. The methods that
/// make a space throw <see cref="InvalidSpecException"/>, naming the rule that is broken.
/// </summary>
public sealed class Space
{
    private const double NoBound = 1e18;
    private const long MostElements = int.MaxValue;

    private Space(LeafKind kind, ElementType type, int[] shape)
    {
        (Kind, Type, Shape) = (kind, type, shape);
        long size = 1;
        foreach (var extent in shape)
        {
            if (extent < 1)
                throw new InvalidSpecException($"shape [{string.Join(", ", shape)}]: every dimension is at least 1");
            size = Math.Min(size * extent, MostElements + 1);
        }
        if (size * ElementTypes.Bytes(type) > MostElements)
            throw new InvalidSpecException($"shape [{string.Join(", ", shape)}]: one value has more than 2 GiB");
        Size = (int)size;
    }

    internal LeafKind Kind { get; }

    internal ElementType Type { get; }

    internal int[] Shape { get; }

    internal int Size { get; }

    internal double[] Low { get; private set; } = [];

    internal double[] High { get; private set; } = [];

    internal long Count { get; private set; }

    internal long Start { get; private set; }

    internal int[] Counts { get; private set; } = [];

    internal string[] Names { get; private set; } = [];

    /// <summary>Numbers of type float without bounds; for a single number no dimension at all: <c>Space.Box()</c>.</summary>
    public static Space Box(params int[] shape) => Box(ElementType.Float32, shape);

    /// <summary>Numbers of this type; a camera's image is <c>Space.Box(ElementType.UInt8, 64, 64, 3)</c>.</summary>
    public static Space Box(ElementType type, params int[] shape)
    {
        if (type is < ElementType.Float32 or > ElementType.UInt16 or (ElementType)8)
            throw new InvalidSpecException($"type {(int)type} is not an ElementType");
        return new Space(LeafKind.Box, type, (int[])shape.Clone());
    }

    /// <summary>One of the whole numbers <paramref name="start"/> .. <paramref name="start"/> + <paramref name="count"/> - 1.</summary>
    public static Space Discrete(long count, long start = 0)
    {
        if (count < 1)
            throw new InvalidSpecException($"Discrete: count is at least 1, not {count}");
        if (start > 0 && count - 1 > long.MaxValue - start)
            throw new InvalidSpecException($"Discrete: start + count - 1 is more than a long holds");
        return new Space(LeafKind.Discrete, ElementType.Int64, []) { Count = count, Start = start };
    }

    /// <summary>One of the members of an enum, whose values are consecutive; its names are shown to people.</summary>
    public static Space Discrete<TEnum>() where TEnum : struct, Enum
    {
        var type = typeof(TEnum);
#if NET
        var values = Enum.GetValues<TEnum>();
#else
        var values = (TEnum[])Enum.GetValues(type);
#endif
        var numbers = values.Select(value => Convert.ToInt64(value, null)).ToArray();
        if (numbers.Length == 0)
            throw new InvalidSpecException($"enum {type.Name} has no members");
        Array.Sort(numbers, values);
        for (var i = 1; i < numbers.Length; i++)
            if (numbers[i] != numbers[i - 1] + 1)
                throw new InvalidSpecException(
                    $"enum {type.Name}: a Discrete space needs consecutive values, {values[i - 1]} is {numbers[i - 1]} and {values[i]} is {numbers[i]}");
        return Discrete(numbers.Length, numbers[0]).Named(values.Select(value => value.ToString()).ToArray());
    }

    /// <summary>Several whole numbers, the i-th one in 0 .. counts[i] - 1.</summary>
    public static Space MultiDiscrete(params int[] counts)
    {
        if (counts.Length == 0 || counts.Any(count => count < 1))
            throw new InvalidSpecException("MultiDiscrete: at least one count, and each is at least 1");
        return new Space(LeafKind.MultiDiscrete, ElementType.Int64, [counts.Length]) { Counts = (int[])counts.Clone() };
    }

    /// <summary>So many bits.</summary>
    public static Space MultiBinary(int bits)
    {
        if (bits < 1)
            throw new InvalidSpecException($"MultiBinary: at least 1 bit, not {bits}");
        return new Space(LeafKind.MultiBinary, ElementType.Int8, [bits]);
    }

    /// <summary>The same bounds for all elements of a box.</summary>
    public Space Between(double low, double high) => Between([low], [high]);

    /// <summary>The bounds of each element of a box, in C order; infinity is no bound.</summary>
    public Space Between(double[] low, double[] high)
    {
        if (Kind != LeafKind.Box)
            throw new InvalidSpecException("Between: only a box has bounds");
        CheckBounds(low, nameof(low));
        CheckBounds(high, nameof(high));
        for (var i = 0; i < Size; i++)
        {
            var (least, most) = (low[low.Length == 1 ? 0 : i], high[high.Length == 1 ? 0 : i]);
            if (least > most)
                throw new InvalidSpecException($"Between: the lower bound {least} of element {i} is greater than the upper one, {most}");
        }
        var copy = Copy();
        (copy.Low, copy.High) = ((double[])low.Clone(), (double[])high.Clone());
        return copy;
    }

    /// <summary>
    /// Names for people and for messages: of the elements of a box in C order, of the numbers of a Discrete, of the
    /// dimensions of a MultiDiscrete, of the bits of a MultiBinary.
    /// </summary>
    public Space Named(params string[] names)
    {
        var expected = Kind == LeafKind.Discrete ? Count : Size;
        if (names.Length != expected)
            throw new InvalidSpecException($"Named: {names.Length} names, expected {expected}");
        var copy = Copy();
        copy.Names = (string[])names.Clone();
        return copy;
    }

    /// <summary>Whether every element has bounds that actions can be scaled to.</summary>
    internal bool IsBounded => Kind != LeafKind.Box || !ElementTypes.IsFloat(Type)
        || (Low.Length > 0 && High.Length > 0 && Low.Concat(High).All(bound => Math.Abs(bound) < NoBound));

    internal V1.Space ToMessage()
    {
        switch (Kind)
        {
            case LeafKind.Box:
                var box = new V1.Box { Dtype = (V1.DataType)Type };
                box.Shape.AddRange(Shape.Select(extent => (long)extent));
                box.Low.AddRange(Low);
                box.High.AddRange(High);
                box.Names.AddRange(Names);
                return new V1.Space { Box = box };
            case LeafKind.Discrete:
                return new V1.Space { Discrete = new V1.Discrete { N = Count, Start = Start, Names = { Names } } };
            case LeafKind.MultiDiscrete:
                var counts = Counts.Select(count => (long)count);
                return new V1.Space { MultiDiscrete = new V1.MultiDiscrete { N = { counts }, Names = { Names } } };
            default:
                return new V1.Space { MultiBinary = new V1.MultiBinary { N = Size, Names = { Names } } };
        }
    }

    private Space Copy() => (Space)MemberwiseClone();

    private void CheckBounds(double[] bounds, string name)
    {
        if (bounds.Length != 1 && bounds.Length != Size)
            throw new InvalidSpecException($"Between: {name} has {bounds.Length} numbers, expected 1 or {Size}");
        if (bounds.Any(double.IsNaN))
            throw new InvalidSpecException($"Between: {name} is NaN");
    }
}
