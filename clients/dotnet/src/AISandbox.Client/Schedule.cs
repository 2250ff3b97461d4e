using System;
using System.Globalization;

namespace AISandbox.Client;

/// <summary>A number that stays the same over the run, or falls linearly to 0.</summary>
public readonly struct Schedule : IEquatable<Schedule>
{
    private readonly double _value;
    private readonly bool _linear;

    private Schedule(double value, bool linear) => (_value, _linear) = (value, linear);

    /// <summary>The same number over the whole run.</summary>
    /// <param name="value">The number.</param>
    public static Schedule Constant(double value) => new(value, linear: false);

    /// <summary>A number that falls linearly to 0 over the run.</summary>
    /// <param name="initial">The number at the start.</param>
    public static Schedule Linear(double initial) => new(initial, linear: true);

    /// <summary>The same number over the whole run.</summary>
    /// <param name="value">The number.</param>
    public static implicit operator Schedule(double value) => Constant(value);

    /// <inheritdoc/>
    public override string ToString() => (_linear ? "lin_" : "") + _value.ToString("R", CultureInfo.InvariantCulture);

    /// <inheritdoc/>
    public bool Equals(Schedule other) => _value.Equals(other._value) && _linear == other._linear;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is Schedule other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(_value, _linear);

    /// <summary>Whether both are the same.</summary>
    public static bool operator ==(Schedule left, Schedule right) => left.Equals(right);

    /// <summary>Whether they differ.</summary>
    public static bool operator !=(Schedule left, Schedule right) => !left.Equals(right);
}
