using System;
using Google.Protobuf;

namespace AISandbox.Simulation;

/// <summary>Rows of a leaf as tensors of the contract; elements are little-endian, as every platform of .NET has them.</summary>
internal static class Tensors
{
    /// <summary>A tensor that shows what is in <paramref name="data"/>, also after it has changed.</summary>
    public static V1.Tensor View(Leaf leaf, int rows, ReadOnlyMemory<byte> data) => Of(leaf, rows, UnsafeByteOperations.UnsafeWrap(data));

    public static V1.Tensor Copy(Leaf leaf, int rows, ReadOnlySpan<byte> data) => Of(leaf, rows, ByteString.CopyFrom(data));

    /// <summary>What is wrong with the type or the shape of a batch, in words; null if nothing is.</summary>
    public static string? Problem(V1.Tensor? tensor, Leaf leaf, int rows)
    {
        if (tensor is null)
            return "is not set";
        if ((int)tensor.Dtype != (int)leaf.Type)
            return $"has dtype {tensor.Dtype}, expected {(V1.DataType)leaf.Type}";
        var fits = tensor.Shape.Count == leaf.Shape.Length + 1 && tensor.Shape[0] == rows;
        for (var i = 0; fits && i < leaf.Shape.Length; i++)
            fits = tensor.Shape[i + 1] == leaf.Shape[i];
        if (!fits)
            return $"has shape [{string.Join(", ", tensor.Shape)}], expected [{string.Join(", ", [rows, .. leaf.Shape])}]";
        return tensor.Data.Length == (long)rows * leaf.RowBytes
            ? null
            : $"has {tensor.Data.Length} bytes, expected {(long)rows * leaf.RowBytes}";
    }

    private static V1.Tensor Of(Leaf leaf, int rows, ByteString data)
    {
        var tensor = new V1.Tensor { Dtype = (V1.DataType)leaf.Type, Shape = { rows }, Data = data };
        foreach (var extent in leaf.Shape)
            tensor.Shape.Add(extent);
        return tensor;
    }
}
