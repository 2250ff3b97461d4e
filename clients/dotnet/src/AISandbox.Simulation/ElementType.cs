namespace AISandbox.Simulation;

/// <summary>The type of the elements of a box; the numbers are those of <c>DataType</c> in tensor.proto.</summary>
public enum ElementType
{
    /// <summary>float</summary>
    Float32 = 1,

    /// <summary>double</summary>
    Float64 = 2,

    /// <summary>byte</summary>
    UInt8 = 3,

    /// <summary>sbyte</summary>
    Int8 = 4,

    /// <summary>short</summary>
    Int16 = 5,

    /// <summary>int</summary>
    Int32 = 6,

    /// <summary>long</summary>
    Int64 = 7,

    /// <summary>ushort</summary>
    UInt16 = 9,
}
