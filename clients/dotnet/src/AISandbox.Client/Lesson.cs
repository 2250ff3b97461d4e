using System;
using System.Collections.Generic;
using System.Linq;
using Google.Protobuf.WellKnownTypes;

namespace AISandbox.Client;

/// <summary>A part of a training: parameters for its episodes, and when the next lesson begins.</summary>
public sealed record Lesson
{
    /// <summary>
    /// 1 to 64 letters, digits, blanks, <c>_</c>, <c>.</c> and <c>-</c>, with a letter or digit at both ends; each lesson has a name of
    /// its own.
    /// </summary>
    public required string Name { get; init; }

    /// <summary>Values for parameters that the environment declares; those that are not named have their defaults.</summary>
    public IReadOnlyDictionary<string, LessonValue> Parameters { get; init; } = new Dictionary<string, LessonValue>();

    /// <summary>When the lesson ends. Null for the last lesson, which lasts to the end of the run; all others have it.</summary>
    public LessonEnd? Until { get; init; }

    internal V1.Lesson ToMessage()
    {
        var message = new V1.Lesson { Name = Name, Until = Until?.ToMessage(), Parameters = new Struct() };
        foreach (var (parameter, value) in Parameters)
        {
            message.Parameters.Fields.Add(parameter, value.ToMessage());
        }

        return message;
    }
}

/// <summary>When a lesson ends: as soon as one of <see cref="Reward"/>, <see cref="Episodes"/> and <see cref="Timesteps"/> is reached.</summary>
/// <remarks>At least one of them is set. Only episodes that began in the lesson count.</remarks>
public sealed record LessonEnd
{
    /// <summary>The mean undiscounted return of the last <see cref="OverEpisodes"/> episodes is at least this; null: no return ends it.</summary>
    public double? Reward { get; init; }

    /// <summary>How many episodes that mean is of, 1 to 10,000; only with <see cref="Reward"/>. Null: 100.</summary>
    public int? OverEpisodes { get; init; }

    /// <summary>So many episodes have ended, 1 to 10^12; null: no number of episodes ends it.</summary>
    public long? Episodes { get; init; }

    /// <summary>So many environment steps were taken in the lesson, over all environments, 1 to 10^12; null: no number of steps ends it.</summary>
    public long? Timesteps { get; init; }

    internal V1.LessonEnd ToMessage()
    {
        var message = new V1.LessonEnd();
        if (Reward is { } reward)
        {
            message.Reward = reward;
        }

        if (OverEpisodes is { } window)
        {
            message.OverEpisodes = Training.ToPositive(window, "Lesson.Until.OverEpisodes");
        }

        if (Episodes is { } episodes)
        {
            message.Episodes = episodes;
        }

        if (Timesteps is { } timesteps)
        {
            message.Timesteps = timesteps;
        }

        return message;
    }
}

/// <summary>The value of a parameter in a lesson: a number, a text, true or false; or one that is drawn for each episode.</summary>
public sealed record LessonValue
{
    private readonly Value _value;

    private LessonValue(Value value) => _value = value;

    /// <summary>Drawn for each episode, each number of the range as likely; of a parameter that is a whole number both ends included.</summary>
    /// <param name="low">The least.</param>
    /// <param name="high">The greatest.</param>
    public static LessonValue Uniform(double low, double high) => Drawn("uniform", Value.ForNumber(low), Value.ForNumber(high));

    /// <summary>Drawn for each episode, with a logarithm that is uniform.</summary>
    /// <param name="low">The least, more than 0.</param>
    /// <param name="high">The greatest.</param>
    public static LessonValue LogUniform(double low, double high) => Drawn("log_uniform", Value.ForNumber(low), Value.ForNumber(high));

    /// <summary>Drawn for each episode, each as likely.</summary>
    /// <param name="values">What is drawn from.</param>
    /// <exception cref="ArgumentException">One of them is itself drawn.</exception>
    public static LessonValue Choice(params LessonValue[] values) => Array.Exists(values, each => each._value.KindCase == Value.KindOneofCase.StructValue)
        ? throw new ArgumentException("each value of a choice must be a number, a text, true or false", nameof(values))
        : Drawn("choice", values.Select(each => each._value).ToArray());

    /// <summary>This number.</summary>
    /// <param name="value">The number.</param>
    public static LessonValue Constant(double value) => new(Value.ForNumber(value));

    /// <summary>This text.</summary>
    /// <param name="value">The text.</param>
    public static LessonValue Constant(string value) => new(Value.ForString(value));

    /// <summary>True or false.</summary>
    /// <param name="value">Which.</param>
    public static LessonValue Constant(bool value) => new(Value.ForBool(value));

    /// <summary>This number.</summary>
    /// <param name="value">The number.</param>
    public static implicit operator LessonValue(double value) => Constant(value);

    /// <summary>This text.</summary>
    /// <param name="value">The text.</param>
    public static implicit operator LessonValue(string value) => Constant(value);

    /// <summary>True or false.</summary>
    /// <param name="value">Which.</param>
    public static implicit operator LessonValue(bool value) => Constant(value);

    /// <summary>As the service reads it, as JSON.</summary>
    public override string ToString() => _value.ToString();

    internal Value ToMessage() => _value.Clone();

    private static LessonValue Drawn(string how, params Value[] values) =>
        new(Value.ForStruct(new Struct { Fields = { { how, Value.ForList(values) } } }));
}
