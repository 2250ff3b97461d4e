using System;
using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;

namespace AISandbox.Simulation;

internal enum LeafKind
{
    Box,
    Discrete,
    MultiDiscrete,
    MultiBinary,
}

/// <summary>
/// One tensor of every value of a space, as tensor.proto describes it: the row of bytes that one environment has of it,
/// how such a row looks before anything was written, and which rows are values of the space.
/// </summary>
internal sealed class Leaf
{
    private readonly long? unwritten;

    public Leaf(string key, Space space)
    {
        (Key, Kind, Type, Shape, Size) = (key, space.Kind, space.Type, space.Shape, space.Size);
        (Low, High, Count, Start, Counts, Names) = (space.Low, space.High, space.Count, space.Start, space.Counts, space.Names);
        RowBytes = checked(Size * ElementTypes.Bytes(Type));
        unwritten = Unwritten();
    }

    public string Key { get; }

    public LeafKind Kind { get; }

    public ElementType Type { get; }

    public int[] Shape { get; }

    /// <summary>The number of elements of one value.</summary>
    public int Size { get; }

    /// <summary>The number of bytes of one value.</summary>
    public int RowBytes { get; }

    public double[] Low { get; }

    public double[] High { get; }

    public long Count { get; }

    public long Start { get; }

    public int[] Counts { get; }

    /// <summary>The number of choices of each dimension that a mask has; of a MultiBinary 2 for each bit. None for a box.</summary>
    public int[] MaskCounts() => Kind switch
    {
        LeafKind.Discrete => [checked((int)Count)],
        LeafKind.MultiDiscrete => Counts,
        LeafKind.MultiBinary => Array.ConvertAll(new int[Size], _ => 2),
        _ => [],
    };

    public string[] Names { get; }

    /// <summary>The lower bound of element <paramref name="index"/> of a box.</summary>
    public double LowOf(int index) => Low.Length == 0 ? double.NegativeInfinity : Low[Low.Length == 1 ? 0 : index];

    /// <summary>The upper bound of element <paramref name="index"/> of a box.</summary>
    public double HighOf(int index) => High.Length == 0 ? double.PositiveInfinity : High[High.Length == 1 ? 0 : index];

    /// <summary>Fills a row with what is no value of the space, where there is such a number; otherwise with 0.</summary>
    public void Clear(Span<byte> row)
    {
        switch (Type)
        {
            case ElementType.Float32:
                MemoryMarshal.Cast<byte, float>(row).Fill(float.NaN);
                break;
            case ElementType.Float64:
                MemoryMarshal.Cast<byte, double>(row).Fill(double.NaN);
                break;
            default:
                row.Clear();
                if (unwritten is { } number)
                    for (var i = 0; i < Size; i++)
                        Put(row, i, number);
                break;
        }
    }

    /// <summary>What is wrong with a row, in words; null if it is a value of the space.</summary>
    public string? Problem(ReadOnlySpan<byte> row)
    {
        var wrong = Type switch
        {
            ElementType.Float32 => FirstNotFinite(MemoryMarshal.Cast<byte, float>(row)),
            ElementType.Float64 => FirstNotFinite(MemoryMarshal.Cast<byte, double>(row)),
            _ => FirstOutside(row),
        };
        if (wrong < 0)
            return null;
        if (ElementTypes.IsFloat(Type))
        {
            var value = GetDouble(row, wrong);
            return double.IsNaN(value)
                ? $"{Place(wrong)} is NaN: it was not written, or NaN was"
                : $"{Place(wrong)} is {Text(value)}, which is not finite";
        }
        var number = GetLong(row, wrong);
        return number == unwritten
            ? $"{Place(wrong)} was not written"
            : $"{Place(wrong)} is {Text(number)}, which is outside {RangeText(wrong)}";
    }

    /// <summary>The first element of a row of a box that is outside its bounds, in words; null if there is none.</summary>
    public string? OutOfBounds(ReadOnlySpan<byte> row, double tolerance)
    {
        if (Kind != LeafKind.Box || (Low.Length == 0 && High.Length == 0))
            return null;
        for (var i = 0; i < Size; i++)
        {
            var value = GetDouble(row, i);
            var slack = tolerance * Math.Max(1, Math.Abs(value));
            if (value < LowOf(i) - slack || value > HighOf(i) + slack)
                return $"{Place(i)} is {Text(value)}, which is outside {RangeText(i)}";
        }
        return null;
    }

    /// <summary>The place of an element, for people: its index in each dimension and its name.</summary>
    public string Place(int index)
    {
        var places = new int[Shape.Length];
        var rest = index;
        for (var i = Shape.Length - 1; i >= 0; i--)
        {
            places[i] = rest % Shape[i];
            rest /= Shape[i];
        }
        var name = Kind != LeafKind.Discrete && Names.Length > 0 ? $" ('{Names[index]}')" : "";
        return $"element [{string.Join(", ", places)}]{name}";
    }

    public double GetDouble(ReadOnlySpan<byte> row, int index) => Type switch
    {
        ElementType.Float32 => MemoryMarshal.Cast<byte, float>(row)[index],
        ElementType.Float64 => MemoryMarshal.Cast<byte, double>(row)[index],
        _ => GetLong(row, index),
    };

    /// <summary>Copies the elements of a row as float.</summary>
    public void CopyTo(ReadOnlySpan<byte> row, Span<float> destination)
    {
        if (Type == ElementType.Float32)
            MemoryMarshal.Cast<byte, float>(row).CopyTo(destination);
        else
            for (var i = 0; i < Size; i++)
                destination[i] = (float)GetDouble(row, i);
    }

    public long GetLong(ReadOnlySpan<byte> row, int index) => Type switch
    {
        ElementType.UInt8 => row[index],
        ElementType.Int8 => unchecked((sbyte)row[index]),
        ElementType.Int16 => MemoryMarshal.Cast<byte, short>(row)[index],
        ElementType.UInt16 => MemoryMarshal.Cast<byte, ushort>(row)[index],
        ElementType.Int32 => MemoryMarshal.Cast<byte, int>(row)[index],
        ElementType.Int64 => MemoryMarshal.Cast<byte, long>(row)[index],
        ElementType.Float32 => (long)MemoryMarshal.Cast<byte, float>(row)[index],
        _ => (long)MemoryMarshal.Cast<byte, double>(row)[index],
    };

    /// <summary>Writes a number. Throws ArgumentException if the type of an integer element cannot hold it.</summary>
    public void Put(Span<byte> row, int index, double value)
    {
        switch (Type)
        {
            case ElementType.Float32:
                MemoryMarshal.Cast<byte, float>(row)[index] = (float)value;
                break;
            case ElementType.Float64:
                MemoryMarshal.Cast<byte, double>(row)[index] = value;
                break;
            default:
                if (value != Math.Floor(value) || Math.Abs(value) >= 1L << 53)
                    throw new ArgumentException($"{Place(index)}: {Text(value)} is not a whole number that {ElementTypes.Keyword(Type)} holds");
                Put(row, index, (long)value);
                break;
        }
    }

    /// <summary>Writes a whole number. Throws ArgumentException if the type of the element cannot hold it.</summary>
    public void Put(Span<byte> row, int index, long value)
    {
        switch (Type)
        {
            case ElementType.Float32:
                MemoryMarshal.Cast<byte, float>(row)[index] = value;
                return;
            case ElementType.Float64:
                MemoryMarshal.Cast<byte, double>(row)[index] = value;
                return;
            case ElementType.Int64:
                MemoryMarshal.Cast<byte, long>(row)[index] = value;
                return;
        }
        var (low, high) = ElementTypes.Range(Type);
        if (value < low || value > high)
            throw new ArgumentException($"{Place(index)}: {Text(value)} is not a whole number that {ElementTypes.Keyword(Type)} holds");
        switch (ElementTypes.Bytes(Type))
        {
            case 1:
                row[index] = unchecked((byte)value);
                break;
            case 2:
                MemoryMarshal.Cast<byte, short>(row)[index] = unchecked((short)value);
                break;
            default:
                MemoryMarshal.Cast<byte, int>(row)[index] = (int)value;
                break;
        }
    }

    private static string Text(double value) => value.ToString(CultureInfo.InvariantCulture);

    private static string Text(long value) => value.ToString(CultureInfo.InvariantCulture);

    private string RangeText(int index) => Kind switch
    {
        LeafKind.Discrete => $"{Text(Start)} .. {Text(Start + Count - 1)}",
        LeafKind.MultiDiscrete => $"0 .. {Text(Counts[index] - 1)}",
        LeafKind.MultiBinary => "0 .. 1",
        _ => $"{Text(LowOf(index))} .. {Text(HighOf(index))}",
    };

    /// <summary>A number of an integer type that no element may have; null if all may be had.</summary>
    private long? Unwritten()
    {
        if (ElementTypes.IsFloat(Type))
            return null;
        var (least, most) = ElementTypes.Range(Type);
        if (Kind != LeafKind.Box)
            return Kind == LeafKind.Discrete && Start == least ? null : least;
        if (Low.Length > 0 && Array.TrueForAll(Low, low => low > least))
            return least;
        return High.Length > 0 && Array.TrueForAll(High, high => high < most) ? most : null;
    }

    private int FirstOutside(ReadOnlySpan<byte> row)
    {
        if (Kind == LeafKind.Box)
        {
            if (unwritten is { } missing)
                for (var i = 0; i < Size; i++)
                    if (GetLong(row, i) == missing)
                        return i;
            return -1;
        }
        for (var i = 0; i < Size; i++)
        {
            var value = GetLong(row, i);
            var (low, high) = Kind switch
            {
                LeafKind.Discrete => (Start, Start + Count - 1),
                LeafKind.MultiDiscrete => (0L, Counts[i] - 1L),
                _ => (0L, 1L),
            };
            if (value < low || value > high)
                return i;
        }
        return -1;
    }

    private static int FirstNotFinite(ReadOnlySpan<float> values)
    {
        var sum = 0f; // of 0 times each: 0 for a finite number, NaN for NaN and infinity
        var rest = values;
        if (values.Length >= 2 * Vector<float>.Count)
        {
            var vectors = MemoryMarshal.Cast<float, Vector<float>>(values);
            var sums = Vector<float>.Zero;
            foreach (var vector in vectors)
                sums += vector * 0f;
            sum = Vector.Dot(sums, Vector<float>.One);
            rest = values[(vectors.Length * Vector<float>.Count)..];
        }
        foreach (var value in rest)
            sum += value * 0f;
        if (!float.IsNaN(sum))
            return -1;
        for (var i = 0; i < values.Length; i++)
            if (!float.IsFinite(values[i]))
                return i;
        return -1;
    }

    private static int FirstNotFinite(ReadOnlySpan<double> values)
    {
        for (var i = 0; i < values.Length; i++)
            if (!double.IsFinite(values[i]))
                return i;
        return -1;
    }
}
