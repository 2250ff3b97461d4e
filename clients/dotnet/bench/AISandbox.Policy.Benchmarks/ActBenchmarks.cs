using System;
using System.Collections.Generic;
using System.Linq;
using BenchmarkDotNet.Attributes;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace AISandbox.PolicyBenchmarks;

/// <summary>An action of the policy beside ONNX Runtime alone, with memory that is bound once.</summary>
[MemoryDiagnoser]
public class ActBenchmarks : IDisposable
{
    private readonly List<OrtValue> _values = [];
    private float[] _observations = [];
    private float[] _actions = [];
    private Policy? _policy;
    private InferenceSession? _session;
    private RunOptions? _runOptions;
    private OrtIoBinding? _binding;

    /// <summary>The ONNX file.</summary>
    public static string Path { get; set; } = string.Empty;

    [Params(1, 64)]
    public int Observations { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        _policy = Policy.Load(Path);
        var random = new Random(1);
        _observations = Enumerable.Range(0, Observations * _policy.ObservationSize).Select(_ => (float)random.NextDouble()).ToArray();
        _actions = new float[Observations * _policy.ActionSize];
        using var options = new SessionOptions { IntraOpNumThreads = 1, LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR };
        _session = new InferenceSession(Path, options);
        _runOptions = new RunOptions();
        _binding = _session.CreateIoBinding();
        var observation = _session.InputMetadata.Single();
        var action = _session.OutputMetadata.Single();
        _binding.BindInput(observation.Key, Allocate(observation.Value.Dimensions));
        _binding.BindOutput(action.Key, Allocate(action.Value.Dimensions));
    }

    [GlobalCleanup]
    public void Dispose()
    {
        _values.ForEach(value => value.Dispose());
        _values.Clear();
        _binding?.Dispose();
        _runOptions?.Dispose();
        _session?.Dispose();
        _policy?.Dispose();
        GC.SuppressFinalize(this);
    }

    [Benchmark(Baseline = true)]
    public float OnnxRuntime()
    {
        _observations.CopyTo(_values[0].GetTensorMutableDataAsSpan<float>());
        _session!.RunWithBinding(_runOptions!, _binding!);
        _values[1].GetTensorDataAsSpan<float>().CopyTo(_actions);
        return _actions[0];
    }

    [Benchmark]
    public float Act()
    {
        if (Observations == 1)
        {
            _policy!.Act(_observations, _actions);
        }
        else
        {
            _policy!.ActBatch(_observations, _actions);
        }

        return _actions[0];
    }

    [Benchmark]
    public float ActSampled()
    {
        _policy!.ActBatch(_observations, _actions, stochastic: true);
        return _actions[0];
    }

    private OrtValue Allocate(int[] dimensions)
    {
        var shape = dimensions.Select(extent => (long)extent).ToArray();
        shape[0] = Observations;
        _values.Add(OrtValue.CreateAllocatedTensorValue(OrtAllocator.DefaultInstance, TensorElementType.Float, shape));
        return _values[^1];
    }
}
