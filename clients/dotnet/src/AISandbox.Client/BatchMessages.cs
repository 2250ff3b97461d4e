using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using Google.Protobuf;

namespace AISandbox.Client;

/// <summary>Translates rows of numbers to the tensors of a batch, one for each leaf of a space, and back.</summary>
internal static class BatchMessages
{
    /// <summary>One tensor for each leaf, float32 [count, *shape]. Throws <see cref="ArgumentException"/> for a wrong number of numbers.</summary>
    public static IEnumerable<V1.Tensor> ToTensors(ReadOnlyMemory<float> rows, int count, V1.Space space)
    {
        var shapes = Leaves(space).ToArray();
        var sizes = shapes.Select(shape => shape.Aggregate(1L, (product, extent) => product * extent)).ToArray();
        var width = sizes.Sum();
        if (count < 1 || rows.Length != count * width)
        {
            throw new ArgumentException(
                $"observations: must have {count} rows of {width} numbers, as the observation space has, got {rows.Length} numbers");
        }

        var offset = 0;
        for (var leaf = 0; leaf < shapes.Length; leaf++)
        {
            var tensor = new V1.Tensor { Dtype = V1.DataType.Float32, Data = Columns(rows.Span, count, (int)width, offset, (int)sizes[leaf]) };
            tensor.Shape.Add(count);
            tensor.Shape.AddRange(shapes[leaf]);
            offset += (int)sizes[leaf];
            yield return tensor;
        }
    }

    public static ActionBatch ToActions(V1.ActBatchResponse response)
    {
        var tensor = response.Actions;
        var values = tensor.Dtype switch
        {
            V1.DataType.Float32 => MemoryMarshal.Cast<byte, float>(tensor.Data.Span).ToArray(),
            V1.DataType.Int64 => Array.ConvertAll(MemoryMarshal.Cast<byte, long>(tensor.Data.Span).ToArray(), each => (float)each),
            var other => throw new NotSupportedException($"the service answered with actions of type {other}; a newer AISandbox.Client is needed"),
        };
        var states = response.State.Select(state => state.Memory).ToArray();
        return new ActionBatch(values, (int)tensor.Shape[0], response.Model, response.ModelTimesteps, states);
    }

    private static ByteString Columns(ReadOnlySpan<float> rows, int count, int width, int offset, int size)
    {
        if (size == width)
        {
            return ByteString.CopyFrom(MemoryMarshal.AsBytes(rows));
        }

        var columns = new float[count * size];
        for (var row = 0; row < count; row++)
        {
            rows.Slice((row * width) + offset, size).CopyTo(columns.AsSpan(row * size));
        }

        return ByteString.CopyFrom(MemoryMarshal.AsBytes<float>(columns));
    }

    // The shape of each leaf, as the comment of Space in tensor.proto has it.
    private static IEnumerable<IReadOnlyList<long>> Leaves(V1.Space space) => space.KindCase switch
    {
        V1.Space.KindOneofCase.Box => new[] { (IReadOnlyList<long>)space.Box.Shape },
        V1.Space.KindOneofCase.Discrete => new[] { Array.Empty<long>() },
        V1.Space.KindOneofCase.MultiDiscrete => new[] { new long[] { space.MultiDiscrete.N.Count } },
        V1.Space.KindOneofCase.MultiBinary => new[] { new[] { space.MultiBinary.N } },
        V1.Space.KindOneofCase.Dict => space.Dict.Entries.SelectMany(entry => Leaves(entry.Space)),
        _ => throw new NotSupportedException("the observation space is of a kind that needs a newer AISandbox.Client"),
    };
}
