using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text.Json;
using AISandbox.ClientBenchmarks;

if (args.Length != 3)
{
    Console.Error.WriteLine("The arguments are the address of an inference-server, a run whose observation has four numbers, and how many seconds to measure.");
    return 2;
}

var observation = new float[] { 0.01f, -0.02f, 0.03f, -0.04f };
var seconds = double.Parse(args[2], CultureInfo.InvariantCulture);
await using var bare = new BareClient(args[0], args[1], observation);
await using var package = new PackageClient(args[0], args[1], observation);
var series = new List<Series>();
foreach (var callers in new[] { 1, 64 })
{
    series.Add(new Series("unary", callers, "generated", bare.UnaryAsync));
    series.Add(new Series("unary", callers, "package", package.UnaryAsync));
    series.Add(new Series("stream", callers, "generated", bare.StreamAsync));
    series.Add(new Series("stream", callers, "package", package.StreamAsync));
}

// In short turns, so that what else the machine does falls on all. The first turns are for the compiler.
const int WarmUp = 8;
var turns = WarmUp + (int)Math.Max(1, seconds / (series.Count * Series.TurnSeconds));
for (var turn = 0; turn < turns; turn++)
{
    foreach (var each in series)
    {
        await each.TakeTurnAsync(isMeasured: turn >= WarmUp);
    }
}

Console.WriteLine(JsonSerializer.Serialize(series.Select(each => each.Figures())));
return 0;
