using System;
using System.IO;
using AISandbox.PolicyBenchmarks;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.Emit;
using Perfolizer.Horology;

if (args.Length != 1 || !File.Exists(args[0]))
{
    Console.Error.WriteLine("The argument is the policy.onnx of an observation of floats, for example of a run with --gymnasium Pendulum-v1.");
    return 2;
}

ActBenchmarks.Path = args[0];
Percentiles.Print();
// In this process: the project that BenchmarkDotNet would build does not know the argument.
var config = DefaultConfig.Instance
    .AddJob(Job.Default.WithToolchain(InProcessEmitToolchain.Instance).WithIterationTime(TimeInterval.FromMilliseconds(100)).WithIterationCount(20))
    .AddColumn(StatisticColumn.P50)
    .WithArtifactsPath(System.IO.Path.Combine(System.IO.Path.GetTempPath(), "AISandbox.Policy.Benchmarks"));
BenchmarkRunner.Run<ActBenchmarks>(config);
return 0;
