using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using AISandbox.Client.Tests.Support;
using AISandbox.V1;
using Google.Protobuf;
using Grpc.Core;
using Xunit;

namespace AISandbox.Client.Tests;

public class ActStreamTests
{
    private static async Task<float[]> ActManyAsync(ActStream stream, int count)
    {
        var actions = await Task.WhenAll(Enumerable.Range(0, count).Select(i => stream.ActAsync(new float[] { i }, TestContext.Current.CancellationToken)));
        return actions.Select(action => action.Values[0]).ToArray();
    }

    private static float[] Numbers(int count) => Enumerable.Range(0, count).Select(i => (float)i).ToArray();

    [Fact]
    public async Task Stream_answers_each_observation_and_names_the_run_once()
    {
        var runs = new ConcurrentQueue<string>();
        var service = new ScriptedService
        {
            OnStream = async (requests, replies, context) =>
            {
                await foreach (var request in requests.ReadAllAsync(context.CancellationToken))
                {
                    runs.Enqueue($"{request.Request.RunId} {request.Request.Model} {request.Request.Stochastic}");
                    await replies.WriteAsync(new ActStreamResponse { Response = ScriptedService.Echo(request.Request) });
                }
            },
        };
        await using var server = await ScriptedServer.StartAsync(service);
        using var client = server.Connect();
        await using var stream = client.GetRun("run").OpenActStream(ModelSelector.Best, stochastic: true);
        Assert.Equal(Numbers(200), await ActManyAsync(stream, 200));
        Assert.Equal(["run best True", .. Enumerable.Repeat("  False", 199)], runs);
    }

    [Fact]
    public async Task Mask_is_sent_with_its_observation_also_again_after_a_loss()
    {
        var seen = new ConcurrentQueue<string>();
        var streams = 0;
        var service = new ScriptedService
        {
            OnStream = async (requests, replies, context) =>
            {
                var isLost = Interlocked.Increment(ref streams) == 1;
                await foreach (var request in requests.ReadAllAsync(context.CancellationToken))
                {
                    seen.Enqueue(string.Join(' ', request.Request.ActionMask));
                    if (isLost)
                    {
                        throw new RpcException(new Status(StatusCode.Unavailable, "the service is stopping"));
                    }

                    await replies.WriteAsync(new ActStreamResponse { Response = ScriptedService.Echo(request.Request) });
                }
            },
        };
        await using var server = await ScriptedServer.StartAsync(service);
        using var client = server.Connect();
        await using var stream = client.GetRun("run").OpenActStream();
        await stream.ActAsync(new float[] { 1 }, new byte[] { 1, 0 }, TestContext.Current.CancellationToken);
        await stream.ActAsync(new float[] { 1 }, TestContext.Current.CancellationToken);
        Assert.Equal(["True False", "True False", ""], seen);
        Assert.Throws<ArgumentException>(() => { _ = stream.ActAsync(new float[] { 1 }, new byte[] { 2 }, TestContext.Current.CancellationToken); });
    }

    [Fact]
    public async Task Refused_observation_is_an_error_of_its_own_and_the_stream_goes_on()
    {
        var service = new ScriptedService
        {
            OnStream = async (requests, replies, context) =>
            {
                await foreach (var request in requests.ReadAllAsync(context.CancellationToken))
                {
                    var isWrong = request.Request.Observation.Count != 1;
                    await replies.WriteAsync(isWrong
                        ? new ActStreamResponse { Error = new ActStreamError { Code = 3, Message = "observation: must have 1 number, has 2" } }
                        : new ActStreamResponse { Response = ScriptedService.Echo(request.Request) });
                }
            },
        };
        await using var server = await ScriptedServer.StartAsync(service);
        using var client = server.Connect();
        await using var stream = client.GetRun("run").OpenActStream();
        var wrong = stream.ActAsync(new float[] { 1, 2 }, TestContext.Current.CancellationToken);
        var right = stream.ActAsync(new float[] { 3 }, TestContext.Current.CancellationToken);
        var error = await Assert.ThrowsAsync<AISandboxException>(() => wrong);
        Assert.Equal(StatusCode.InvalidArgument, error.StatusCode);
        Assert.Equal("observation: must have 1 number, has 2", error.Message);
        Assert.Equal(3, (await right).Values[0]);
    }

    [Fact]
    public async Task Lost_stream_is_opened_again_and_asks_again_what_was_not_answered()
    {
        var streams = 0;
        var service = new ScriptedService
        {
            OnStream = async (requests, replies, context) =>
            {
                streams++;
                var left = 7;
                await foreach (var request in requests.ReadAllAsync(context.CancellationToken))
                {
                    await replies.WriteAsync(new ActStreamResponse { Response = ScriptedService.Echo(request.Request) });
                    if (--left == 0)
                    {
                        throw new RpcException(new Status(StatusCode.Unavailable, "the service is stopping: open the stream again"));
                    }
                }
            },
        };
        await using var server = await ScriptedServer.StartAsync(service);
        using var logs = new Logs();
        using var client = server.Connect(loggers: logs);
        await using var stream = client.GetRun("run").OpenActStream();
        Assert.Equal(Numbers(40), await ActManyAsync(stream, 40));
        Assert.InRange(streams, 6, 40);
        Assert.Contains(logs.Warnings, each => each.Contains("stream for run: the service is stopping", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Cut_connection_is_replaced_under_load()
    {
        await using var server = await ScriptedServer.StartAsync(new ScriptedService());
        using var cable = new Cable(server.Port);
        using var client = ScriptedServer.Connect(cable.Address);
        await using var stream = client.GetRun("run").OpenActStream();
        for (var round = 0; round < 5; round++)
        {
            var acts = ActManyAsync(stream, 100);
            cable.Cut();
            Assert.Equal(Numbers(100), await acts);
        }
    }

    [Fact]
    public async Task Stream_that_is_lost_while_idle_is_opened_by_the_next_observation()
    {
        var first = await ScriptedServer.StartAsync(new ScriptedService());
        using var logs = new Logs();
        using var client = first.Connect(loggers: logs);
        await using var stream = client.GetRun("run").OpenActStream();
        await stream.ActAsync(new float[] { 1 }, TestContext.Current.CancellationToken);
        await first.DisposeAsync();
        await Waiting.UntilAsync(() => logs.All.Any(each => each.Contains("the next observation opens it again", StringComparison.Ordinal)));
        await using var second = await ScriptedServer.StartAsync(new ScriptedService(), first.Port);
        Assert.Equal(2, (await stream.ActAsync(new float[] { 2 }, TestContext.Current.CancellationToken)).Values[0]);
    }

    [Fact]
    public async Task Observation_without_an_action_ends_at_its_deadline()
    {
        var service = new ScriptedService { OnStream = (_, _, context) => Task.Delay(Timeout.Infinite, context.CancellationToken) };
        await using var server = await ScriptedServer.StartAsync(service);
        using var client = server.Connect(options => options.Timeout = TimeSpan.FromSeconds(5));
        await using var stream = client.GetRun("run").OpenActStream();
        var error = await Assert.ThrowsAsync<AISandboxException>(() => stream.ActAsync(new float[] { 1 }, TestContext.Current.CancellationToken));
        Assert.Equal(StatusCode.DeadlineExceeded, error.StatusCode);
    }

    [Fact]
    public async Task Stuck_stream_is_replaced_when_an_observation_is_overdue()
    {
        var service = new ScriptedService { OnStream = (_, _, context) => Task.Delay(Timeout.Infinite, context.CancellationToken) };
        await using var server = await ScriptedServer.StartAsync(service);
        using var client = server.Connect(options => options.Timeout = TimeSpan.FromSeconds(5));
        await using var stream = client.GetRun("run").OpenActStream();
        await Assert.ThrowsAsync<AISandboxException>(() => stream.ActAsync(new float[] { 1 }, TestContext.Current.CancellationToken));
        service.OnStream = ScriptedService.EchoAsync;
        // A busy machine may need longer than one deadline for the new stream.
        await Waiting.UntilAsync(async () =>
        {
            try
            {
                return (await stream.ActAsync(new float[] { 2 }, TestContext.Current.CancellationToken)).Values[0] == 2;
            }
            catch (AISandboxException error) when (error.StatusCode == StatusCode.DeadlineExceeded)
            {
                return false;
            }
        });
    }

    [Fact]
    public async Task Absent_service_is_an_error_of_each_observation()
    {
        using var client = ScriptedServer.Connect("http://127.0.0.1:1", options => options.Timeout = TimeSpan.FromMilliseconds(400));
        await using var stream = client.GetRun("run").OpenActStream();
        var error = await Assert.ThrowsAsync<AISandboxException>(() => stream.ActAsync(new float[] { 1 }, TestContext.Current.CancellationToken));
        Assert.True(error.IsTransient);
    }

    [Fact]
    public async Task Cancelled_observation_leaves_the_others_in_order()
    {
        var goOn = new TaskCompletionSource();
        var service = new ScriptedService
        {
            OnStream = async (requests, replies, context) =>
            {
                await goOn.Task;
                await ScriptedService.EchoAsync(requests, replies, context);
            },
        };
        await using var server = await ScriptedServer.StartAsync(service);
        using var client = server.Connect();
        await using var stream = client.GetRun("run").OpenActStream();
        using var cancel = new CancellationTokenSource();
        var first = stream.ActAsync(new float[] { 1 }, cancel.Token);
        var second = stream.ActAsync(new float[] { 2 }, TestContext.Current.CancellationToken);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => first);
        goOn.SetResult();
        Assert.Equal(2, (await second).Values[0]);
    }

    [Fact]
    public async Task Disposed_stream_and_disposed_client_end_what_waits()
    {
        var service = new ScriptedService { OnStream = (_, _, context) => Task.Delay(Timeout.Infinite, context.CancellationToken) };
        await using var server = await ScriptedServer.StartAsync(service);
        var client = server.Connect();
        var stream = client.GetRun("run").OpenActStream();
        var act = stream.ActAsync(new float[] { 1 }, TestContext.Current.CancellationToken);
        await stream.DisposeAsync();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => act);
        await Assert.ThrowsAsync<ObjectDisposedException>(() => stream.ActAsync(new float[] { 1 }, TestContext.Current.CancellationToken));
        await stream.DisposeAsync();
        await using var other = client.GetRun("run").OpenActStream();
        act = other.ActAsync(new float[] { 1 }, TestContext.Current.CancellationToken);
        client.Dispose();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => act);
    }

    [Fact]
    public async Task Observation_over_the_largest_message_is_an_error_of_its_own()
    {
        await using var server = await ScriptedServer.StartAsync(new ScriptedService());
        using var client = server.Connect(options => options.MaxMessageSize = 2000);
        await using var stream = client.GetRun("run").OpenActStream();
        var error = await Assert.ThrowsAsync<AISandboxException>(() => stream.ActAsync(new float[1000], TestContext.Current.CancellationToken));
        Assert.Equal(StatusCode.ResourceExhausted, error.StatusCode);
        Assert.Equal(Numbers(20), await ActManyAsync(stream, 20));
    }

    [Fact]
    public async Task Observation_waits_for_a_service_that_comes_back()
    {
        var first = await ScriptedServer.StartAsync(new ScriptedService());
        using var logs = new Logs();
        using var client = first.Connect(loggers: logs);
        await using var stream = client.GetRun("run").OpenActStream();
        await stream.ActAsync(new float[] { 1 }, TestContext.Current.CancellationToken);
        await first.DisposeAsync();
        var act = stream.ActAsync(new float[] { 2 }, TestContext.Current.CancellationToken);
        // Several attempts find nobody, some of them before the call has begun.
        await Waiting.UntilAsync(() => logs.Warnings.Count() >= 5);
        await using var second = await ScriptedServer.StartAsync(new ScriptedService(), first.Port);
        Assert.Equal(2, (await act).Values[0]);
    }

    [Fact]
    public async Task Stream_that_is_lost_goes_on_with_the_state_of_the_last_answer()
    {
        var streams = 0;
        var service = new ScriptedService
        {
            // A recurrent policy: its action is the sum of the observations of the episode.
            OnStream = async (requests, replies, context) =>
            {
                streams++;
                var answers = 0;
                ByteString? state = null;
                await foreach (var message in requests.ReadAllAsync(context.CancellationToken))
                {
                    var request = message.Request;
                    state = request.EpisodeStart ? ByteString.CopyFrom(new byte[4]) : request.State.IsEmpty ? state : request.State;
                    if (state is null || float.IsNaN(request.Observation[0]))
                    {
                        await replies.WriteAsync(new ActStreamResponse { Error = new ActStreamError { Code = (int)StatusCode.InvalidArgument, Message = "state" } });
                        continue;
                    }

                    var sum = BitConverter.ToSingle(state.Span) + request.Observation[0];
                    state = ByteString.CopyFrom(BitConverter.GetBytes(sum));
                    await replies.WriteAsync(new ActStreamResponse { Response = new ActResponse { Action = { sum }, State = state } });
                    if (++answers == 3)
                    {
                        throw ScriptedService.Error(StatusCode.Unavailable, "a replica has died");
                    }
                }
            },
        };
        await using var server = await ScriptedServer.StartAsync(service);
        using var client = server.Connect();
        await using var stream = client.GetRun("run").OpenActStream();
        await Assert.ThrowsAsync<AISandboxException>(() => stream.ActAsync(new[] { float.NaN }, TestContext.Current.CancellationToken));
        for (var episode = 0; episode < 3; episode++)
        {
            stream.StartEpisode();
            for (var i = 1; i <= 10; i++)
            {
                var action = await stream.ActAsync(new float[] { 1 }, TestContext.Current.CancellationToken);
                Assert.Equal(i, action.Values[0]);
                Assert.Equal(4, action.State.Length);
            }
        }

        stream.StartEpisode();
        var together = Enumerable.Range(1, 10).Select(_ => stream.ActAsync(new float[] { 1 }, TestContext.Current.CancellationToken)).ToArray();
        Assert.Equal(Enumerable.Range(1, 10).Select(i => (float)i), (await Task.WhenAll(together)).Select(action => action.Values[0]));
        Assert.True(streams > 10);
    }

    [Fact]
    public async Task Act_in_an_episode_sends_the_state_of_the_action_before()
    {
        var seen = new List<(string State, bool Starts)>();
        var service = new ScriptedService
        {
            OnAct = (request, _) =>
            {
                seen.Add((request.State.ToStringUtf8(), request.EpisodeStart));
                return Task.FromResult(new ActResponse { Action = { 1 }, State = ByteString.CopyFromUtf8($"state {seen.Count}") });
            },
        };
        await using var server = await ScriptedServer.StartAsync(service);
        using var client = server.Connect();
        var run = client.GetRun("run");
        var action = await run.ActInEpisodeAsync(new float[] { 1 }, default, cancellationToken: TestContext.Current.CancellationToken);
        await run.ActInEpisodeAsync(new float[] { 1 }, action.State, cancellationToken: TestContext.Current.CancellationToken);
        Assert.Equal(new (string State, bool Starts)[] { ("", true), ("state 1", false) }, seen.ToArray());
    }
}
