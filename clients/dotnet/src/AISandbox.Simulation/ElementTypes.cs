
namespace AISandbox.Simulation;

/// <summary>What is known of each <see cref="ElementType"/>: its size, its C# type, its range.</summary>
internal static class ElementTypes
{
    /// <summary>The element type of a C# type; 0 if there is none.</summary>
    public static ElementType Of<T>() where T : unmanaged => Cache<T>.Type;

    /// <summary>Bytes of one element.</summary>
    public static int Bytes(ElementType type) => type switch
    {
        ElementType.UInt8 or ElementType.Int8 => 1,
        ElementType.Int16 or ElementType.UInt16 => 2,
        ElementType.Float32 or ElementType.Int32 => 4,
        _ => 8,
    };

    /// <summary>The keyword of C# for it.</summary>
    public static string Keyword(ElementType type) => type switch
    {
        ElementType.Float32 => "float",
        ElementType.Float64 => "double",
        ElementType.UInt8 => "byte",
        ElementType.Int8 => "sbyte",
        ElementType.Int16 => "short",
        ElementType.UInt16 => "ushort",
        ElementType.Int32 => "int",
        _ => "long",
    };

    public static bool IsFloat(ElementType type) => type is ElementType.Float32 or ElementType.Float64;

    /// <summary>The smallest and the largest number of an integer type.</summary>
    public static (long Low, long High) Range(ElementType type) => type switch
    {
        ElementType.UInt8 => (byte.MinValue, byte.MaxValue),
        ElementType.Int8 => (sbyte.MinValue, sbyte.MaxValue),
        ElementType.Int16 => (short.MinValue, short.MaxValue),
        ElementType.UInt16 => (ushort.MinValue, ushort.MaxValue),
        ElementType.Int32 => (int.MinValue, int.MaxValue),
        _ => (long.MinValue, long.MaxValue),
    };

    private static class Cache<T> where T : unmanaged
    {
        public static readonly ElementType Type =
            typeof(T) == typeof(float) ? ElementType.Float32
            : typeof(T) == typeof(double) ? ElementType.Float64
            : typeof(T) == typeof(byte) ? ElementType.UInt8
            : typeof(T) == typeof(sbyte) ? ElementType.Int8
            : typeof(T) == typeof(short) ? ElementType.Int16
            : typeof(T) == typeof(ushort) ? ElementType.UInt16
            : typeof(T) == typeof(int) ? ElementType.Int32
            : typeof(T) == typeof(long) ? ElementType.Int64
            : 0;
    }
}
