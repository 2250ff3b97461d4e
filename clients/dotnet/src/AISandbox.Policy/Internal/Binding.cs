using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace AISandbox.Internal;

/// <summary>The memory of the inputs and the output for one number of observations, bound to a session. Not thread-safe.</summary>
internal sealed unsafe class Binding : IDisposable
{
    private readonly OrtIoBinding _binding;
    private readonly OrtValue[] _values;
    private readonly void*[] _inputs;
    private readonly Leaf[] _leaves;
    private readonly float* _noise;
    private readonly byte* _masks;
    private readonly void* _output;
    private readonly int _noiseLength;
    private readonly int _masksLength;
    private readonly int _outputLength;
    private readonly bool _isFloat;
    private readonly int _observationSize;

    public Binding(InferenceSession session, Leaf[] leaves, Leaf action, bool isFloat, int noiseSize, int maskSize, int count)
    {
        Count = count;
        _leaves = leaves;
        _isFloat = isFloat;
        _binding = session.CreateIoBinding();
        _values = new OrtValue[leaves.Length + (maskSize == 0 ? 2 : 3)];
        _inputs = new void*[leaves.Length];
        for (var i = 0; i < leaves.Length; i++)
        {
            var type = leaves[i].IsBytes ? TensorElementType.UInt8 : TensorElementType.Float;
            _inputs[i] = Allocate(i, type, count, leaves[i].Shape);
            _binding.BindInput(leaves[i].Input, _values[i]);
            _observationSize += (int)leaves[i].Size;
        }

        _noise = (float*)Allocate(leaves.Length, TensorElementType.Float, count, [noiseSize]);
        _noiseLength = checked(count * noiseSize);
        Noise.Clear();
        _binding.BindInput("noise", _values[leaves.Length]);
        _output = Allocate(leaves.Length + 1, isFloat ? TensorElementType.Float : TensorElementType.Int64, count, action.Shape);
        _outputLength = checked((int)(count * action.Size));
        _binding.BindOutput("action", _values[leaves.Length + 1]);
        if (maskSize > 0)
        {
            _masks = (byte*)Allocate(leaves.Length + 2, TensorElementType.UInt8, count, [maskSize]);
            _masksLength = checked(count * maskSize);
            Masks.Fill(1);
            _binding.BindInput("action_mask", _values[leaves.Length + 2]);
        }
    }

    public int Count { get; }

    /// <summary>Counted up by the owner at each use; the least recently used binding makes room for another.</summary>
    public long LastUse { get; set; }

    /// <summary>Whether the noise is other than zero.</summary>
    public bool IsNoisy { get; set; }

    public Span<float> Noise => new(_noise, _noiseLength);

    /// <summary>Whether a mask may forbid something.</summary>
    public bool IsMasked { get; set; }

    public Span<byte> Masks => new(_masks, _masksLength);

    /// <summary>Copies observations, row after row, into the inputs. Throws ArgumentException for numbers that a leaf does not have.</summary>
    public void Write(ReadOnlySpan<float> observations)
    {
        if (_leaves.Length == 1 && !_leaves[0].IsWhole)
        {
            observations.CopyTo(new Span<float>(_inputs[0], observations.Length));
            return;
        }

        for (var row = 0; row < Count; row++)
        {
            var offset = row * _observationSize;
            for (var i = 0; i < _leaves.Length; i++)
            {
                var size = (int)_leaves[i].Size;
                WriteLeaf(i, row * size, observations.Slice(offset, size), offset - (row * _observationSize));
                offset += size;
            }
        }
    }

    public void Run(InferenceSession session, RunOptions options) => session.RunWithBinding(options, _binding);

    /// <summary>Copies the actions; whole numbers become floats. Gives whether all are finite.</summary>
    public bool Read(Span<float> actions)
    {
        if (_isFloat)
        {
            new ReadOnlySpan<float>(_output, _outputLength).CopyTo(actions);
            return Numbers.AreFinite(actions);
        }

        var whole = new ReadOnlySpan<long>(_output, _outputLength);
        for (var i = 0; i < whole.Length; i++)
        {
            actions[i] = whole[i];
        }

        return true;
    }

    public void Dispose()
    {
        _binding.Dispose();
        foreach (var value in _values)
        {
            value?.Dispose();
        }
    }

    private void WriteLeaf(int index, int place, ReadOnlySpan<float> values, int offset)
    {
        var leaf = _leaves[index];
        if (leaf.IsWhole)
        {
            Numbers.CheckWhole(values, leaf, offset);
        }

        if (!leaf.IsBytes)
        {
            values.CopyTo(new Span<float>((float*)_inputs[index] + place, values.Length));
            return;
        }

        var bytes = (byte*)_inputs[index] + place;
        for (var i = 0; i < values.Length; i++)
        {
            bytes[i] = (byte)values[i];
        }
    }

    private void* Allocate(int index, TensorElementType type, int count, long[] shape)
    {
        var batch = new long[shape.Length + 1];
        batch[0] = count;
        shape.CopyTo(batch, 1);
        // Memory of ONNX Runtime, which no garbage collector moves; it lives as long as the value.
        _values[index] = OrtValue.CreateAllocatedTensorValue(OrtAllocator.DefaultInstance, type, batch);
        return Unsafe.AsPointer(ref MemoryMarshal.GetReference(_values[index].GetTensorMutableRawData()));
    }
}
