using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using Google.Protobuf.WellKnownTypes;

namespace AISandbox.Simulation;

/// <summary>
/// The options of a session: the run's <c>environment.grpc.options</c>, checked against what the spec declares, with its
/// defaults for those that were not given; or the parameters of an episode. Each method throws <see cref="ArgumentException"/> for
/// one that the spec does not declare with that type.
/// </summary>
public sealed class SimulationOptions
{
    private readonly Dictionary<string, object> values;
    private readonly string what;

    internal SimulationOptions(Dictionary<string, object> values, string what) => (this.values, this.what) = (values, what);

    /// <summary>The names of all options, in the order of the spec.</summary>
    public IReadOnlyCollection<string> Names => values.Keys;

    /// <summary>The value of a whole number.</summary>
    public long Integer(string name) => Get<long>(name, "whole number");

    /// <summary>The value of a number.</summary>
    public double Number(string name) => Get<double>(name, "number");

    /// <summary>The value of a text.</summary>
    public string Text(string name) => Get<string>(name, "text");

    /// <summary>The value of an option that is true or false.</summary>
    public bool Flag(string name) => Get<bool>(name, "true or false");

    internal IReadOnlyDictionary<string, object> Values => values;

    private T Get<T>(string name, string words)
    {
        if (!values.TryGetValue(name, out var value))
            throw new ArgumentException($"{what} '{name}' is not declared in the spec", nameof(name));
        return value is T typed
            ? typed
            : throw new ArgumentException($"{what} '{name}' is declared as {OptionDeclaration.Words(value)}, not as {words}", nameof(name));
    }
}

/// <summary>An option or a parameter that a spec declares; <see cref="Default"/> is a long, a double, a string or a bool.</summary>
internal sealed class OptionDeclaration
{
    /// <summary>Numbers travel as double; a bound beyond it is none.</summary>
    private const double MostWhole = 9007199254740992;

    public OptionDeclaration(string name, object @default) => (Name, Default) = (name, @default);

    public string Name { get; }

    public object Default { get; }

    public double Minimum { get; set; } = double.NegativeInfinity;

    public double Maximum { get; set; } = double.PositiveInfinity;

    public IReadOnlyList<string> Choices { get; set; } = [];

    /// <summary>Of a parameter.</summary>
    public string Description { get; set; } = "";

    /// <summary>Why a parameter cannot be called so, as EpisodeParameter says; null if it can.</summary>
    public string? NameProblem =>
        Name is { Length: >= 1 and <= 64 } && IsLetter(Name[0]) && Name.All(c => IsLetter(c) || c is (>= '0' and <= '9') or '_' or '-' or '.')
            ? null : "must be 1 to 64 letters, digits, '_', '-' and '.', beginning with a letter";

    public static string Words(object value) => value switch
    {
        long => "whole number",
        double => "number",
        string => "text",
        _ => "true or false",
    };

    /// <summary>The options of a session, from what a client sent. Throws InvalidOptionException.</summary>
    public static SimulationOptions Read(IReadOnlyList<OptionDeclaration> declared, Struct? sent, string what = "option")
    {
        var values = declared.ToDictionary(option => option.Name, option => option.Default);
        if (sent is not null)
        {
            foreach (var (name, value) in sent.Fields)
            {
                var option = declared.FirstOrDefault(option => option.Name == name)
                    ?? throw new InvalidOptionException(declared.Count == 0
                        ? $"'{name}' is unknown: this simulation takes no {what}s"
                        : $"'{name}' is unknown; there are {string.Join(", ", declared.Select(other => $"'{other.Name}'"))}");
                values[name] = option.Parse(value);
            }
        }
        return new SimulationOptions(values, what);
    }

    /// <summary>Options that are C# values; an int stands for a long. Throws InvalidOptionException.</summary>
    public static SimulationOptions Read(
        IReadOnlyList<OptionDeclaration> declared, IReadOnlyDictionary<string, object> given, string what = "option")
    {
        var sent = new Struct();
        foreach (var (name, value) in given)
        {
            sent.Fields[name] = value switch
            {
                string text => Value.ForString(text),
                bool flag => Value.ForBool(flag),
                int or long or float or double => Value.ForNumber(Convert.ToDouble(value, CultureInfo.InvariantCulture)),
                _ => throw new InvalidOptionException($"'{name}' is of type {value?.GetType().Name ?? "null"}, expected a number, a text or a bool"),
            };
        }
        return Read(declared, sent, what);
    }

    /// <summary>Throws InvalidOptionException for a value that is not accepted.</summary>
    public object Check(object value)
    {
        if (value is string text && Choices.Count > 0 && !Choices.Contains(text))
            throw new InvalidOptionException($"'{Name}' is '{text}', expected one of {string.Join(", ", Choices.Select(choice => $"'{choice}'"))}");
        if (value is long or double)
        {
            var number = Convert.ToDouble(value, CultureInfo.InvariantCulture);
            if (!(number >= Minimum && number <= Maximum && double.IsFinite(number)))
                throw new InvalidOptionException(FormattableString.Invariant($"'{Name}' is {number}, expected {Minimum} .. {Maximum}"));
        }
        return value;
    }

    /// <summary>A parameter as it is sent.</summary>
    public V1.EpisodeParameter ToMessage()
    {
        var message = new V1.EpisodeParameter { Name = Name, Description = Description, Whole = Default is long, Choices = { Choices } };
        message.Default = Default switch
        {
            string text => Value.ForString(text),
            bool flag => Value.ForBool(flag),
            _ => Value.ForNumber(Convert.ToDouble(Default, CultureInfo.InvariantCulture)),
        };
        if (Default is long or double)
        {
            if (Minimum > -MostWhole)
                message.Minimum = Minimum;
            if (Maximum < MostWhole)
                message.Maximum = Maximum;
        }
        return message;
    }

    private static bool IsLetter(char c) => c is (>= 'a' and <= 'z') or (>= 'A' and <= 'Z');

    private object Parse(Value value)
    {
        object? parsed = (Default, value.KindCase) switch
        {
            (long, Value.KindOneofCase.NumberValue) when Math.Floor(value.NumberValue) == value.NumberValue => (long)value.NumberValue,
            (double, Value.KindOneofCase.NumberValue) => value.NumberValue,
            (string, Value.KindOneofCase.StringValue) => value.StringValue,
            (bool, Value.KindOneofCase.BoolValue) => value.BoolValue,
            _ => null,
        };
        return Check(parsed ?? throw new InvalidOptionException($"'{Name}' is {value}, expected a value that is {Words(Default)}"));
    }
}
