using System.Collections.Generic;
using System.Linq;
using Google.Protobuf.WellKnownTypes;

namespace AISandbox.Simulation;

/// <summary>
/// What an environment is called, what is observed and what can be done; the same for all of its sessions.
/// <see cref="Create"/> begins one. No reflection is used, so trimming and ahead-of-time compilation (IL2CPP too) keep it working.
/// </summary>
public sealed class EnvironmentSpec
{
    internal EnvironmentSpec(EnvironmentSpecBuilder builder)
    {
        (Name, Version) = (builder.Name, builder.Version);
        ObservationLeaves = builder.Observations.Select(entry => new Leaf(entry.Key, entry.Space)).ToArray();
        IsDict = builder.Observations[0].Key.Length > 0;
        ActionLeaf = new Leaf("", builder.ActionSpace!);
        HasActionMasks = builder.Masks;
        (MaxEpisodeSteps, SecondsPerStep) = (builder.Limit, builder.Seconds);
        (Metrics, Options) = (builder.MetricNames.ToArray(), builder.Options.ToArray());
        ParameterDeclarations = builder.Parameters.ToArray();
        DefaultParameters = OptionDeclaration.Read(ParameterDeclarations, (Struct?)null, "parameter");
        StepsInParallel = builder.Parallel;
        MaskCounts = HasActionMasks ? ActionLeaf.MaskCounts() : [];
        MaskWidth = MaskCounts.Sum();
        Message = ToMessage(builder);
    }

    /// <summary>The name, for people.</summary>
    public string Name { get; }

    /// <summary>The version, for people; may be empty.</summary>
    public string Version { get; }

    /// <summary>Whether observations come with masks that say which actions are allowed next.</summary>
    public bool HasActionMasks { get; }

    /// <summary>After how many steps an episode is truncated; 0: never.</summary>
    public long MaxEpisodeSteps { get; }

    /// <summary>How many seconds of the simulated world a step is; 0: unknown.</summary>
    public double SecondsPerStep { get; }

    /// <summary>The names of the numbers that an episode ends with.</summary>
    public IReadOnlyList<string> Metrics { get; }

    /// <summary>Whether the environments of a session may take their steps at the same time.</summary>
    public bool StepsInParallel { get; }

    /// <summary>The spec as it is sent.</summary>
    public V1.EnvironmentSpec ToContract() => Message.Clone();

    internal Leaf[] ObservationLeaves { get; }

    /// <summary>Whether the observation is a Dict.</summary>
    internal bool IsDict { get; }

    internal Leaf ActionLeaf { get; }

    /// <summary>The number of choices of each dimension of a mask; none without masks.</summary>
    internal int[] MaskCounts { get; }

    /// <summary>The number of bytes of one mask; 0 without masks.</summary>
    internal int MaskWidth { get; }

    internal OptionDeclaration[] Options { get; }

    internal OptionDeclaration[] ParameterDeclarations { get; }

    internal SimulationOptions DefaultParameters { get; }

    internal V1.EnvironmentSpec Message { get; }

    /// <summary>Begins a spec. Add at least <c>Observation</c> and <c>Action</c>, then <c>Build()</c>.</summary>
    public static EnvironmentSpecBuilder Create(string name, string version = "") => new(name, version);

    private V1.EnvironmentSpec ToMessage(EnvironmentSpecBuilder builder)
    {
        V1.Space observation;
        if (IsDict)
        {
            var entries = builder.Observations.Select(entry => new V1.DictEntry { Key = entry.Key, Space = entry.Space.ToMessage() });
            observation = new V1.Space { Dict = new V1.DictSpace { Entries = { entries } } };
        }
        else
        {
            observation = builder.Observations[0].Space.ToMessage();
        }
        return new V1.EnvironmentSpec
        {
            ObservationSpace = observation,
            ActionSpace = builder.ActionSpace!.ToMessage(),
            ActionMasks = HasActionMasks,
            MaxEpisodeSteps = (ulong)MaxEpisodeSteps,
            SecondsPerStep = SecondsPerStep,
            Metrics = { Metrics },
            Parameters = { ParameterDeclarations.Select(parameter => parameter.ToMessage()) },
        };
    }
}
