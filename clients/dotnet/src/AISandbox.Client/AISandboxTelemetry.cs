using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace AISandbox.Client;

/// <summary>The names under which this package reports to OpenTelemetry.</summary>
public static class AISandboxTelemetry
{
    /// <summary>For <c>tracing.AddSource</c>: an activity for each call, with the tag <c>aisandbox.run</c>.</summary>
    public const string ActivitySourceName = "AISandbox.Client";

    /// <summary>
    /// For <c>metrics.AddMeter</c>: <c>aisandbox.client.retries</c> and <c>aisandbox.client.reconnects</c> (counters), and
    /// <c>aisandbox.client.act.duration</c> (histogram, seconds).
    /// </summary>
    public const string MeterName = "AISandbox.Client";

    internal static readonly ActivitySource Source = new(ActivitySourceName);

    private static readonly Meter Meter = new(MeterName);

    internal static readonly Counter<long> Retries = Meter.CreateCounter<long>(
        "aisandbox.client.retries", "{call}", "Calls that were repeated after a transient error.");

    internal static readonly Counter<long> Reconnects = Meter.CreateCounter<long>(
        "aisandbox.client.reconnects", "{stream}", "Watches and streams that were opened again.");

    internal static readonly Histogram<double> ActDuration = Meter.CreateHistogram<double>(
        "aisandbox.client.act.duration", "s", "Time from an observation to its action.");
}
