using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using AISandbox.V1;
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
    private readonly float*[] _states;
    private readonly float*[] _nextStates;
    private readonly int[] _stateSizes;
    private readonly float* _starts;
    private readonly int _noiseLength;
    private readonly int _masksLength;
    private readonly int _outputLength;
    private readonly bool _isFloat;
    private readonly int _observationSize;

    public Binding(
        InferenceSession session, Leaf[] leaves, Leaf action, bool isFloat, int noiseSize, int maskSize, IReadOnlyList<StateTensor> state, int count)
    {
        Count = count;
        _leaves = leaves;
        _isFloat = isFloat;
        _binding = session.CreateIoBinding();
        var states = leaves.Length + (maskSize == 0 ? 2 : 3);
        _values = new OrtValue[states + (state.Count == 0 ? 0 : (2 * state.Count) + 1)];
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

        _states = new float*[state.Count];
        _nextStates = new float*[state.Count];
        _stateSizes = new int[state.Count];
        for (var i = 0; i < state.Count; i++)
        {
            long[] shape = [.. state[i].Shape];
            _stateSizes[i] = checked((int)shape.Aggregate(1L, (product, extent) => product * extent));
            _states[i] = (float*)Allocate(states + (2 * i), TensorElementType.Float, count, shape);
            _nextStates[i] = (float*)Allocate(states + (2 * i) + 1, TensorElementType.Float, count, shape);
            new Span<float>(_states[i], checked(count * _stateSizes[i])).Clear();
            _binding.BindInput(state[i].Name, _values[states + (2 * i)]);
            _binding.BindOutput("next_" + state[i].Name, _values[states + (2 * i) + 1]);
        }

        if (state.Count > 0)
        {
            _starts = (float*)Allocate(_values.Length - 1, TensorElementType.Float, count, []);
            new Span<float>(_starts, count).Fill(1);
            _binding.BindInput("episode_start", _values[^1]);
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

    /// <summary>Copies the states of the episodes, row after row, into the inputs; zeros for an episode that starts.</summary>
    public void WriteStates(ReadOnlySpan<float> states, ReadOnlySpan<bool> starts)
    {
        for (var row = 0; row < Count; row++)
        {
            _starts[row] = starts[row] ? 1 : 0;
            for (var i = 0; i < _states.Length; i++)
            {
                var size = _stateSizes[i];
                var input = new Span<float>(_states[i] + (row * size), size);
                if (starts[row])
                {
                    input.Clear();
                }
                else
                {
                    states[..size].CopyTo(input);
                }

                states = states[size..];
            }
        }
    }

    /// <summary>Copies the next states of the episodes, row after row.</summary>
    public void ReadStates(Span<float> states)
    {
        for (var row = 0; row < Count; row++)
        {
            for (var i = 0; i < _nextStates.Length; i++)
            {
                var size = _stateSizes[i];
                new ReadOnlySpan<float>(_nextStates[i] + (row * size), size).CopyTo(states);
                states = states[size..];
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
