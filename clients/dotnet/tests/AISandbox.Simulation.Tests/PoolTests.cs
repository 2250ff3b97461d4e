using AISandbox.Client;
using AISandbox.Client.Tests.Support;
using AISandbox.V1;
using Grpc.Core;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Testing;
using Xunit;
using Lesson = AISandbox.Client.Lesson;
using LessonEnd = AISandbox.Client.LessonEnd;

namespace AISandbox.Simulation.Tests;

/// <summary>Pools of the real service.</summary>
public sealed class PoolTests(ServiceProcess service) : IClassFixture<ServiceProcess>
{
    private const string NoService = "AISANDBOX_PYTHON is not set";

    private readonly FakeLogCollector logs = new();

    private static CancellationToken Test => TestContext.Current.CancellationToken;

    [Fact(Skip = NoService, SkipWhen = nameof(ServiceProcess.IsAbsent), SkipType = typeof(ServiceProcess))]
    public async Task Attached_simulator_serves_sessions_and_comes_back_after_the_service()
    {
        using var stop = new CancellationTokenSource();
        var simulator = new Simulator(() => new CartPole(), logger: new FakeLogger(logs));
        var attached = simulator.AttachAsync(Options("carts", "here", environments: 2), stop.Token);
        for (var life = 0; life < 2; life++)
        {
            using var client = new AISandboxClient(service.Address);
            await Waiting.UntilAsync(async () => (await ListAsync(client, "carts")).Count == 1);
            for (var session = 0; session < 2; session++)
            {
                using var call = Session(client, "carts");
                var opened = await ExchangeAsync(call, Requests.Open(8));
                Assert.Equal(2U, opened.Open.Environments);
                await ExchangeAsync(call, Requests.Reset(1, 2));
                Assert.Equal(2, (await ExchangeAsync(call, Requests.Step(0, 1))).Step.Rewards.Floats().Length);
                var listed = Assert.Single(await ListAsync(client, "carts"));
                Assert.Equal(("carts", "here", 2U, "CartPole", true), (listed.Pool, listed.Instance, listed.Environments, listed.Name, listed.InSession));
                await call.RequestStream.CompleteAsync();
                Assert.False(await call.ResponseStream.MoveNext(Test));
                Assert.Equal(0, simulator.InUse);
            }
            if (life == 1)
                break;
            using (var cut = Session(client, "carts"))
            {
                await ExchangeAsync(cut, Requests.Open(2));
                await service.StopAsync();
            }
            await Waiting.UntilAsync(() => simulator.AttachedPlaces == 0 && simulator.InUse == 0);
            await service.StartAsync();
        }
        Assert.Contains(logs.GetSnapshot(), record => record.Level == LogLevel.Warning && record.Message.Contains("attaching again in", StringComparison.Ordinal));

        using var last = new AISandboxClient(service.Address);
        using var open = Session(last, "carts");
        await ExchangeAsync(open, Requests.Open(2));
        stop.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => attached.WaitAsync(Waiting.Limit, Test));
        var end = await Assert.ThrowsAsync<RpcException>(() => open.ResponseStream.MoveNext(Test));
        Assert.Equal(StatusCode.Unavailable, end.StatusCode); // what a trainer waits for to come back
        await Waiting.UntilAsync(async () => (await ListAsync(last, "carts")).Count == 0);
    }

    [Fact(Skip = NoService, SkipWhen = nameof(ServiceProcess.IsAbsent), SkipType = typeof(ServiceProcess))]
    public async Task Run_trains_against_a_pool_with_an_attached_simulator()
    {
        using var stop = new CancellationTokenSource();
        var simulator = new Simulator(() => new CartPole());
        var attached = simulator.AttachAsync(Options("trained", "here", environments: 2), stop.Token);
        using var client = new AISandboxClient(service.Address);
        var run = await client.StartAsync(
            new Training
            {
                Experiment = "pool",
                TotalTimesteps = 256,
                Environment = TrainingEnvironment.Pool("trained") with { Environments = 2 },
                Hyperparameters = new PpoHyperparameters { NSteps = 64, BatchSize = 32, NEpochs = 1 },
            },
            Test);

        var status = await run.WaitAsync(Test); // throws if the run fails

        Assert.Equal((TrainingPhase.Succeeded, 256L), (status.Phase, status.TimestepsDone));
        await Waiting.UntilAsync(async () => !(await ListAsync(client, "trained")).Single().InSession); // it waits for the next run
        stop.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => attached.WaitAsync(Waiting.Limit, Test));
    }

    [Fact(Skip = NoService, SkipWhen = nameof(ServiceProcess.IsAbsent), SkipType = typeof(ServiceProcess))]
    public async Task Run_on_masks_and_lessons_of_an_attached_simulator_does_nothing_forbidden()
    {
        using var stop = new CancellationTokenSource();
        var trained = new GridWorld.Counter();
        var attached = new Simulator(() => new GridWorld(trained)).AttachAsync(Options("grids", "here", environments: 2), stop.Token);
        using var client = new AISandboxClient(service.Address);
        await Waiting.UntilAsync(async () => (await ListAsync(client, "grids")).Count == 1); // a start checks lessons with it
        var training = new Training
        {
            Experiment = "grid",
            TotalTimesteps = 256,
            Environment = TrainingEnvironment.Pool("grids") with { Environments = 2 },
            Hyperparameters = new PpoHyperparameters { NSteps = 64, BatchSize = 32, NEpochs = 1 },
            Lessons =
            [
                new Lesson { Name = "near", Parameters = Distance(LessonValue.Uniform(1, 3)), Until = new LessonEnd { Timesteps = 128 } },
                new Lesson { Name = "far", Parameters = Distance(LessonValue.Choice(5, 6)) },
            ],
        };
        var run = await client.StartAsync(training, Test);
        var status = await run.WaitAsync(Test); // throws if the run fails
        stop.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => attached.WaitAsync(Waiting.Limit, Test));

        Assert.Equal(("MaskablePPO", "far", 2), (status.TrainedAlgorithm, status.Lesson?.Name, status.Lesson?.Number));
        Assert.Equal((0, 6), (trained.Forbidden, trained.Farthest));
        await using var stream = run.OpenActStream(ModelSelector.Final, stochastic: true);
        Assert.Equal(0, await PlayAsync((observation, mask) => stream.ActAsync(observation, mask, Test)));
        Assert.True(await PlayAsync((observation, _) => stream.ActAsync(observation, Test)) > 0, "the world forbids what the policy would do");

        byte[] right = [0, 0, 0, 1];
        var corner = new float[2];
        Assert.Equal((int)Move.Right, (await run.ActAsync(corner, right, cancellationToken: Test)).Discrete);
        var batch = await run.ActBatchAsync(new float[4], 2, new byte[] { 0, 0, 0, 1, 0, 1, 0, 0 }, cancellationToken: Test);
        Assert.Equal((Move.Right, Move.Down), ((Move)batch[0][0], (Move)batch[1][0]));
        foreach (var (mask, rule) in new (byte[], string)[] { ([1], "has 1 values, and the masks of the model have 4"), (new byte[4], "allows no action") })
        {
            var single = await Assert.ThrowsAsync<AISandboxException>(() => run.ActAsync(corner, mask, cancellationToken: Test));
            var many = await Assert.ThrowsAsync<AISandboxException>(() => run.ActBatchAsync(corner, 1, mask, cancellationToken: Test));
            var streamed = await Assert.ThrowsAsync<AISandboxException>(() => stream.ActAsync(corner, mask, Test));
            Assert.Equal(["action_mask", "action_masks"], [single.FieldViolations.Single().Field, many.FieldViolations.Single().Field]);
            Assert.All([single, many, streamed], error => Assert.Contains(rule, error.Message, StringComparison.Ordinal));
        }

        static Dictionary<string, LessonValue> Distance(LessonValue value) => new() { ["distance"] = value };

        static async Task<long> PlayAsync(Func<float[], byte[], Task<PolicyAction>> act)
        {
            var played = new GridWorld.Counter();
            using var runner = new EnvironmentRunner(new GridWorld(played));
            for (var episode = 0UL; episode < 20; episode++)
            {
                runner.Reset(episode);
                while (!runner.Ended)
                {
                    var observation = new float[2];
                    runner.Observation.CopyTo(observation);
                    var action = await act(observation, runner.Mask.AsSpan().ToArray());
                    runner.Step(action.Discrete);
                }
            }

            return played.Forbidden;
        }
    }

    [Fact(Skip = NoService, SkipWhen = nameof(ServiceProcess.IsAbsent), SkipType = typeof(ServiceProcess))]
    public async Task Refusals_of_the_service_reach_the_program()
    {
        using var stop = new CancellationTokenSource();
        var first = new Simulator(() => new CartPole()).AttachAsync(Options("refusals", "first"), stop.Token);
        using var client = new AISandboxClient(service.Address);
        await Waiting.UntilAsync(async () => (await ListAsync(client, "refusals")).Count == 1);

        // Another spec than the pool's.
        var other = await Assert.ThrowsAsync<AttachmentRefusedException>(
            () => new Simulator(() => new ScriptedEnvironment()).AttachAsync(Options("refusals", "other"), Test).WaitAsync(Waiting.Limit, Test));
        Assert.Equal(StatusCode.FailedPrecondition, other.StatusCode);
        Assert.Contains("spec", other.Message, StringComparison.Ordinal);

        // Twice the same instance: the place may be that of a connection that was lost, so it is tried again.
        var twice = new Simulator(() => new CartPole(), logger: new FakeLogger(logs)).AttachAsync(Options("refusals", "first"), stop.Token);
        await Waiting.UntilAsync(() => logs.GetSnapshot().Any(record => record.Message.Contains("'first'", StringComparison.Ordinal) && record.Message.Contains("attaching again in", StringComparison.Ordinal)));
        stop.Cancel();
        foreach (var attached in new[] { first, twice })
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => attached.WaitAsync(Waiting.Limit, Test));
    }

    [Theory(Skip = NoService, SkipWhen = nameof(ServiceProcess.IsAbsent), SkipType = typeof(ServiceProcess))]
    [InlineData(StatusCode.InvalidArgument, "pool", "Not A Pool", 1)]
    [InlineData(StatusCode.FailedPrecondition, "register.protocol_version", "carts", 9)]
    public async Task Wrong_registrations_have_the_status_that_is_a_refusal(StatusCode code, string words, string pool, uint version)
    {
        // Not by AttachAsync, which sends neither.
        using var client = new AISandboxClient(service.Address);
        using var call = new SimulatorPoolService.SimulatorPoolServiceClient(client.CallInvoker).Attach(cancellationToken: Test);
        var register = new RegisterSimulator
        {
            Pool = pool,
            Instance = "wrong",
            ProtocolVersion = version,
            Environments = 1,
            Spec = ScriptedEnvironment.Default.ToContract(),
        };
        await call.RequestStream.WriteAsync(new AttachRequest { Register = register }, Test);
        var end = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext(Test));
        Assert.Equal(code, end.StatusCode);
        Assert.Contains(words, end.Status.Detail, StringComparison.Ordinal);
    }

    private SimulatorAttachmentOptions Options(string pool, string instance, int environments = 1) => new()
    {
        Address = service.Address,
        Pool = pool,
        Instance = instance,
        Environments = environments,
        InitialBackoff = TimeSpan.FromMilliseconds(50),
        MaxBackoff = TimeSpan.FromMilliseconds(500),
    };

    private static AsyncDuplexStreamingCall<SimulatorRequest, SimulatorReply> Session(AISandboxClient client, string pool) =>
        new EnvironmentService.EnvironmentServiceClient(client.CallInvoker).Session(new Metadata { { "aisandbox-pool", pool } }, cancellationToken: Test);

    private static async Task<IReadOnlyList<V1.Simulator>> ListAsync(AISandboxClient client, string pool) =>
        (await new SimulatorPoolService.SimulatorPoolServiceClient(client.CallInvoker).ListSimulatorsAsync(
            new ListSimulatorsRequest { Pool = pool }, cancellationToken: Test)).Simulators;

    private static async Task<SimulatorReply> ExchangeAsync(AsyncDuplexStreamingCall<SimulatorRequest, SimulatorReply> call, SimulatorRequest request)
    {
        await call.RequestStream.WriteAsync(request, Test);
        Assert.True(await call.ResponseStream.MoveNext(Test).WaitAsync(Waiting.Limit, Test));
        return call.ResponseStream.Current;
    }
}
