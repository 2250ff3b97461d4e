using System;
using System.Threading;
using System.Threading.Tasks;

namespace AISandbox.Client;

/// <summary>The waits between attempts: twice as long each time up to a limit, each shortened at random.</summary>
internal sealed class Backoff
{
    private readonly AISandboxClientOptions _options;
    private readonly TimeProvider _time;
    private long? _failedSince;
    private int _attempts;

    public Backoff(AISandboxClientOptions options, TimeProvider time) => (_options, _time) = (options, time);

    public int Attempts => _attempts;

    /// <summary>How long no attempt has succeeded.</summary>
    public TimeSpan Failing => _failedSince is { } since ? _time.GetElapsedTime(since) : TimeSpan.Zero;

    public void Reset() => (_attempts, _failedSince) = (0, null);

    /// <summary>The wait before the next attempt. Clients that lost the same service do not come back at the same moment.</summary>
    public TimeSpan Next()
    {
        _failedSince ??= _time.GetTimestamp();
        var limit = Math.Min(_options.InitialBackoff.TotalMilliseconds * Math.Pow(2, Math.Min(_attempts, 30)), _options.MaxBackoff.TotalMilliseconds);
        _attempts++;
#pragma warning disable CA5394 // Not for security.
        return TimeSpan.FromMilliseconds(limit * (0.5 + (0.5 * Jitter.NextDouble())));
#pragma warning restore CA5394
    }

    public Task DelayAsync(TimeSpan delay, CancellationToken cancellationToken) => _time.DelayAsync(delay, cancellationToken);

#if NET
    private static Random Jitter => Random.Shared;
#else
    [ThreadStatic]
    private static Random? t_jitter;

    private static Random Jitter => t_jitter ??= new Random();
#endif
}
