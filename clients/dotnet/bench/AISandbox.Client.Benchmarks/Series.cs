using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Threading.Tasks;

namespace AISandbox.ClientBenchmarks;

/// <summary>
/// Acts for a turn, with so many observations at a time. Calls <c>took</c> with the timestamp before each action, as soon as it has come.
/// </summary>
internal delegate Task Act(int callers, long end, Action<long> took);

/// <summary>The times of all actions of one way to act, over all turns.</summary>
internal sealed class Series(string kind, int callers, string client, Act act)
{
    public const double TurnSeconds = 0.25;

    private readonly List<long> _times = [];
    private readonly List<double> _rates = [];
    private long _bytes;

    public async Task TakeTurnAsync(bool isMeasured)
    {
        var times = new List<long>(1 << 16);
        var bytes = GC.GetTotalAllocatedBytes(precise: true);
        var begun = Stopwatch.GetTimestamp();
        await act(callers, begun + (long)(TurnSeconds * Stopwatch.Frequency), since =>
        {
            var now = Stopwatch.GetTimestamp();
            lock (times)
            {
                times.Add(now - since);
            }
        });
        if (!isMeasured)
        {
            return;
        }

        _rates.Add(times.Count / Stopwatch.GetElapsedTime(begun).TotalSeconds);
        _bytes += GC.GetTotalAllocatedBytes(precise: true) - bytes;
        _times.AddRange(times);
    }

    public object Figures()
    {
        _times.Sort();
        return new
        {
            kind,
            callers,
            client,
            p50_us = Microseconds(0.5),
            p99_us = Microseconds(0.99),
            bytes_per_action = _bytes / (double)_times.Count,
            actions_per_second_by_turn = _rates,
        };
    }

    private double Microseconds(double share) => _times[(int)(_times.Count * share)] * 1e6 / Stopwatch.Frequency;
}
