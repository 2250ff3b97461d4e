using System;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using AISandbox.Client.Tests.Support;
using AISandbox.V1;
using Grpc.Core;
using Xunit;

namespace AISandbox.Client.Tests;

public class WatchTests
{
    private static Task Quiet(ServerCallContext context) => Task.Delay(Timeout.Infinite, context.CancellationToken);

    [Fact]
    public async Task Watch_connects_again_and_repeats_no_status()
    {
        var calls = 0;
        var service = new ScriptedService
        {
            OnWatch = async (replies, _) =>
            {
                switch (++calls)
                {
                    case 1:
                        await replies.WriteAsync(ScriptedService.Running("run", 1));
                        throw new RpcException(new Status(StatusCode.Unavailable, "is stopping"));
                    case 2:
                        // A balancer ends streams as if they were complete.
                        await replies.WriteAsync(ScriptedService.Running("run", 1));
                        return;
                    default:
                        await replies.WriteAsync(ScriptedService.Running("run", 2));
                        await replies.WriteAsync(ScriptedService.Done("run"));
                        return;
                }
            },
        };
        await using var server = await ScriptedServer.StartAsync(service);
        using var logs = new Logs();
        using var client = server.Connect(loggers: logs);
        var seen = await client.GetRun("run").WatchAsync(TestContext.Current.CancellationToken).ToListAsync();
        Assert.Equal([1, 2, 0], seen.Select(each => each.TimestepsDone));
        Assert.True(seen[^1].IsDone);
        Assert.Collection(
            logs.Warnings,
            each => Assert.Contains("watch of run: is stopping", each, StringComparison.Ordinal),
            each => Assert.Contains("the stream has ended", each, StringComparison.Ordinal));
    }

    [Fact]
    public async Task Watch_of_an_unknown_run_fails_at_once()
    {
        var calls = 0;
        var service = new ScriptedService
        {
            OnWatch = (_, _) => { calls++; throw new RpcException(new Status(StatusCode.NotFound, "run: is unknown")); },
        };
        await using var server = await ScriptedServer.StartAsync(service);
        using var client = server.Connect();
        var error = await Assert.ThrowsAsync<AISandboxException>(
            () => client.GetRun("run").WatchAsync(TestContext.Current.CancellationToken).ToListAsync());
        Assert.Equal(StatusCode.NotFound, error.StatusCode);
        Assert.Equal(1, calls);
    }

    [Fact]
    public async Task Watch_of_an_absent_service_gives_up_with_the_reason()
    {
        using var logs = new Logs();
        using var client = ScriptedServer.Connect("http://127.0.0.1:1", options => options.ReconnectTimeout = TimeSpan.FromMilliseconds(500), logs);
        var error = await Assert.ThrowsAsync<AISandboxException>(
            () => client.GetRun("run").WatchAsync(TestContext.Current.CancellationToken).ToListAsync());
        Assert.Equal(StatusCode.Unavailable, error.StatusCode);
        Assert.Contains("127.0.0.1:1", error.Message, StringComparison.Ordinal);
        // The waits are 2.5 ms at first and soon between 25 and 50.
        Assert.InRange(logs.Warnings.Count(), 1, 40);
    }

    [Fact]
    public async Task Watch_survives_a_service_that_is_replaced()
    {
        var first = await ScriptedServer.StartAsync(new ScriptedService
        {
            OnWatch = async (replies, context) =>
            {
                await replies.WriteAsync(ScriptedService.Running("run", 1));
                await Quiet(context);
            },
        });
        using var client = first.Connect();
        await using var watch = client.GetRun("run").WatchAsync(TestContext.Current.CancellationToken).GetAsyncEnumerator(TestContext.Current.CancellationToken);
        Assert.True(await watch.MoveNextAsync());
        await first.DisposeAsync();
        var next = watch.MoveNextAsync();
        await using var second = await ScriptedServer.StartAsync(
            new ScriptedService { OnWatch = (replies, _) => replies.WriteAsync(ScriptedService.Done("run")) }, first.Port);
        Assert.True(await next);
        Assert.True(watch.Current.IsDone);
    }

    [Fact]
    public async Task Watch_notices_a_machine_that_vanishes_without_a_word()
    {
        var calls = 0;
        var service = new ScriptedService
        {
            OnWatch = async (replies, context) =>
            {
                if (++calls > 1)
                {
                    await replies.WriteAsync(ScriptedService.Done("run"));
                    return;
                }

                await replies.WriteAsync(ScriptedService.Running("run", 1));
                await Quiet(context);
            },
        };
        await using var server = await ScriptedServer.StartAsync(service);
        using var cable = new Cable(server.Port);
        using var client = ScriptedServer.Connect(cable.Address, options => options.KeepAliveInterval = TimeSpan.FromSeconds(2));
        await using var watch = client.GetRun("run").WatchAsync(TestContext.Current.CancellationToken).GetAsyncEnumerator(TestContext.Current.CancellationToken);
        Assert.True(await watch.MoveNextAsync());
        cable.GoSilent();
        // On a busy machine a ping may have been late before, and the watch have connected again already.
        Assert.True(watch.Current.IsDone || await watch.MoveNextAsync());
        Assert.True(watch.Current.IsDone);
    }

    [Fact]
    public async Task Watch_asks_a_silent_service_and_leaves_one_that_does_not_answer()
    {
        var (watches, questions) = (0, 0);
        var service = new ScriptedService
        {
            // The first stream is silent for ever; the second question finds nobody.
            OnWatch = (replies, context) => ++watches == 1 ? Quiet(context) : replies.WriteAsync(ScriptedService.Done("run")),
            OnStatus = request => ++questions == 1 ? ScriptedService.Running(request.RunId, 1) : throw new RpcException(new Status(StatusCode.Unavailable, "is gone")),
        };
        await using var server = await ScriptedServer.StartAsync(service);
        using var client = server.Connect(options => options.LivenessInterval = TimeSpan.FromSeconds(2));
        var status = await client.GetRun("run").WaitAsync(TestContext.Current.CancellationToken);
        Assert.True(status.IsDone);
        Assert.Equal(2, watches);
        // A question that is answered late counts as one that is not.
        Assert.InRange(questions, 1, 2);
    }

    [Fact]
    public async Task Leaving_a_watch_ends_its_call()
    {
        var ended = new TaskCompletionSource();
        var service = new ScriptedService
        {
            OnWatch = async (replies, context) =>
            {
                using var registration = context.CancellationToken.Register(ended.SetResult);
                await replies.WriteAsync(ScriptedService.Running("run", 1));
                await Quiet(context);
            },
        };
        await using var server = await ScriptedServer.StartAsync(service);
        using var client = server.Connect();
        await foreach (var status in client.GetRun("run").WatchAsync(TestContext.Current.CancellationToken))
        {
            Assert.Equal(1, status.TimestepsDone);
            break;
        }

        await ended.Task.WaitAsync(Waiting.Limit, TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task Cancelled_watch_ends_as_cancellation()
    {
        await using var server = await ScriptedServer.StartAsync(new ScriptedService { OnWatch = (_, context) => Quiet(context) });
        using var client = server.Connect();
        using var cancel = new CancellationTokenSource();
        var watch = client.GetRun("run").WatchAsync(cancel.Token).ToListAsync();
        await cancel.CancelAsync();
        var error = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => watch);
        Assert.Equal(cancel.Token, error.CancellationToken);
    }

    [Fact]
    public async Task Disposed_client_ends_its_watches()
    {
        var entered = new TaskCompletionSource();
        var service = new ScriptedService { OnWatch = (_, context) => { entered.SetResult(); return Quiet(context); } };
        await using var server = await ScriptedServer.StartAsync(service);
        var client = server.Connect();
        var watch = client.GetRun("run").WatchAsync(TestContext.Current.CancellationToken).ToListAsync();
        await entered.Task;
        client.Dispose();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => watch);
    }

    [Fact]
    public async Task Waiting_for_a_run_that_fails_throws_its_reason()
    {
        var failed = ScriptedService.Done("run", Phase.Failed);
        failed.Failure = new Failure { Reason = "SimulatorUnreachable", Message = "no simulator at 127.0.0.1:1" };
        await using var server = await ScriptedServer.StartAsync(new ScriptedService { OnWatch = (replies, _) => replies.WriteAsync(failed) });
        using var client = server.Connect();
        var error = await Assert.ThrowsAsync<TrainingFailedException>(() => client.GetRun("run").WaitAsync(TestContext.Current.CancellationToken));
        Assert.Equal("SimulatorUnreachable", error.Reason);
        Assert.Contains("no simulator at 127.0.0.1:1", error.Message, StringComparison.Ordinal);
    }
}
