using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Text.Json;
using Xunit;

namespace AISandbox.PolicyTests;

/// <summary>The policies that tests/support/dotnet_policies.py has exported, with what the service answers.</summary>
public sealed class Published
{
    private Published(string folder)
    {
        Folder = folder;
        using var document = JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, "expected.json")));
        var root = document.RootElement;
        Name = root.GetProperty("name").GetString()!;
        Observations = Rows(root, "observations");
        Modes = Rows(root, "modes");
        Noise = Rows(root, "noise");
        Samples = Rows(root, "samples");
        Firsts = Rows(root, "firsts");
        Masks = Rows(root, "masks").Select(row => Array.ConvertAll(row, value => (byte)value)).ToArray();
        Masked = Rows(root, "masked");
        MaskedSamples = Rows(root, "masked_samples");
        Frames = Rows(root, "frames");
        Stacked = Rows(root, "stacked");
    }

    public string Folder { get; }

    public string Name { get; }

    public string OnnxFile => Path.Combine(Folder, "policy.onnx");

    public float[][] Observations { get; }

    public float[][] Modes { get; }

    public float[][] Noise { get; }

    public float[][] Samples { get; }

    public float[][] Firsts { get; }

    /// <summary>One for each observation; none for a policy without masks.</summary>
    public byte[][] Masks { get; }

    public float[][] Masked { get; }

    public float[][] MaskedSamples { get; }

    public float[][] Frames { get; }

    public float[][] Stacked { get; }

    /// <summary>The names of all; one empty name where they were not made.</summary>
    public static TheoryData<string> Names()
    {
        var names = new TheoryData<string>();
        foreach (var each in Directory.Exists(Root()) ? Directory.GetDirectories(Root()).Order().Select(Read) : [])
        {
            names.Add(each.Name);
        }

        if (names.Count == 0)
        {
            names.Add(string.Empty);
        }

        return names;
    }

    public static Published Get(string name)
    {
        if (!File.Exists(Path.Combine(Root(), "made")))
        {
            const string Reason = "make the policies first: python tests/support/dotnet_policies.py build/dotnet/policies";
            Assert.SkipWhen(string.IsNullOrEmpty(Environment.GetEnvironmentVariable("REQUIRE_DOTNET")), Reason);
            Assert.Fail(Reason);
        }

        return All.Value[name];
    }

    public static string Metadata(string key) =>
        typeof(Published).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(each => each.Key == key).Value!;

    private static readonly Lazy<Dictionary<string, Published>> All = new(
        () => Directory.GetDirectories(Root()).Select(Read).ToDictionary(each => each.Name));

    private static string Root() => Metadata("Policies");

    private static Published Read(string folder) => new(folder);

    private static float[][] Rows(JsonElement root, string name) => root.TryGetProperty(name, out var rows)
        ? rows.EnumerateArray().Select(row => row.EnumerateArray().Select(number => number.GetSingle()).ToArray()).ToArray()
        : [];
}
