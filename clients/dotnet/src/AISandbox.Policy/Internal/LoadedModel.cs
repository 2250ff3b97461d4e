using System;
using System.Collections.Generic;
using System.Linq;
using AISandbox.V1;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace AISandbox.Internal;

/// <summary>A policy in an ONNX Runtime session, with memory for the batches that are asked for. Not thread-safe.</summary>
internal sealed class LoadedModel : IDisposable
{
    private const string DescriptionProperty = "aisandbox.description";
    private const string GoldenProperty = "aisandbox.golden";
    private const int MostBindings = 8;

    private readonly InferenceSession _session;
    private readonly RunOptions _runOptions = new();
    private readonly List<Binding> _bindings = new(MostBindings);
    private Binding _last;
    private long _uses;

    private LoadedModel(InferenceSession session, DescribeModelResponse description, ModelFile file, GoldenExamples? golden)
    {
        _session = session;
        Leaves = Leaf.Of(description.ObservationSpace);
        Action = Leaf.Of(description.ActionSpace)[0];
        IsFloat = description.ActionSpace.KindCase == Space.KindOneofCase.Box;
        ObservationSize = checked((int)Leaves.Sum(leaf => leaf.Size));
        Model = new PolicyModel(description, file.Digest, golden is not null);
        Mask = new MaskLayout(Action, checked((int)description.MaskSize));
        StateSize = checked((int)description.State.Sum(tensor => tensor.Shape.Aggregate(1L, (product, extent) => product * extent)));
        CheckContract(file.Source);
        _last = Bind(1);
        if (golden is not null)
        {
            Replay(golden, file.Source);
        }
    }

    public PolicyModel Model { get; }

    public Leaf[] Leaves { get; }

    public Leaf Action { get; }

    public bool IsFloat { get; }

    public int ObservationSize { get; }

    public int ActionSize => (int)Action.Size;

    public int NoiseSize => (int)Model.Description.NoiseSize;

    public MaskLayout Mask { get; }

    /// <summary>The numbers of the state of one episode; 0 for a policy that is not recurrent.</summary>
    public int StateSize { get; }

    public int Frames => Math.Max(1, (int)Model.Description.FrameStack);

    /// <summary>The next one of a list of models that are to be disposed of.</summary>
    public LoadedModel? NextRetired { get; set; }

    public static LoadedModel Load(ModelFile file, PolicyOptions options)
    {
        if (options.FileDigest is { } expected)
        {
            file.CheckDigest(expected);
        }

        OnnxEnvironment.EnsureCreated();
        using var sessionOptions = OnnxEnvironment.CreateOptions(options.ConfigureSession);
        InferenceSession session;
        try
        {
            session = new InferenceSession(file.Onnx, sessionOptions);
        }
        catch (OnnxRuntimeException error)
        {
            throw new PolicyException(
                PolicyErrorReason.Damaged,
                $"ONNX Runtime cannot load {file.Source}: it is not an ONNX file, or is damaged; get it again. {error.Message}",
                error);
        }

        try
        {
            var properties = session.ModelMetadata.CustomMetadataMap;
            var description = file.Description ?? Describe(properties, file.Source);
            var golden = file.Golden ?? (properties.TryGetValue(GoldenProperty, out var property) ? property : null);
            return new LoadedModel(session, description, file, golden is null ? null : GoldenExamples.Parse(golden));
        }
        catch
        {
            session.Dispose();
            throw;
        }
    }

    public bool HasSpacesOf(LoadedModel other) =>
        Model.Description.ObservationSpace.Equals(other.Model.Description.ObservationSpace)
        && Model.Description.ActionSpace.Equals(other.Model.Description.ActionSpace)
        && Frames == other.Frames
        && Mask.Size == other.Mask.Size
        && StateSize == other.StateSize;

    /// <summary>The numbers of observations that there is memory for.</summary>
    public int[] BatchSizes() => _bindings.Select(binding => binding.Count).ToArray();

    /// <summary>Makes the memory for these numbers of observations, and uses it once.</summary>
    public void Prepare(int[] batchSizes)
    {
        foreach (var count in batchSizes)
        {
            Find(count).Run(_session, _runOptions);
        }
    }

    /// <summary>
    /// Gives the actions for observations, row after row. The noise is given, drawn, or (both null) zero. Without masks all actions are allowed.
    /// Of a recurrent policy, the states of the episodes are replaced by the next ones; those of an episode that starts are not read.
    /// </summary>
    public void Act(
        ReadOnlySpan<float> observations,
        ReadOnlySpan<byte> masks,
        Span<float> actions,
        int count,
        NoiseSource? source,
        ReadOnlySpan<float> noise,
        Span<float> states,
        ReadOnlySpan<bool> starts)
    {
        Mask.Check(masks, count);
        var binding = _last.Count == count ? _last : Find(count);
        binding.Write(observations);
        if (!masks.IsEmpty)
        {
            masks.CopyTo(binding.Masks);
            binding.IsMasked = true;
        }
        else if (binding.IsMasked)
        {
            binding.Masks.Fill(1);
            binding.IsMasked = false;
        }

        if (source is not null)
        {
            source.Fill(binding.Noise, Model.Description.NoiseKind, NoiseSize, Model.Description.Epsilon);
            binding.IsNoisy = true;
        }
        else if (!noise.IsEmpty)
        {
            noise.CopyTo(binding.Noise);
            binding.IsNoisy = true;
        }
        else if (binding.IsNoisy)
        {
            binding.Noise.Clear();
            binding.IsNoisy = false;
        }

        if (StateSize > 0)
        {
            binding.WriteStates(states, starts);
        }

        binding.Run(_session, _runOptions);
        if (!binding.Read(actions))
        {
            throw new ArgumentException("The observation has numbers so large that the action is not finite.", nameof(observations));
        }

        if (StateSize > 0)
        {
            binding.ReadStates(states);
        }
    }

    public void Dispose()
    {
        foreach (var binding in _bindings)
        {
            binding.Dispose();
        }

        _runOptions.Dispose();
        _session.Dispose();
    }

    private static DescribeModelResponse Describe(Dictionary<string, string> properties, string source) =>
        properties.TryGetValue(DescriptionProperty, out var json)
            ? ModelFile.ParseDescription(json, source)
            : throw new PolicyException(
                PolicyErrorReason.NotAPolicy,
                $"{source} has no description: it is not a policy of this service, or is one of an early version of it. Load the folder of the published "
                + "model instead, or put its metadata.json and golden.json beside the file and name it policy.onnx.");

    private Binding Find(int count)
    {
        _uses++;
        foreach (var binding in _bindings)
        {
            if (binding.Count == count)
            {
                binding.LastUse = _uses;
                return _last = binding;
            }
        }

        if (_bindings.Count == MostBindings)
        {
            var oldest = _bindings[0];
            foreach (var binding in _bindings)
            {
                oldest = binding.LastUse < oldest.LastUse ? binding : oldest;
            }

            _bindings.Remove(oldest);
            oldest.Dispose();
        }

        return _last = Bind(count);
    }

    private Binding Bind(int count)
    {
        var binding = new Binding(_session, Leaves, Action, IsFloat, NoiseSize, Mask.Size, Model.Description.State, count) { LastUse = _uses };
        _bindings.Add(binding);
        return binding;
    }

    private void CheckContract(string source)
    {
        var inputs = _session.InputMetadata;
        var expected = Leaves.ToDictionary(leaf => leaf.Input, leaf => leaf.IsBytes ? TensorElementType.UInt8 : TensorElementType.Float);
        foreach (var tensor in Model.Description.State)
        {
            expected[tensor.Name] = TensorElementType.Float;
            expected["episode_start"] = TensorElementType.Float;
        }

        var isSame = inputs.Count == expected.Count
            && expected.All(each => inputs.TryGetValue(each.Key, out var input) && input.ElementDataType == each.Value);
        if (!isSame || !_session.OverridableInitializerMetadata.ContainsKey("noise") || NoiseSize < 1 || Model.Description.NoiseKind == NoiseKind.Unspecified)
        {
            throw new PolicyException(
                PolicyErrorReason.NotAPolicy,
                $"{source} does not fit its description: it has the inputs {string.Join(", ", inputs.Keys)} instead of {string.Join(", ", expected.Keys)}, "
                + "or no noise. The file and its description are of two models.");
        }

        var hasMask = _session.OverridableInitializerMetadata.TryGetValue("action_mask", out var mask);
        if (hasMask != Mask.Size > 0 || (hasMask && mask!.ElementDataType != TensorElementType.UInt8))
        {
            throw new PolicyException(
                PolicyErrorReason.NotAPolicy,
                $"{source} does not fit its description: it takes {(hasMask ? "masks" : "no masks")}, and {Mask.Size} values are one. They are of two models.");
        }

        var type = IsFloat ? TensorElementType.Float : TensorElementType.Int64;
        if (!_session.OutputMetadata.TryGetValue("action", out var output) || output.ElementDataType != type)
        {
            throw new PolicyException(PolicyErrorReason.NotAPolicy, $"{source} does not fit its description: it has no action of the type {type}.");
        }

        foreach (var tensor in Model.Description.State)
        {
            if (!_session.OutputMetadata.TryGetValue("next_" + tensor.Name, out var next) || next.ElementDataType != TensorElementType.Float)
            {
                throw new PolicyException(PolicyErrorReason.NotAPolicy, $"{source} does not fit its description: it has no output next_{tensor.Name}.");
            }
        }
    }

    private void Replay(GoldenExamples golden, string source)
    {
        if (golden.Observations.Length != Leaves.Length
            || golden.Observations.Zip(Leaves, (values, leaf) => values.Length == leaf.Size * golden.Count).Contains(false)
            || golden.Actions.Length != ActionSize * golden.Count
            || golden.Noise.Length != NoiseSize * golden.Count
            || golden.Masks.Length != Mask.Size * golden.Count
            || golden.EpisodeStarts.Length != (StateSize == 0 ? 0 : golden.Count))
        {
            throw new PolicyException(PolicyErrorReason.Damaged, $"The golden examples of {source} are of another model.");
        }

        var observation = new float[ObservationSize];
        var actions = new float[golden.Actions.Length];
        var state = new float[StateSize];
        for (var i = 0; i < golden.Count; i++)
        {
            golden.CopyObservation(i, observation);
            var masks = golden.Masks.AsSpan(i * Mask.Size, Mask.Size);
            var start = StateSize == 0 ? default : golden.EpisodeStarts.AsSpan(i, 1);
            var noise = golden.Noise.AsSpan(i * NoiseSize, NoiseSize);
            Act(observation, masks, actions.AsSpan(i * ActionSize, ActionSize), 1, null, noise, state, start);
        }

        if (golden.Difference(actions) is { } difference)
        {
            throw new PolicyException(
                PolicyErrorReason.Damaged,
                $"{difference}: {source} is damaged, or the ONNX Runtime of this machine gives other actions than the one of the training. Get the file "
                + "again; if that does not help, use another version of ONNX Runtime.");
        }
    }
}
