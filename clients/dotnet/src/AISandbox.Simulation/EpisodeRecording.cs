using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.Json;

namespace AISandbox.Simulation;

/// <summary>
/// An episode as what reproduces it: the seed, the options, the parameters and the actions. A file of it is JSON; a simulator leaves one when an
/// environment fails.
/// </summary>
public sealed class EpisodeRecording
{
    private const int Format = 1;

    internal EpisodeRecording(
        string simulation, ulong seed, IReadOnlyDictionary<string, object> options, IReadOnlyDictionary<string, object> parameters,
        double[][] actions, string problem)
    {
        (Simulation, Seed, Problem, OptionValues, Parameters, Actions) = (simulation, seed, problem, options, parameters, actions);
    }

    /// <summary>The name of the environment's spec.</summary>
    public string Simulation { get; }

    /// <summary>The seed of the episode.</summary>
    public ulong Seed { get; }

    /// <summary>The number of steps.</summary>
    public int Steps => Actions.Length;

    /// <summary>The failure that ended the episode, in words; empty if there was none.</summary>
    public string Problem { get; }

    internal IReadOnlyDictionary<string, object> OptionValues { get; }

    internal IReadOnlyDictionary<string, object> Parameters { get; }

    internal double[][] Actions { get; }

    /// <summary>Reads a file. Throws <see cref="RecordingException"/> if it is none, or what opening a file throws.</summary>
    public static EpisodeRecording Load(string path)
    {
        try
        {
            return Parse(File.ReadAllText(path));
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException or KeyNotFoundException or FormatException)
        {
            throw new RecordingException($"{path} is not a recording of an episode: {error.Message}", error);
        }
    }

    /// <summary>Writes a file.</summary>
    public void Save(string path)
    {
        using var file = new FileStream(path, FileMode.Create, FileAccess.Write);
        using var json = new Utf8JsonWriter(file, new JsonWriterOptions { Indented = true });
        json.WriteStartObject();
        json.WriteNumber("format", Format);
        json.WriteString("simulation", Simulation);
        json.WriteNumber("seed", Seed);
        json.WriteStartObject("options");
        foreach (var (name, value) in OptionValues)
            WriteOption(json, name, value);
        json.WriteEndObject();
        if (Parameters.Count > 0)
        {
            json.WriteStartObject("parameters");
            foreach (var (name, value) in Parameters)
                WriteOption(json, name, value);
            json.WriteEndObject();
        }
        if (Problem.Length > 0)
            json.WriteString("problem", Problem);
        json.WritePropertyName("actions");
        // One line for each step, which a person can count.
        json.WriteRawValue(ActionsText());
        json.WriteEndObject();
    }

    /// <summary>
    /// Plays the episode again with an environment, to its last step; set a breakpoint in <see cref="IEnvironment.Step"/> to see what
    /// happened. Throws <see cref="EnvironmentFailedException"/> where the recorded one failed, and
    /// <see cref="RecordingException"/> if the episode ends earlier than the recorded one: then the environment has randomness that
    /// does not come from the seed, or has changed.
    /// </summary>
    public EpisodeResult Replay(IEnvironment environment)
    {
        using var runner = new EnvironmentRunner(environment, OptionValues);
        runner.Reset(Seed, Parameters);
        for (var step = 0; step < Steps; step++)
        {
            if (runner.Ended)
                throw new RecordingException(
                    $"the episode ended after {step} of {Steps} recorded steps: the environment has changed, or takes randomness from elsewhere than its seed");
            runner.Step(Actions[step]);
        }
        return runner.Result;
    }

    internal static EpisodeRecording Of(EnvironmentRow row, string problem)
    {
        var leaf = row.Spec.ActionLeaf;
        var bytes = row.Log.Bytes;
        var actions = new double[bytes.Length / leaf.RowBytes][];
        for (var step = 0; step < actions.Length; step++)
        {
            var action = bytes.Slice(step * leaf.RowBytes, leaf.RowBytes);
            actions[step] = new double[leaf.Size];
            for (var i = 0; i < leaf.Size; i++)
                actions[step][i] = leaf.GetDouble(action, i);
        }
        return new EpisodeRecording(row.Spec.Name, row.Seed, row.Options.Values, row.Parameters.Values, actions, problem);
    }

    private static EpisodeRecording Parse(string text)
    {
        using var document = JsonDocument.Parse(text);
        var root = document.RootElement;
        var format = root.GetProperty("format").GetInt32();
        if (format != Format)
            throw new FormatException($"its format is {format}, this version reads {Format}");
        var options = root.GetProperty("options").EnumerateObject().ToDictionary(option => option.Name, option => ReadOption(option.Value));
        var parameters = root.TryGetProperty("parameters", out var given)
            ? given.EnumerateObject().ToDictionary(parameter => parameter.Name, parameter => ReadOption(parameter.Value)) : [];
        var actions = root.GetProperty("actions").EnumerateArray()
            .Select(action => action.EnumerateArray().Select(number => number.GetDouble()).ToArray()).ToArray();
        return new EpisodeRecording(
            root.GetProperty("simulation").GetString() ?? "", root.GetProperty("seed").GetUInt64(), options, parameters, actions,
            root.TryGetProperty("problem", out var problem) ? problem.GetString() ?? "" : "");
    }

    private string ActionsText()
    {
        var lines = Actions.Select(action => $"    [{string.Join(", ", action.Select(number => number.ToString("R", System.Globalization.CultureInfo.InvariantCulture)))}]");
        return new StringBuilder("[\n").Append(string.Join(",\n", lines)).Append("\n  ]").ToString();
    }

    private static void WriteOption(Utf8JsonWriter json, string name, object value)
    {
        switch (value)
        {
            case long number:
                json.WriteNumber(name, number);
                break;
            case double number:
                json.WriteNumber(name, number);
                break;
            case bool flag:
                json.WriteBoolean(name, flag);
                break;
            default:
                json.WriteString(name, (string)value);
                break;
        }
    }

    private static object ReadOption(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.True or JsonValueKind.False => value.GetBoolean(),
        JsonValueKind.Number => value.TryGetInt64(out var number) ? number : value.GetDouble(),
        _ => value.GetString() ?? "",
    };
}
