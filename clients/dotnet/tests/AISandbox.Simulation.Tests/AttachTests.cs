using AISandbox.V1;
using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Testing;
using Microsoft.Extensions.Options;
using Xunit;

namespace AISandbox.Simulation.Tests;

/// <summary>A simulator that dials, and a service as simulator_pool.proto describes it.</summary>
public sealed class AttachTests
{
    private static CancellationToken Test => TestContext.Current.CancellationToken;

    private static SimulatorAttachmentOptions To(PoolServiceDouble service) => new()
    {
        Address = service.Address,
        Pool = "carts",
        Instance = "here",
        InitialBackoff = TimeSpan.FromMilliseconds(5),
        MaxBackoff = TimeSpan.FromMilliseconds(50),
        GoodbyeLimit = PoolServiceDouble.Long,
    };

    private static Task<TError> Fails<TError>(Task attached) where TError : Exception => Assert.ThrowsAsync<TError>(() => attached.WaitAsync(PoolServiceDouble.Long, Test));

    private static async Task Until(Func<bool> condition)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(Test);
        limit.CancelAfter(PoolServiceDouble.Long);
        while (!condition())
            await Task.Delay(5, limit.Token);
    }

    [Fact]
    public async Task Attached_simulator_registers_and_serves_one_session_after_another()
    {
        await using var service = await PoolServiceDouble.StartAsync();
        using var stop = new CancellationTokenSource();
        var simulator = new Simulator(() => new CartPole());
        var options = To(service);
        options.Environments = 2;
        var attached = simulator.AttachAsync(options, stop.Token);
        var place = await service.NextAsync();
        var register = place.Register;
        Assert.Equal(("carts", "here", 1U, 2U, "CartPole"), (register.Pool, register.Instance, register.ProtocolVersion, register.Environments, register.Name));
        Assert.Equal(simulator.Spec.ToContract(), register.Spec);
        await Until(() => simulator.AttachedPlaces == 1);
        for (var session = 0; session < 2; session++)
        {
            await place.OpenAsync();
            Assert.Equal(2, (await place.ExchangeAsync(Requests.Step(0, 1))).Step.Rewards.Floats().Length);
            Assert.Equal(SimulatorErrorCode.InvalidArgument, (await place.ExchangeAsync(Requests.Step(7, 7))).Error.Code);
            await place.EndSessionAsync();
            var end = (await place.ReceiveAsync())!.SessionEnded;
            Assert.Equal((0, ""), (end.Code, end.Message));
            Assert.Equal(0, simulator.InUse);
        }

        await place.OpenAsync();
        stop.Cancel();
        Assert.Equal(stop.Token, (await Fails<OperationCanceledException>(attached)).CancellationToken);
        var last = (await place.ReceiveAsync())!.SessionEnded;
        Assert.Equal((StatusCode.Unavailable, "the simulator is stopping"), ((StatusCode)last.Code, last.Message));
        Assert.Null(await place.ReceiveAsync());
        Assert.Equal((0, 0), (simulator.AttachedPlaces, simulator.InUse));
    }

    [Fact]
    public async Task Failure_of_an_environment_ends_the_session_and_not_the_place()
    {
        static StepResult Step(StepContext context)
        {
            if (context.Action.Discrete == 2)
                throw new InvalidOperationException("the wheel came off");
            context.Observation.Write(0f, 0f);
            return StepResult.Continue(1);
        }
        await using var service = await PoolServiceDouble.StartAsync();
        using var stop = new CancellationTokenSource();
        var simulator = new Simulator(() => new ScriptedEnvironment { OnStep = Step }, new SimulatorOptions { FailedEpisodesDirectory = null });
        var attached = simulator.AttachAsync(To(service), stop.Token);
        var place = await service.NextAsync();
        await place.OpenAsync();
        await place.SendAsync(Requests.Step(2));
        await place.SendAsync(Requests.Step(0)); // was on its way
        var end = (await place.ReceiveAsync())!.SessionEnded;
        Assert.Equal(StatusCode.Internal, (StatusCode)end.Code);
        Assert.EndsWith("step 1: Step threw InvalidOperationException: the wheel came off", end.Message, StringComparison.Ordinal);
        await place.EndSessionAsync();

        await place.OpenAsync();
        Assert.Equal(1f, (await place.ExchangeAsync(Requests.Step(0))).Step.Rewards.Floats().Single());
        await place.EndSessionAsync();
        await place.ReceiveAsync();
        await place.SendAsync(Requests.Step(0)); // no session
        Assert.Contains("the first request of a session is open", (await place.ReceiveAsync())!.SessionEnded.Message, StringComparison.Ordinal);
        stop.Cancel();
        await Fails<OperationCanceledException>(attached);
    }

    [Fact]
    public async Task Session_that_ends_during_a_step_ends_the_place_with_it_when_the_step_has_returned()
    {
        using var entered = new SemaphoreSlim(0);
        using var release = new SemaphoreSlim(0);
        StepResult Step(StepContext context)
        {
            context.Observation.Write(0f, 0f);
            if (context.Action.Discrete == 2)
            {
                entered.Release();
                release.Wait(PoolServiceDouble.Long, Test);
            }
            return StepResult.Continue(1);
        }
        await using var service = await PoolServiceDouble.StartAsync();
        using var stop = new CancellationTokenSource();
        var simulator = new Simulator(() => new ScriptedEnvironment { OnStep = Step }, new SimulatorOptions { LongRequestThreshold = TimeSpan.Zero });
        var attached = simulator.AttachAsync(To(service), stop.Token);
        var place = await service.NextAsync();
        await place.OpenAsync();
        await place.SendAsync(Requests.Step(2));
        await entered.WaitAsync(PoolServiceDouble.Long, Test);
        await place.EndSessionAsync();
        Assert.Equal(1, simulator.InUse);
        release.Release();
        var message = await place.ReceiveAsync();
        if (message!.MessageCase == AttachRequest.MessageOneofCase.Reply) // was on its way
            message = await place.ReceiveAsync();
        Assert.Equal(0, message!.SessionEnded.Code);
        Assert.Equal(0, simulator.InUse);

        // Cancelled in the middle of a step: ends at once.
        await place.OpenAsync();
        await place.SendAsync(Requests.Step(2));
        await entered.WaitAsync(PoolServiceDouble.Long, Test);
        stop.Cancel();
        await Fails<OperationCanceledException>(attached);
        Assert.Equal(1, simulator.InUse);
        release.Release();
        await Until(() => simulator.InUse == 0);
    }

    [Theory]
    [InlineData(StatusCode.InvalidArgument, "register.pool: must be lower-case")]
    [InlineData(StatusCode.FailedPrecondition, "pool 'carts' has another spec: action_space")]
    [InlineData(StatusCode.Unauthenticated, "no token")]
    [InlineData(StatusCode.PermissionDenied, "ada may not join pool 'carts'")]
    public async Task Refusal_throws_with_the_services_sentence(StatusCode code, string sentence)
    {
        await using var service = await PoolServiceDouble.StartAsync();
        service.Refusal = new Status(code, sentence);
        var refusal = await Fails<AttachmentRefusedException>(new Simulator(() => new CartPole()).AttachAsync(To(service), Test));
        Assert.Equal((code, sentence), (refusal.StatusCode, refusal.Message));
    }

    [Fact]
    public async Task Service_without_pools_is_a_refusal()
    {
        await using var host = await AspNetCore.SimulatorHost.StartAsync<CartPole>(options => options.Port = 0, Test);
        var refusal = await Fails<AttachmentRefusedException>(new Simulator(() => new CartPole()).AttachAsync(host.Address, "carts", cancellationToken: Test));
        Assert.Contains("has no SimulatorPoolService", refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Simulator_attaches_again_after_every_other_end_and_says_why()
    {
        var logs = new FakeLogCollector();
        using var stop = new CancellationTokenSource();
        var service = await PoolServiceDouble.StartAsync();
        service.Refusal = new Status(StatusCode.AlreadyExists, "instance 'here' of pool 'carts' has a place already");
        var simulator = new Simulator(() => new CartPole(), logger: new FakeLogger(logs));
        var attached = simulator.AttachAsync(To(service), stop.Token);
        await Until(() => Warnings().Any(line => line.Contains("has a place already; attaching again in", StringComparison.Ordinal)));
        service.Refusal = null;
        (await service.NextAsync()).Ended.SetResult(new Status(StatusCode.Unavailable, "the service is stopping"));
        var inSession = await service.NextAsync();
        await inSession.OpenAsync();
        inSession.Ended.SetResult(null);
        await service.NextAsync();
        Assert.Contains(Warnings(), line => line.Contains("here, pool carts of ", StringComparison.Ordinal) && line.Contains("the service is stopping", StringComparison.Ordinal));
        Assert.Contains(Warnings(), line => line.Contains("the service has ended the stream", StringComparison.Ordinal));
        Assert.Equal(0, simulator.InUse);

        var port = service.Port;
        await service.DisposeAsync();
        await Until(() => simulator.AttachedPlaces == 0);
        await using var again = await PoolServiceDouble.StartAsync(port);
        await (await again.NextAsync()).OpenAsync();
        stop.Cancel();
        await Fails<OperationCanceledException>(attached);

        IEnumerable<string> Warnings() => logs.GetSnapshot().Where(record => record.Level == LogLevel.Warning).Select(record => record.Message);
    }

    [Fact]
    public async Task Places_of_one_simulator_serve_sessions_at_the_same_time_and_leave_together()
    {
        await using var service = await PoolServiceDouble.StartAsync();
        var options = To(service);
        (options.Places, options.Environments) = (2, 3);
        var token = 0;
        options.AccessTokenProvider = _ => new ValueTask<string?>($"t{Interlocked.Increment(ref token)}");
        using var stop = new CancellationTokenSource();
        var simulator = new Simulator(() => new CartPole());
        var attached = simulator.AttachAsync(options, stop.Token);
        var places = new[] { await service.NextAsync(), await service.NextAsync() };
        Assert.Equal(["here-1", "here-2"], places.Select(place => place.Register.Instance).Order());
        Assert.Equal(["Bearer t1", "Bearer t2"], places.Select(place => place.Headers.GetValue("authorization")).Order());
        await places[0].OpenAsync();
        await places[1].OpenAsync();
        Assert.Equal((6, 2), (simulator.InUse, simulator.AttachedPlaces));

        // A refusal of one ends all.
        service.Refusal = new Status(StatusCode.PermissionDenied, "the token was withdrawn");
        places[0].Ended.SetResult(new Status(StatusCode.Unavailable, "the service is stopping"));
        Assert.Equal("the token was withdrawn", (await Fails<AttachmentRefusedException>(attached)).Message);
        Assert.Equal("the simulator is stopping", (await places[1].ReceiveAsync())!.SessionEnded.Message);
    }

    [Theory]
    [InlineData("Pool: must be 1 to 63 lower-case letters", "Carts", "http://a:1", 1)]
    [InlineData("Pool", "", "http://a:1", 1)]
    [InlineData("Address: must be http://HOST:PORT", "carts", "ftp://a:1", 1)]
    [InlineData("Environments", "carts", "http://a:1", 0)]
    public async Task Wrong_options_are_named(string words, string pool, string address, int environments)
    {
        var error = await Fails<OptionsValidationException>(new Simulator(() => new CartPole()).AttachAsync(address, pool, null, environments, Test));
        Assert.Contains(words, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Places_that_do_not_fit_are_refused_before_a_call()
    {
        var small = new Simulator(() => new CartPole(), new SimulatorOptions { Capacity = 3 });
        Assert.Contains("capacity", (await Fails<ArgumentException>(small.AttachAsync("a:1", "carts", null, 4, Test))).Message, StringComparison.Ordinal);
        var spec = EnvironmentSpec.Create("Camera").Observation("camera", Space.Box(ElementType.UInt8, 2000, 3000, 4)).Action(Space.Discrete(2)).Build();
        var large = new Simulator(() => new ScriptedEnvironment { Spec = spec });
        Assert.Contains("observation 'camera' alone has 24000000 bytes", (await Fails<ArgumentException>(large.AttachAsync("a:1", "carts", null, 2, Test))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Host_keeps_its_simulator_attached_and_tells_its_health()
    {
        await using var service = await PoolServiceDouble.StartAsync();
        var builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddSimulatorAttachment<CartPole>(options =>
            (options.Address, options.Pool, options.GoodbyeLimit) = (service.Address, "carts", PoolServiceDouble.Long));
        builder.Services.AddHealthChecks().AddSimulatorAttachment();
        using var host = builder.Build();
        var health = host.Services.GetRequiredService<HealthCheckService>();
        Assert.Contains("0 of 1 places are attached to pool carts", (await health.CheckHealthAsync(Test)).Entries.Single().Value.Description, StringComparison.Ordinal);
        await host.StartAsync(Test);
        var place = await service.NextAsync();
        await place.OpenAsync(); // so it knows that it is registered
        Assert.Equal(HealthStatus.Healthy, (await health.CheckHealthAsync(Test)).Status);
        await host.StopAsync(Test);
        Assert.Equal("the simulator is stopping", (await place.ReceiveAsync())!.SessionEnded.Message);
    }

    [Fact]
    public async Task Host_does_not_start_with_wrong_options_and_stops_with_a_refusal()
    {
        var wrong = Host.CreateEmptyApplicationBuilder(null);
        wrong.Services.AddSimulatorAttachment<CartPole>(options => options.Pool = "A pool");
        using (var host = wrong.Build())
            Assert.Contains("A pool", (await Assert.ThrowsAsync<OptionsValidationException>(() => host.StartAsync(Test))).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => wrong.Services.AddSimulatorAttachment<CartPole>());

        await using var service = await PoolServiceDouble.StartAsync();
        service.Refusal = new Status(StatusCode.PermissionDenied, "ada may not join");
        var refused = Host.CreateEmptyApplicationBuilder(null);
        refused.Services.AddSimulatorAttachment<CartPole>(options => (options.Address, options.Pool) = (service.Address, "carts"));
        using var stopping = refused.Build();
        await stopping.StartAsync(Test);
        await stopping.WaitForShutdownAsync(Test).WaitAsync(PoolServiceDouble.Long, Test);
    }
}
