using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;

namespace AISandbox.Client;

/// <summary>
/// The hyperparameters that all algorithms have; use the record of the algorithm. What is null keeps its default. Ranges
/// are checked by the service, whose error names the hyperparameter.
/// </summary>
public abstract record Hyperparameters
{
    private protected Hyperparameters()
    {
    }

    /// <summary>Step size of the optimizer. A number greater than 0.</summary>
    public Schedule? LearningRate { get; init; }

    /// <summary>Discount factor. A number of at least 0 and at most 1. Default: 0.99.</summary>
    public double? Gamma { get; init; }

    /// <summary>Number of episodes in the reported means. A whole number from 1 to 100,000. Default: 100.</summary>
    public int? StatsWindowSize { get; init; }

    /// <summary>The sizes of the networks, and how they are made.</summary>
    public PolicyNetwork? PolicyKwargs { get; init; }

    /// <summary>Where PyTorch computes: auto, cpu, cuda, cuda:N or mps. Default: auto.</summary>
    public string? Device { get; init; }

    /// <summary>MlpPolicy, CnnPolicy or MultiInputPolicy. Default: by the observation space.</summary>
    public string? Policy { get; init; }

    /// <summary>Environments stepped together. A whole number from 1 to 4,096.</summary>
    public int? NEnvs { get; init; }

    /// <summary>Running normalisation of observations and rewards. Default: none.</summary>
    public Normalization? Normalize { get; init; }

    /// <summary>How many of the last observations are stacked into one. A whole number from 1 to 64.</summary>
    public int? FrameStack { get; init; }

    /// <summary>
    /// Hyperparameters as text, in the notation of RL Zoo (<c>"lin_3e-4"</c>, <c>"dict(net_arch=[64, 64])"</c>), for what
    /// this version of the package has no property for. A name that a property has set too is refused.
    /// </summary>
    public IReadOnlyDictionary<string, string>? Text { get; init; }

    internal abstract V1.Algorithm Algorithm { get; }

    /// <summary>The text of each that is set, by name. Throws <see cref="ArgumentException"/> for one that is set twice.</summary>
    internal IReadOnlyDictionary<string, string> ToText()
    {
        var text = new HyperparameterText();
        WriteOwn(text);
        text.Add("learning_rate", LearningRate);
        text.Add("gamma", Gamma);
        text.Add("stats_window_size", StatsWindowSize);
        text.Add("policy_kwargs", PolicyKwargs);
        text.Add("device", Device);
        text.Add("policy", Policy);
        text.Add("n_envs", NEnvs);
        text.Add("normalize", Normalize);
        text.Add("frame_stack", FrameStack);
        foreach (var (name, value) in Text ?? new Dictionary<string, string>())
        {
            text.AddText(name, value);
        }

        return text.Values;
    }

    private protected abstract void WriteOwn(HyperparameterText text);
}

/// <summary>Writes values as the service reads them, whatever the culture of the process.</summary>
internal sealed class HyperparameterText
{
    private readonly Dictionary<string, string> _values = new(StringComparer.Ordinal);

    public IReadOnlyDictionary<string, string> Values => _values;

    public static string Number(double value) => value.ToString("R", CultureInfo.InvariantCulture);

    public static string Truth(bool value) => value ? "True" : "False";

    public static string List(IEnumerable<int> values) =>
        $"[{string.Join(", ", values.Select(each => each.ToString(CultureInfo.InvariantCulture)))}]";

    /// <summary>A Python literal of the pairs that have a value.</summary>
    public static string Dict(IEnumerable<(string Key, string? Value)> pairs) =>
        $"dict({string.Join(", ", pairs.Where(pair => pair.Value is not null).Select(pair => $"{pair.Key}={pair.Value}"))})";

    public void Add(string name, double? value) => Set(name, value is { } number ? Number(number) : null);

    public void Add(string name, int? value) => Add(name, (long?)value);

    public void Add(string name, long? value) => Set(name, value?.ToString(CultureInfo.InvariantCulture));

    public void Add(string name, bool? value) => Set(name, value is { } truth ? Truth(truth) : null);

    public void Add(string name, AutomaticNumber? value) => Set(name, value?.ToString());

    public void Add(string name, Schedule? value) => Set(name, value?.ToString());

    public void Add(string name, TrainFrequency? value) => Set(name, value?.ToString());

    public void Add(string name, PolicyNetwork? value) => Set(name, value?.ToText());

    public void Add(string name, Normalization? value) => Set(name, value?.ToText());

    public void Add(string name, string? value) => Set(name, value);

    public void AddText(string name, string value)
    {
        if (_values.ContainsKey(name))
        {
            throw new ArgumentException($"Hyperparameters.Text: {name} is also set by a property");
        }

        Set(name, value);
    }

    private void Set(string name, string? value)
    {
        if (value is not null)
        {
            _values[name] = value;
        }
    }
}
