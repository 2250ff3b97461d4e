using System;
using System.Collections.Concurrent;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Threading.Tasks;
using AISandbox.Client.Tests.Support;
using Xunit;

namespace AISandbox.Client.Tests;

public class PodTests
{
    private static ScriptedService Pod(string name, ConcurrentQueue<string> called) => new()
    {
        OnAct = (request, _) =>
        {
            called.Enqueue(name);
            return Task.FromResult(ScriptedService.Echo(request));
        },
    };

    [Fact]
    public void Lookups_of_a_name_that_is_never_there_are_repeated_for_ever()
    {
        var backoff = new PodResolver.LimitedBackoffFactory(TimeSpan.FromSeconds(5)).Create();
        var waits = Enumerable.Range(0, 100).Select(_ => backoff.NextBackoff().TotalSeconds);
        Assert.Equal([1, 2, 4, .. Enumerable.Repeat(5.0, 97)], waits);
    }

    [Fact]
    public async Task Calls_wait_for_the_first_pod_and_then_go_to_all_in_turn()
    {
        var called = new ConcurrentQueue<string>();
        IPAddress[] pods = [];
        var lookups = 0;
        await using var first = await ScriptedServer.StartAsync(Pod("first", called));
        await using var second = await ScriptedServer.StartAsync(Pod("second", called), first.Port, "127.0.0.2");
        using var client = ScriptedServer.Connect("http://127.0.0.1:1", options =>
        {
            options.InferenceAddress = $"dns:///pods.test:{first.Port}";
            options.DnsRefreshInterval = TimeSpan.FromMilliseconds(50);
            options.Lookup = (host, _) =>
            {
                Assert.Equal("pods.test", host);
                lookups++;
                // A headless Service without a ready pod: the name is unknown, or has no addresses.
                return lookups % 2 == 1 && pods.Length == 0 ? throw new SocketException((int)SocketError.HostNotFound) : Task.FromResult(pods);
            };
        });
        var run = client.GetRun("run");
        var act = run.ActAsync(new float[] { 1 }, cancellationToken: TestContext.Current.CancellationToken);
        await Waiting.UntilAsync(() => lookups > 3);
        Assert.False(act.IsCompleted);
        pods = [IPAddress.Loopback];
        await act;
        pods = [IPAddress.Loopback, IPAddress.Parse("127.0.0.2")];
        await Waiting.UntilAsync(() =>
        {
            _ = run.ActAsync(new float[] { 1 }, cancellationToken: TestContext.Current.CancellationToken);
            return called.Contains("second");
        });
        called.Clear();
        await Task.WhenAll(Enumerable.Range(0, 20).Select(_ => run.ActAsync(new float[] { 1 }, cancellationToken: TestContext.Current.CancellationToken)));
        Assert.Contains("first", called);
        Assert.Contains("second", called);

        // A pod that is gone is not called any more.
        pods = [IPAddress.Parse("127.0.0.2")];
        await first.DisposeAsync();
        await run.ActAsync(new float[] { 1 }, cancellationToken: TestContext.Current.CancellationToken);
    }
}
