using System;
using System.Diagnostics;
using System.Linq;
using System.Threading.Tasks;
using AISandbox.Client;

namespace AISandbox.ClientBenchmarks;

/// <summary>AISandbox.Client as its page has it.</summary>
internal sealed class PackageClient : IAsyncDisposable
{
    private readonly AISandboxClient _client;
    private readonly TrainingRunHandle _run;
    private readonly ActStream _stream;
    private readonly float[] _observation;

    public PackageClient(string address, string run, float[] observation)
    {
        _observation = observation;
        _client = new AISandboxClient(address);
        _run = _client.GetRun(run);
        _stream = _run.OpenActStream();
    }

    public Task UnaryAsync(int callers, long end, Action<long> took) => RunAsync(callers, end, took, () => _run.ActAsync(_observation));

    public Task StreamAsync(int callers, long end, Action<long> took) => RunAsync(callers, end, took, () => _stream.ActAsync(_observation));

    public async ValueTask DisposeAsync()
    {
        await _stream.DisposeAsync();
        _client.Dispose();
    }

    private static Task RunAsync(int callers, long end, Action<long> took, Func<Task<PolicyAction>> act) =>
        Task.WhenAll(Enumerable.Range(0, callers).Select(_ => Task.Run(async () =>
        {
            for (var since = Stopwatch.GetTimestamp(); since < end; since = Stopwatch.GetTimestamp())
            {
                if ((await act()).Discrete < 0)
                {
                    throw new InvalidOperationException("no such action");
                }

                took(since);
            }
        })));
}
