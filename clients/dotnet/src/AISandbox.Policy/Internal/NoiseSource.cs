using System;
using AISandbox.V1;

namespace AISandbox.Internal;

/// <summary>Draws the values of the input "noise" as NoiseKind in policy_trainer.proto defines them. Not thread-safe.</summary>
internal sealed class NoiseSource
{
    /// <summary>Added to the score of one action, it is chosen whatever the other scores are.</summary>
    private const float Certain = 1e30f;

    private readonly Random _random;
    private double _spare = double.NaN;

    public NoiseSource(int? seed) => _random = seed is { } value ? new Random(value) : new Random();

    /// <summary>Fills the noise of a batch: <paramref name="size"/> numbers for each observation.</summary>
    public void Fill(Span<float> noise, NoiseKind kind, int size, double epsilon)
    {
        switch (kind)
        {
            case NoiseKind.Normal:
                for (var i = 0; i < noise.Length; i++)
                {
                    noise[i] = (float)Normal();
                }

                break;
            case NoiseKind.Gumbel:
                for (var i = 0; i < noise.Length; i++)
                {
                    noise[i] = (float)-Math.Log(-Math.Log(Uniform()));
                }

                break;
            case NoiseKind.Logistic:
                for (var i = 0; i < noise.Length; i++)
                {
                    var u = Uniform();
                    noise[i] = (float)(Math.Log(u) - Math.Log(1 - u));
                }

                break;
            default:
                noise.Clear();
                for (var row = 0; row < noise.Length / size; row++)
                {
                    if (_random.NextDouble() < epsilon)
                    {
                        noise[(row * size) + _random.Next(size)] = Certain;
                    }
                }

                break;
        }
    }

    /// <summary>A number between 0 and 1, without both.</summary>
    private double Uniform()
    {
        double value;
        do
        {
            value = _random.NextDouble();
        }
        while (value == 0);
        return value;
    }

    /// <summary>Box and Muller (1958), both numbers used.</summary>
    private double Normal()
    {
        if (!double.IsNaN(_spare))
        {
            var spare = _spare;
            _spare = double.NaN;
            return spare;
        }

        var radius = Math.Sqrt(-2 * Math.Log(Uniform()));
        var angle = 2 * Math.PI * _random.NextDouble();
        _spare = radius * Math.Sin(angle);
        return radius * Math.Cos(angle);
    }
}
