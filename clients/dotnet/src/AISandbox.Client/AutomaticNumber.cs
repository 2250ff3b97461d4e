using System;
using System.Globalization;

namespace AISandbox.Client;

/// <summary>A hyperparameter that is a number, or that the algorithm finds itself: the entropy coefficient of SAC, for example.</summary>
public readonly struct AutomaticNumber : IEquatable<AutomaticNumber>
{
    private readonly double? _value;
    private readonly bool _automatic;

    private AutomaticNumber(double? value, bool automatic) => (_value, _automatic) = (value, automatic);

    /// <summary>The algorithm finds it.</summary>
    public static AutomaticNumber Automatic => new(null, automatic: true);

    /// <summary>The algorithm finds it, beginning with <paramref name="initial"/>.</summary>
    /// <param name="initial">A number greater than 0.</param>
    public static AutomaticNumber AutomaticFrom(double initial) => new(initial, automatic: true);

    /// <summary>This number.</summary>
    /// <param name="value">The number.</param>
    public static AutomaticNumber Constant(double value) => new(value, automatic: false);

    /// <summary>This number.</summary>
    /// <param name="value">The number.</param>
    public static implicit operator AutomaticNumber(double value) => Constant(value);

    /// <inheritdoc/>
    public override string ToString()
    {
        var number = (_value ?? 0).ToString("R", CultureInfo.InvariantCulture);
        return !_automatic ? number : _value is null ? "auto" : "auto_" + number;
    }

    /// <inheritdoc/>
    public bool Equals(AutomaticNumber other) => Nullable.Equals(_value, other._value) && _automatic == other._automatic;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is AutomaticNumber other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(_value, _automatic);

    /// <summary>Whether both are the same.</summary>
    public static bool operator ==(AutomaticNumber left, AutomaticNumber right) => left.Equals(right);

    /// <summary>Whether they differ.</summary>
    public static bool operator !=(AutomaticNumber left, AutomaticNumber right) => !left.Equals(right);
}
