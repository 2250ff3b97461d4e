using System;
using System.Collections.Generic;
using System.Linq;

namespace AISandbox.Simulation;

/// <summary>Makes an <see cref="EnvironmentSpec"/>; every method throws <see cref="InvalidSpecException"/>, naming the rule.</summary>
public sealed class EnvironmentSpecBuilder
{
    private const int MostParameters = 64;

    internal EnvironmentSpecBuilder(string name, string version)
    {
        if (string.IsNullOrWhiteSpace(name))
            throw new InvalidSpecException("name: must not be empty; it is shown in lists");
        (Name, Version) = (name, version);
    }

    internal string Name { get; }

    internal string Version { get; }

    internal List<(string Key, Space Space)> Observations { get; } = [];

    internal Space? ActionSpace { get; private set; }

    internal bool Masks { get; private set; }

    internal bool Parallel { get; private set; }

    internal long Limit { get; private set; }

    internal double Seconds { get; private set; }

    internal List<string> MetricNames { get; } = [];

    internal List<OptionDeclaration> Options { get; } = [];

    internal List<OptionDeclaration> Parameters { get; } = [];

    /// <summary>The observation is one value of this space.</summary>
    public EnvironmentSpecBuilder Observation(Space space)
    {
        if (Observations.Count > 0)
            throw new InvalidSpecException("observation: there is one already; give each a key: Observation(\"camera\", space)");
        Observations.Add(("", space));
        return this;
    }

    /// <summary>The observation is a Dict, and this is one of its entries; they keep their order.</summary>
    public EnvironmentSpecBuilder Observation(string key, Space space)
    {
        if (string.IsNullOrEmpty(key))
            throw new InvalidSpecException("observation: a key is not empty");
        if (Observations.Any(entry => entry.Key == key))
            throw new InvalidSpecException($"observation '{key}' is there twice");
        if (Observations.Any(entry => entry.Key.Length == 0))
            throw new InvalidSpecException($"observation '{key}': there is one without a key already; give each a key");
        Observations.Add((key, space));
        return this;
    }

    /// <summary>What can be done.</summary>
    public EnvironmentSpecBuilder Action(Space space)
    {
        if (!space.IsBounded)
            throw new InvalidSpecException(
                "action: a box of actions needs finite bounds, because actions are scaled to them: Space.Box(2).Between(-1, 1)");
        ActionSpace = space;
        return this;
    }

    /// <summary>What can be done: one of the members of an enum.</summary>
    public EnvironmentSpecBuilder Action<TEnum>() where TEnum : struct, Enum => Action(Space.Discrete<TEnum>());

    /// <summary>
    /// Which actions are allowed changes from step to step: <c>context.Mask</c> says so. For Discrete, MultiDiscrete and MultiBinary
    /// actions.
    /// </summary>
    public EnvironmentSpecBuilder ActionMasks()
    {
        Masks = true;
        return this;
    }

    /// <summary>
    /// After how many steps an episode is truncated; the environment need not count. A limit of time is not a final state: what
    /// would have followed has a value.
    /// </summary>
    public EnvironmentSpecBuilder MaxEpisodeSteps(long steps)
    {
        if (steps < 1)
            throw new InvalidSpecException($"MaxEpisodeSteps: at least 1, not {steps}; leave it out for no limit");
        Limit = steps;
        return this;
    }

    /// <summary>How many seconds of the simulated world a step is: for people, and for playing at its own pace.</summary>
    public EnvironmentSpecBuilder SecondsPerStep(double seconds)
    {
        if (!(seconds > 0 && double.IsFinite(seconds)))
            throw new InvalidSpecException($"SecondsPerStep: more than 0 and finite, not {seconds}");
        Seconds = seconds;
        return this;
    }

    /// <summary>Numbers that an episode ends with, for people: <c>context.Metrics["goals"] += 1</c>. Each is 0 when an episode begins.</summary>
    public EnvironmentSpecBuilder Metrics(params string[] names)
    {
        foreach (var name in names)
        {
            if (string.IsNullOrEmpty(name) || MetricNames.Contains(name))
                throw new InvalidSpecException($"metric '{name}': is empty or there twice");
            MetricNames.Add(name);
        }
        return this;
    }

    /// <summary>
    /// The environments of a session may take their steps at the same time, each in its own thread: they share no state that
    /// changes. Worth it from about 20 us a step.
    /// </summary>
    public EnvironmentSpecBuilder StepsInParallel()
    {
        Parallel = true;
        return this;
    }

    /// <summary>An option of a session that is a whole number.</summary>
    public EnvironmentSpecBuilder Option(string name, long @default, long minimum = long.MinValue, long maximum = long.MaxValue) =>
        Add(new OptionDeclaration(name, @default) { Minimum = minimum, Maximum = maximum });

    /// <summary>An option of a session that is a number.</summary>
    public EnvironmentSpecBuilder Option(
        string name, double @default, double minimum = double.NegativeInfinity, double maximum = double.PositiveInfinity) =>
        Add(new OptionDeclaration(name, @default) { Minimum = minimum, Maximum = maximum });

    /// <summary>An option of a session that is a text; one of <paramref name="choices"/> if there are any.</summary>
    public EnvironmentSpecBuilder Option(string name, string @default, params string[] choices) =>
        Add(new OptionDeclaration(name, @default) { Choices = choices });

    /// <summary>An option of a session that is true or false.</summary>
    public EnvironmentSpecBuilder Option(string name, bool @default) => Add(new OptionDeclaration(name, @default));

    /// <summary>
    /// A parameter of episodes that is a whole number: <c>context.Parameters.Integer(name)</c>. The lessons of a run choose its value.
    /// </summary>
    public EnvironmentSpecBuilder Parameter(
        string name, long @default, long minimum = long.MinValue, long maximum = long.MaxValue, string description = "") =>
        AddParameter(new OptionDeclaration(name, @default) { Minimum = minimum, Maximum = maximum, Description = description });

    /// <summary>A parameter of episodes that is a number: <c>context.Parameters.Number(name)</c>.</summary>
    public EnvironmentSpecBuilder Parameter(
        string name, double @default, double minimum = double.NegativeInfinity, double maximum = double.PositiveInfinity,
        string description = "") =>
        AddParameter(new OptionDeclaration(name, @default) { Minimum = minimum, Maximum = maximum, Description = description });

    /// <summary>A parameter of episodes that is a text; one of <paramref name="choices"/> if there are any.</summary>
    public EnvironmentSpecBuilder Parameter(string name, string @default, params string[] choices) =>
        AddParameter(new OptionDeclaration(name, @default) { Choices = choices });

    /// <summary>A parameter of episodes that is true or false.</summary>
    public EnvironmentSpecBuilder Parameter(string name, bool @default, string description = "") =>
        AddParameter(new OptionDeclaration(name, @default) { Description = description });

    /// <summary>The spec.</summary>
    public EnvironmentSpec Build()
    {
        if (Observations.Count == 0)
            throw new InvalidSpecException("observation: there is none; add Observation(Space.Box(4))");
        if (ActionSpace is null)
            throw new InvalidSpecException("action: there is none; add Action(Space.Discrete(2))");
        if (Masks && ActionSpace.Kind == LeafKind.Box)
            throw new InvalidSpecException("ActionMasks: only Discrete, MultiDiscrete and MultiBinary actions have masks");
        return new EnvironmentSpec(this);
    }

    private EnvironmentSpecBuilder Add(OptionDeclaration option) => Add(Options, option, "option");

    private EnvironmentSpecBuilder AddParameter(OptionDeclaration parameter)
    {
        if (parameter.NameProblem is { } problem)
            throw new InvalidSpecException($"parameter '{parameter.Name}': {problem}");
        if (Parameters.Count == MostParameters)
            throw new InvalidSpecException($"parameter '{parameter.Name}': there are {MostParameters} already, which is the most");
        return Add(Parameters, parameter, "parameter");
    }

    private EnvironmentSpecBuilder Add(List<OptionDeclaration> declared, OptionDeclaration option, string what)
    {
        if (string.IsNullOrEmpty(option.Name) || declared.Any(other => other.Name == option.Name))
            throw new InvalidSpecException($"{what} '{option.Name}': is empty or there twice");
        try
        {
            option.Check(option.Default);
        }
        catch (InvalidOptionException error)
        {
            throw new InvalidSpecException($"the default of {what} {error.Message}");
        }
        declared.Add(option);
        return this;
    }
}
