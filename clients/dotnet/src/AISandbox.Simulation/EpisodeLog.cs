using System;

namespace AISandbox.Simulation;

/// <summary>The actions of the episode that runs, so that a failure can be replayed. Allocates only while it grows.</summary>
internal sealed class EpisodeLog
{
    /// <summary>An episode with more bytes of actions than this leaves no recording.</summary>
    public const int MostBytes = 16 << 20;

    private byte[] data = [];

    /// <summary>The number of bytes that were logged.</summary>
    public int Length { get; private set; }

    /// <summary>Whether the episode is longer than what is kept.</summary>
    public bool Overflowed { get; private set; }

    public ReadOnlySpan<byte> Bytes => data.AsSpan(0, Length);

    public void Clear() => (Length, Overflowed) = (0, false);

    public void Append(ReadOnlySpan<byte> action)
    {
        if (Overflowed)
            return;
        if (Length + action.Length > data.Length)
        {
            if (Length + action.Length > MostBytes)
            {
                Overflowed = true;
                return;
            }
            Array.Resize(ref data, Math.Min(MostBytes, Math.Max(1024, 2 * (Length + action.Length))));
        }
        action.CopyTo(data.AsSpan(Length));
        Length += action.Length;
    }
}
