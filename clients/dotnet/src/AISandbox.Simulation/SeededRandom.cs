using System;

namespace AISandbox.Simulation;

/// <summary>
/// A random generator with the same numbers on every runtime (System.Random does not promise that). Its whole state is
/// one number, so that every episode has a seed that reproduces it.
/// </summary>
/// <remarks>SplitMix64: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014.</remarks>
internal sealed class SeededRandom : Random
{
    private ulong state;

    public SeededRandom(ulong seed = 0) : base(0) => state = seed;

    public void Reseed(ulong seed) => state = seed;

    public ulong NextUInt64()
    {
        unchecked
        {
            state += 0x9E3779B97F4A7C15;
            var mixed = state;
            mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9;
            mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
            return mixed ^ (mixed >> 31);
        }
    }

    public override double NextDouble() => (NextUInt64() >> 11) * (1.0 / (1UL << 53));

    protected override double Sample() => NextDouble();

    public override int Next() => (int)Below(int.MaxValue);

    public override int Next(int maxValue)
    {
        if (maxValue < 0)
            throw new ArgumentOutOfRangeException(nameof(maxValue), "must not be negative");
        return (int)Below((ulong)Math.Max(maxValue, 1));
    }

    public override int Next(int minValue, int maxValue)
    {
        if (minValue > maxValue)
            throw new ArgumentOutOfRangeException(nameof(minValue), "must not be greater than maxValue");
        return (int)(minValue + (long)Below((ulong)Math.Max((long)maxValue - minValue, 1)));
    }

    public override void NextBytes(byte[] buffer) => NextBytes(buffer.AsSpan());

    public override void NextBytes(Span<byte> buffer)
    {
        for (var i = 0; i < buffer.Length; i++)
            buffer[i] = (byte)NextUInt64();
    }

#if NET
    public override long NextInt64() => (long)Below(long.MaxValue);

    public override long NextInt64(long maxValue)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(maxValue);
        return (long)Below((ulong)Math.Max(maxValue, 1));
    }

    public override long NextInt64(long minValue, long maxValue)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(minValue, maxValue);
        return unchecked(minValue + (long)Below(Math.Max((ulong)maxValue - (ulong)minValue, 1)));
    }

    public override float NextSingle() => (NextUInt64() >> 40) * (1.0f / (1 << 24));
#endif

    /// <summary>A number from 0 to count - 1, each equally likely: what lies above the largest multiple is drawn again.</summary>
    private ulong Below(ulong count)
    {
        var limit = ulong.MaxValue - ulong.MaxValue % count;
        ulong number;
        do
            number = NextUInt64();
        while (number >= limit);
        return number % count;
    }
}
