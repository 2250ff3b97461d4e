using System;
using System.Diagnostics;
using System.Globalization;

namespace AISandbox.PolicyBenchmarks;

/// <summary>
/// The time of single calls, of both ways in turns, so that what else the machine does hits both: the median of their times is
/// what a game sees.
/// </summary>
internal static class Percentiles
{
    private const int Warmup = 20_000;
    private const int Calls = 100_000;

    public static void Print()
    {
        foreach (var count in new[] { 1, 64 })
        {
            using var benchmarks = new ActBenchmarks { Observations = count };
            benchmarks.Setup();
            var (bare, act) = (new long[Calls], new long[Calls]);
            for (var i = -Warmup; i < Calls; i++)
            {
                var start = Stopwatch.GetTimestamp();
                benchmarks.OnnxRuntime();
                var middle = Stopwatch.GetTimestamp();
                benchmarks.Act();
                var end = Stopwatch.GetTimestamp();
                if (i >= 0)
                {
                    (bare[i], act[i]) = (middle - start, end - middle);
                }
            }

            var before = GC.GetAllocatedBytesForCurrentThread();
            for (var i = 0; i < Calls; i++)
            {
                benchmarks.Act();
            }

            var allocated = (GC.GetAllocatedBytesForCurrentThread() - before) / (double)Calls;
            Array.Sort(bare);
            Array.Sort(act);
            Console.WriteLine(string.Format(
                CultureInfo.InvariantCulture,
                "{0} observations: ONNX Runtime p50 {1:F2} us, p99 {2:F2} us; Act p50 {3:F2} us, p99 {4:F2} us, {5:F2} bytes allocated; ratio of p50 {6:F2}",
                count,
                Microseconds(bare, 0.5),
                Microseconds(bare, 0.99),
                Microseconds(act, 0.5),
                Microseconds(act, 0.99),
                allocated,
                Microseconds(act, 0.5) / Microseconds(bare, 0.5)));
        }
    }

    private static double Microseconds(long[] sorted, double share) => sorted[(int)(sorted.Length * share)] * 1e6 / Stopwatch.Frequency;
}
