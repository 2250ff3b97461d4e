using AISandbox.Simulation.AspNetCore;
using AISandbox.V1;
using Grpc.Core;
using Grpc.Health.V1;
using Grpc.Net.Client;
using Xunit;

namespace AISandbox.Simulation.Tests;

/// <summary>A simulator behind Kestrel, with a client as a trainer is one.</summary>
public sealed class SimulatorHostTests : IDisposable
{
    private static readonly TimeSpan Long = TimeSpan.FromSeconds(60);
    private readonly List<GrpcChannel> channels = [];

    [Fact]
    public async Task Host_serves_sessions_and_ends_them_when_it_stops()
    {
        var host = await Start(() => new CartPole());
        using var session = await Open(host, 2);
        Assert.Equal(2, (await Exchange(session, Requests.Step(0, 1))).Step.Rewards.Floats().Length);

        var reply = session.ResponseStream.MoveNext(TestContext.Current.CancellationToken);
        Assert.False(host.Stopping.IsCancellationRequested);
        await host.DisposeAsync();
        Assert.True(host.Stopping.IsCancellationRequested);

        var end = await Assert.ThrowsAsync<RpcException>(() => reply);
        // .NET's client may report the end of the connection instead of the status: with its own side of the stream still open it can take that
        // for a failure of the call. Stop_does_not_wait_for_a_step_that_blocks has the same end with that side closed.
        var cut = end.StatusCode == StatusCode.Internal && end.Status.Detail.Contains("'NO_ERROR'", StringComparison.Ordinal);
        if (!cut)
            Assert.Equal((StatusCode.Unavailable, "the simulator is stopping"), (end.StatusCode, end.Status.Detail));
    }

    [Fact]
    public async Task Second_session_is_refused_at_capacity_and_gets_its_place_when_it_is_free()
    {
        await using var host = await Start(() => new CartPole(), options => options.Simulator.Capacity = 1);
        using (var first = await Open(host, 1))
        {
            var refusal = await Assert.ThrowsAsync<RpcException>(() => Open(host, 1));
            Assert.Equal((StatusCode.ResourceExhausted, "1 environments were requested and 0 of 1 are free"), (refusal.StatusCode, refusal.Status.Detail));
            await first.RequestStream.CompleteAsync();
            Assert.False(await first.ResponseStream.MoveNext(TestContext.Current.CancellationToken));
        }
        using var second = await Open(host, 1);
        Assert.Single((await Exchange(second, Requests.Step(0))).Step.Rewards.Floats());
    }

    [Fact]
    public async Task Other_sessions_and_the_health_check_live_on_while_environments_block()
    {
        using var release = new ManualResetEventSlim();
        StepResult Step(StepContext context)
        {
            if (context.Action.Discrete == 2)
                release.Wait(Long);
            context.Observation.Write(0f, 0f);
            return StepResult.Continue(1);
        }
        await using var host = await Start(() => new ScriptedEnvironment { OnStep = Step });
        var blocked = new List<AsyncDuplexStreamingCall<SimulatorRequest, SimulatorReply>>();
        for (var i = 0; i < 2 * System.Environment.ProcessorCount + 4; i++)
        {
            blocked.Add(await Open(host, 1));
            await blocked[i].RequestStream.WriteAsync(Requests.Step(2), TestContext.Current.CancellationToken);
        }
        var health = await new Health.HealthClient(Channel(host)).CheckAsync(
            new HealthCheckRequest { Service = EnvironmentService.Descriptor.FullName }, deadline: DateTime.UtcNow + Long, cancellationToken: TestContext.Current.CancellationToken);
        Assert.Equal(HealthCheckResponse.Types.ServingStatus.Serving, health.Status);
        using var other = await Open(host, 1);
        Assert.Equal(1f, (await Exchange(other, Requests.Step(0))).Step.Rewards.Floats().Single());

        release.Set();
        foreach (var session in blocked)
        {
            Assert.True(await session.ResponseStream.MoveNext(TestContext.Current.CancellationToken));
            session.Dispose();
        }
    }

    [Fact]
    public async Task Session_whose_environment_throws_ends_alone()
    {
        static StepResult Step(StepContext context)
        {
            if (context.Action.Discrete == 2)
                throw new InvalidOperationException("the wheel came off");
            context.Observation.Write(0f, 0f);
            return StepResult.Continue(1);
        }
        await using var host = await Start(() => new ScriptedEnvironment { OnStep = Step }, options => options.Simulator.FailedEpisodesDirectory = null);
        using var broken = await Open(host, 1);
        using var other = await Open(host, 1);

        var failure = await Assert.ThrowsAsync<RpcException>(() => Exchange(broken, Requests.Step(2)));

        Assert.Equal(StatusCode.Internal, failure.StatusCode);
        Assert.EndsWith("step 1: Step threw InvalidOperationException: the wheel came off", failure.Status.Detail, StringComparison.Ordinal);
        Assert.Equal(1f, (await Exchange(other, Requests.Step(0))).Step.Rewards.Floats().Single());
    }

    [Fact]
    public async Task Observations_of_more_than_4_MB_are_served()
    {
        var spec = EnvironmentSpec.Create("Camera").Observation(Space.Box(ElementType.UInt8, 2000, 3000)).Action(Space.Discrete(2)).Build();
        await using var host = await Start(() => new ScriptedEnvironment
        {
            Spec = spec,
            OnReset = context => context.Observation.AsSpan<byte>().Fill(7),
        });
        using var session = await Open(host, 1, reset: false);
        var reply = await Exchange(session, Requests.Reset());
        Assert.Equal(6_000_000, reply.Reset.Observations[0].Data.Length);
    }

    [Fact]
    public async Task Stop_does_not_wait_for_a_step_that_blocks()
    {
        using var entered = new ManualResetEventSlim();
        using var release = new ManualResetEventSlim();
        StepResult Step(StepContext context)
        {
            entered.Set();
            release.Wait(Long);
            context.Observation.Write(0f, 0f);
            return StepResult.Continue(1);
        }
        var host = await Start(() => new ScriptedEnvironment { OnStep = Step }, options => options.Simulator.LongRequestThreshold = TimeSpan.Zero);
        using var session = await Open(host, 1);
        await session.RequestStream.WriteAsync(Requests.Step(0), TestContext.Current.CancellationToken);
        await session.RequestStream.CompleteAsync(); // see Host_serves_sessions_and_ends_them_when_it_stops
        Assert.True(entered.Wait(Long, TestContext.Current.CancellationToken));

        var reply = session.ResponseStream.MoveNext(TestContext.Current.CancellationToken);
        await host.DisposeAsync(); // returns although the step has not

        var end = await Assert.ThrowsAsync<RpcException>(() => reply);
        Assert.Equal((StatusCode.Unavailable, "the simulator is stopping"), (end.StatusCode, end.Status.Detail));
        Assert.False(release.IsSet);
        release.Set();
    }

    [Theory]
    [InlineData(2, "--prot is unknown; arguments: --host", "--prot", "5")]
    [InlineData(2, "--port: 70000 is not a port", "--port", "70000")]
    [InlineData(2, "--capacity needs a value", "--capacity")]
    [InlineData(1, "--host: nowhere is not an address of this machine", "--host", "nowhere")]
    public async Task Program_tells_what_is_wrong_with_its_arguments(int status, string words, params string[] args)
    {
        var before = Console.Error;
        using var error = new StringWriter();
        Console.SetError(error);
        try
        {
            Assert.Equal(status, await SimulatorHost.RunAsync<CartPole>(args, cancellationToken: TestContext.Current.CancellationToken));
        }
        finally
        {
            Console.SetError(before);
        }
        Assert.Contains(words, error.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Port_that_is_in_use_is_named()
    {
        await using var host = await Start(() => new CartPole());
        var error = await Assert.ThrowsAsync<IOException>(() => Start(() => new CartPole(), options => options.Port = host.Port));
        Assert.Contains($"cannot listen on 127.0.0.1 port {host.Port}", error.Message, StringComparison.Ordinal);
    }

    public void Dispose() => channels.ForEach(channel => channel.Dispose());

    private static Task<SimulatorHost> Start(Func<IEnvironment> create, Action<SimulatorHostOptions>? configure = null) =>
        SimulatorHost.StartAsync(create, options =>
        {
            options.Port = 0;
            configure?.Invoke(options);
        }, TestContext.Current.CancellationToken);

    private GrpcChannel Channel(SimulatorHost host)
    {
        channels.Add(GrpcChannel.ForAddress($"http://{host.Address}", new GrpcChannelOptions { MaxReceiveMessageSize = null }));
        return channels[^1];
    }

    private async Task<AsyncDuplexStreamingCall<SimulatorRequest, SimulatorReply>> Open(SimulatorHost host, uint environments, bool reset = true)
    {
        var session = new EnvironmentService.EnvironmentServiceClient(Channel(host)).Session(cancellationToken: TestContext.Current.CancellationToken);
        await Exchange(session, Requests.Open(environments));
        if (reset)
            await Exchange(session, Requests.Reset());
        return session;
    }

    private static async Task<SimulatorReply> Exchange(AsyncDuplexStreamingCall<SimulatorRequest, SimulatorReply> session, SimulatorRequest request)
    {
        await session.RequestStream.WriteAsync(request, TestContext.Current.CancellationToken);
        Assert.True(await session.ResponseStream.MoveNext(TestContext.Current.CancellationToken));
        return session.ResponseStream.Current;
    }
}
