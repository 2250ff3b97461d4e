using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace AISandbox.Simulation;

/// <summary>One value of a space, to be read: an action, or one entry of an observation.</summary>
public readonly ref struct ValueReader
{
    private readonly Leaf leaf;
    private readonly ReadOnlySpan<byte> row;
    private readonly string what;

    internal ValueReader(Leaf leaf, ReadOnlySpan<byte> row, string what)
    {
        this.leaf = leaf;
        this.row = row;
        this.what = what;
    }

    /// <summary>The number of elements.</summary>
    public int Count => leaf.Size;

    /// <summary>The number of a Discrete, start .. start + count - 1.</summary>
    public int Discrete => checked((int)AsSpan<long>(LeafKind.Discrete)[0]);

    /// <summary>The numbers of a box of type float.</summary>
    public ReadOnlySpan<float> Box => AsSpan<float>();

    /// <summary>The numbers of a MultiDiscrete.</summary>
    public ReadOnlySpan<long> MultiDiscrete => AsSpan<long>(LeafKind.MultiDiscrete);

    /// <summary>The bits of a MultiBinary, 0 or 1.</summary>
    public ReadOnlySpan<sbyte> MultiBinary => AsSpan<sbyte>(LeafKind.MultiBinary);

    /// <summary>One element in C order, as double; for those who do not count nanoseconds.</summary>
    public double this[int index] => leaf.GetDouble(row, index);

    /// <summary>The member of an enum that a Discrete stands for.</summary>
    public TEnum As<TEnum>() where TEnum : unmanaged, Enum
    {
        var number = AsSpan<long>(LeafKind.Discrete)[0];
        return Unsafe.SizeOf<TEnum>() switch
        {
            1 => Cast<TEnum, byte>(unchecked((byte)number)),
            2 => Cast<TEnum, short>(unchecked((short)number)),
            4 => Cast<TEnum, int>(unchecked((int)number)),
            _ => Cast<TEnum, long>(number),
        };
    }

    /// <summary>All elements in C order. Throws <see cref="InvalidOperationException"/> if they have another type.</summary>
    public ReadOnlySpan<T> AsSpan<T>() where T : unmanaged
    {
        if (ElementTypes.Of<T>() != leaf.Type)
            throw new InvalidOperationException(
                $"{what} has elements of type {ElementTypes.Keyword(leaf.Type)}: use AsSpan<{ElementTypes.Keyword(leaf.Type)}>()");
        return MemoryMarshal.Cast<byte, T>(row);
    }

    private ReadOnlySpan<T> AsSpan<T>(LeafKind kind) where T : unmanaged
    {
        if (leaf.Kind != kind)
            throw new InvalidOperationException($"{what} is a {leaf.Kind}, not a {kind}");
        return MemoryMarshal.Cast<byte, T>(row);
    }

    private static TEnum Cast<TEnum, T>(T value) where T : unmanaged => Unsafe.As<T, TEnum>(ref value);
}
