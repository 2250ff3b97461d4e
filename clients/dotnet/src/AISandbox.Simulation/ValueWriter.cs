using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace AISandbox.Simulation;

/// <summary>
/// One value of a space, to be written: one entry of an observation, or an agent's action. Every method that writes throws
/// <see cref="ArgumentException"/> for the wrong number of elements, or a number that their type cannot hold.
/// </summary>
public readonly ref struct ValueWriter
{
    private readonly Leaf leaf;
    private readonly Span<byte> row;
    private readonly Span<bool> written;
    private readonly string what;

    internal ValueWriter(Leaf leaf, Span<byte> row, Span<bool> written, string what)
    {
        this.leaf = leaf;
        this.row = row;
        this.written = written;
        this.what = what;
    }

    /// <summary>The number of elements.</summary>
    public int Count => leaf.Size;

    /// <summary>Writes all elements, in C order.</summary>
    public void Write(params ReadOnlySpan<float> values)
    {
        if (leaf.Type == ElementType.Float32 && values.Length == leaf.Size)
        {
            values.CopyTo(MemoryMarshal.Cast<byte, float>(row));
            written[0] = true;
            return;
        }
        Begin(values.Length);
        for (var i = 0; i < values.Length; i++)
            leaf.Put(row, i, (double)values[i]);
    }

    /// <summary>Writes all elements, in C order; rounded to the type of the elements.</summary>
    public void Write(params ReadOnlySpan<double> values)
    {
        Begin(values.Length);
        for (var i = 0; i < values.Length; i++)
            leaf.Put(row, i, values[i]);
    }

    /// <summary>Writes all elements, in C order.</summary>
    public void Write(params ReadOnlySpan<long> values)
    {
        Begin(values.Length);
        for (var i = 0; i < values.Length; i++)
            leaf.Put(row, i, values[i]);
    }

    /// <summary>Writes the member of an enum that a Discrete stands for.</summary>
    public void Write<TEnum>(TEnum value) where TEnum : unmanaged, Enum
    {
        if (leaf.Kind != LeafKind.Discrete)
            throw new InvalidOperationException($"{what} is a {leaf.Kind}, not a Discrete");
        Begin(1);
        leaf.Put(row, 0, EnumNumber.Of(value));
    }

    /// <summary>All elements in C order, to be written. Throws <see cref="InvalidOperationException"/> if they have another type.</summary>
    public Span<T> AsSpan<T>() where T : unmanaged
    {
        if (ElementTypes.Of<T>() != leaf.Type)
            throw new InvalidOperationException(
                $"{what} has elements of type {ElementTypes.Keyword(leaf.Type)}: use AsSpan<{ElementTypes.Keyword(leaf.Type)}>()");
        written[0] = true;
        return MemoryMarshal.Cast<byte, T>(row);
    }

    private void Begin(int count)
    {
        if (count != leaf.Size)
            throw new ArgumentException($"{what} has {leaf.Size} elements, {count} were written");
        written[0] = true;
    }
}

/// <summary>The number of an enum's member.</summary>
internal static class EnumNumber
{
    public static long Of<TEnum>(TEnum value) where TEnum : unmanaged, Enum => Unsafe.SizeOf<TEnum>() switch
    {
        1 => Unsafe.As<TEnum, byte>(ref value),
        2 => Unsafe.As<TEnum, short>(ref value),
        4 => Unsafe.As<TEnum, int>(ref value),
        _ => Unsafe.As<TEnum, long>(ref value),
    };
}
