using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using AISandbox.Client.Tests.Support;
using Grpc.Core;
using Xunit;

namespace AISandbox.Client.Tests;

/// <summary>Against the real service, with real trainers.</summary>
public class ServiceTests(ServiceProcess service) : IClassFixture<ServiceProcess>
{
    private const string NoService = "AISANDBOX_PYTHON is not set";

    private static Training Short(string experiment) => new()
    {
        Experiment = experiment,
        TotalTimesteps = 256,
        Hyperparameters = new PpoHyperparameters { NSteps = 64, BatchSize = 32, NEpochs = 1 },
    };

    private static Training Long(string experiment) => Short(experiment) with { TotalTimesteps = 1_000_000_000 };

    private AISandboxClient Connect(Action<AISandboxClientOptions>? configure = null, Logs? logs = null) =>
        ScriptedServer.Connect(service.Address, options =>
        {
            options.Timeout = Waiting.Limit;
            configure?.Invoke(options);
        }, logs);

    [Fact(Skip = NoService, SkipWhen = nameof(ServiceProcess.IsAbsent), SkipType = typeof(ServiceProcess))]
    public async Task Run_is_started_followed_and_acted_with()
    {
        var token = TestContext.Current.CancellationToken;
        using var client = Connect();
        Assert.True(await client.IsServingAsync(token));
        var run = await client.StartAsync(Short("acted-with"), token);
        var status = await run.WaitAsync(token);
        Assert.Equal((TrainingPhase.Succeeded, true, run.Name), (status.Phase, status.IsDone, status.Run));
        Assert.InRange(status.TimestepsDone, 256, 512);
        Assert.Equal("PPO", status.Algorithm);
        Assert.StartsWith("sha256:", status.LatestModel!.Digest, StringComparison.Ordinal);
        Assert.NotNull(status.CompletionTime);

        var description = await client.Contract.DescribeModelAsync(new V1.DescribeModelRequest { RunId = run.Name }, cancellationToken: token);
        var observation = new float[(int)description.ObservationSpace.Box.Shape.Single()];
        var action = await run.ActAsync(observation, ModelSelector.Final, cancellationToken: token);
        Assert.Equal(description.Model, action.Model);
        var batch = await run.ActBatchAsync(new float[3 * observation.Length], 3, cancellationToken: token);
        Assert.Equal((3, 1), (batch.Count, batch.Width));
        Assert.Equal(action.Values, batch[2].ToArray());
        await using var stream = run.OpenActStream();
        var actions = await Task.WhenAll(Enumerable.Range(0, 50).Select(_ => stream.ActAsync(observation, token)));
        Assert.All(actions, each => Assert.Equal(action.Values, each.Values));

        Assert.Contains(await client.ListAsync("acted-with", cancellationToken: token).ToListAsync(), each => each.Run == run.Name);
        var wrong = await Assert.ThrowsAsync<AISandboxException>(() => run.ActAsync(new float[99], cancellationToken: token));
        Assert.Equal("observation", Assert.Single(wrong.FieldViolations).Field);
        var streamed = await Assert.ThrowsAsync<AISandboxException>(() => stream.ActAsync(new float[99], token));
        Assert.Equal((StatusCode.InvalidArgument, wrong.Message), (streamed.StatusCode, streamed.Message));
        var unknown = await Assert.ThrowsAsync<AISandboxException>(() => client.GetRun("nobody").GetStatusAsync(token));
        Assert.Equal(StatusCode.NotFound, unknown.StatusCode);
        var done = await Assert.ThrowsAsync<AISandboxException>(() => run.CancelAsync(token));
        Assert.Equal((StatusCode.FailedPrecondition, "RunDone"), (done.StatusCode, done.Reason));
    }

    [Fact(Skip = NoService, SkipWhen = nameof(ServiceProcess.IsAbsent), SkipType = typeof(ServiceProcess))]
    public async Task Run_without_a_model_says_that_it_has_none_yet()
    {
        var token = TestContext.Current.CancellationToken;
        using var client = Connect();
        var run = await client.StartAsync(Long("no-model"), token);
        var error = await Assert.ThrowsAsync<AISandboxException>(() => run.ActAsync(new float[1], cancellationToken: token));
        await run.CancelAsync(token);
        Assert.Equal((StatusCode.FailedPrecondition, false), (error.StatusCode, error.IsTransient));
        Assert.Equal($"run '{run.Name}' has no model 'latest': no model is published yet", error.Message);
    }

    [Fact(Skip = NoService, SkipWhen = nameof(ServiceProcess.IsAbsent), SkipType = typeof(ServiceProcess))]
    public async Task Hyperparameters_of_every_algorithm_are_understood()
    {
        var token = TestContext.Current.CancellationToken;
        using var client = Connect();
        Hyperparameters[] all =
        [
            new PpoHyperparameters
            {
                LearningRate = Schedule.Linear(1e-5), NSteps = 64, BatchSize = 32, NEpochs = 2, Gamma = 0.9, ClipRange = 0.1, ClipRangeVf = Schedule.Linear(0.2),
                NormalizeAdvantage = false, VfCoef = 0.25, TargetKl = 0.1, GaeLambda = 0.9, EntCoef = 1e-7, UseSde = false, SdeSampleFreq = -1, MaxGradNorm = 1,
                StatsWindowSize = 10, Device = "cpu", Policy = "MlpPolicy", NEnvs = 1, FrameStack = 2, Normalize = new Normalization(),
                PolicyKwargs = new PolicyNetwork { Layers = [8, 8], Activation = Activation.SiLU, OrthoInit = true, LogStdInit = -1, NormalizeImages = false },
                Text = new Dictionary<string, string>(),
            },
            new A2cHyperparameters
            {
                NSteps = 8, UseRmsProp = false, RmsPropEps = 1e-6, NormalizeAdvantage = true, VfCoef = 0.5, GaeLambda = 1, EntCoef = 0, UseSde = false, SdeSampleFreq = 4,
                Normalize = new Normalization { NormObs = true, NormReward = false, ClipObs = 5, ClipReward = 5, Gamma = 0.9, Epsilon = 1e-7 },
                PolicyKwargs = new PolicyNetwork { PolicyLayers = [8], ValueLayers = [16] },
            },
            new DqnHyperparameters
            {
                BufferSize = 1000, BatchSize = 8, LearningStarts = 10, TrainFreq = TrainFrequency.Steps(2), GradientSteps = -1, NSteps = 1, Tau = 0.5,
                TargetUpdateInterval = 100, ExplorationFraction = 0.2, ExplorationInitialEps = 0.9, ExplorationFinalEps = 0.1,
                OptimizeMemoryUsage = true, HandleTimeoutTermination = false,
            },
            new QrdqnHyperparameters { BufferSize = 1000, ExplorationFinalEps = 0.02, MaxGradNorm = 10, PolicyKwargs = new PolicyNetwork { Layers = [8] } },
            new SacHyperparameters
            {
                BufferSize = 1000, EntCoef = AutomaticNumber.AutomaticFrom(0.5), TargetEntropy = AutomaticNumber.Automatic, UseSde = true, UseSdeAtWarmup = true,
                NoiseType = "normal", NoiseStd = 0.1, TargetUpdateInterval = 2, PolicyKwargs = new PolicyNetwork { PolicyLayers = [8], CriticLayers = [16] },
            },
            new Td3Hyperparameters { BufferSize = 1000, PolicyDelay = 3, TargetPolicyNoise = 0.1, TargetNoiseClip = 0.2, NoiseType = "ornstein-uhlenbeck", NoiseStd = 0.5 },
            new TqcHyperparameters { BufferSize = 1000, TopQuantilesToDropPerNet = 3, EntCoef = 0.1 },
            new CrossQHyperparameters { BufferSize = 1000, PolicyDelay = 2, TargetEntropy = -2 },
        ];
        string[] names = ["PPO", "A2C", "DQN", "QRDQN", "SAC", "TD3", "TQC", "CrossQ"];
        foreach (var (hyperparameters, name) in all.Zip(names))
        {
            var environment = hyperparameters is PpoHyperparameters or A2cHyperparameters or DqnHyperparameters or QrdqnHyperparameters ? "CartPole-v1" : "Pendulum-v1";
            var run = await client.StartAsync(Long("understood") with { Hyperparameters = hyperparameters, Environment = TrainingEnvironment.Gymnasium(environment) }, token);
            var status = await run.CancelAsync(token);
            Assert.Equal(name, status.Algorithm);
        }

        var refused = await Assert.ThrowsAsync<AISandboxException>(() => client.StartAsync(Long("refused") with { Hyperparameters = new PpoHyperparameters { Gamma = 1.5 } }, token));
        Assert.Equal("hyperparameters.gamma", Assert.Single(refused.FieldViolations).Field);
    }

    [Fact(Skip = NoService, SkipWhen = nameof(ServiceProcess.IsAbsent), SkipType = typeof(ServiceProcess))]
    public async Task Watch_of_a_suspended_run_and_an_idle_stream_stay_open_with_many_pings()
    {
        var token = TestContext.Current.CancellationToken;
        using var cable = new Cable(service.Port);
        using var logs = new Logs();
        using var client = ScriptedServer.Connect(cable.Address, options =>
        {
            options.KeepAliveInterval = TimeSpan.FromSeconds(1);
            // A service with two busy processors may answer a ping late.
            options.LivenessInterval = Waiting.Limit;
        }, logs);
        var done = await client.StartAsync(Short("idle"), token);
        await done.WaitAsync(token);
        var size = (int)(await client.Contract.DescribeModelAsync(new V1.DescribeModelRequest { RunId = done.Name }, cancellationToken: token)).ObservationSpace.Box.Shape.Single();
        await using var stream = done.OpenActStream();
        await stream.ActAsync(new float[size], token);
        var run = await client.StartAsync(Long("suspended"), token);
        var resumed = new TaskCompletionSource();
        var watch = Task.Run(async () =>
        {
            var phases = new List<TrainingPhase>();
            await foreach (var status in run.WatchAsync(token))
            {
                phases.Add(status.Phase);
                if (status.Phase == TrainingPhase.Suspended)
                {
                    resumed.TrySetResult();
                }
            }

            return phases;
        }, token);
        await run.SuspendAsync(token);
        await resumed.Task.WaitAsync(Waiting.Limit, token);
        var before = cable.Pings;
        await Waiting.UntilAsync(() => cable.Pings >= before + 8);
        await stream.ActAsync(new float[size], token);
        Assert.DoesNotContain(logs.All, each => each.Contains("opens it again", StringComparison.Ordinal));
        await run.CancelAsync(token);
        Assert.Equal(TrainingPhase.Cancelled, (await watch)[^1]);
        Assert.DoesNotContain(logs.Warnings, each => each.Contains("too_many_pings", StringComparison.OrdinalIgnoreCase) || each.Contains("ENHANCE_YOUR_CALM", StringComparison.Ordinal));
    }

    [Fact(Skip = NoService, SkipWhen = nameof(ServiceProcess.IsAbsent), SkipType = typeof(ServiceProcess))]
    public async Task Watch_and_stream_survive_a_restart_of_the_service()
    {
        var token = TestContext.Current.CancellationToken;
        await using var other = new ServiceProcess();
        await other.StartAsync();
        using var logs = new Logs();
        using var client = ScriptedServer.Connect(other.Address, options => options.Timeout = Waiting.Limit, logs);
        var done = await client.StartAsync(Short("restarted"), token);
        await done.WaitAsync(token);
        var size = (int)(await client.Contract.DescribeModelAsync(new V1.DescribeModelRequest { RunId = done.Name }, cancellationToken: token)).ObservationSpace.Box.Shape.Single();
        await using var stream = done.OpenActStream();
        await stream.ActAsync(new float[size], token);
        var run = await client.StartAsync(Long("restarted"), token);
        await run.SuspendAsync(token);
        await using var watch = run.WatchAsync(token).GetAsyncEnumerator(token);
        do
        {
            Assert.True(await watch.MoveNextAsync());
        }
        while (watch.Current.Phase != TrainingPhase.Suspended);

        var next = watch.MoveNextAsync().AsTask();
        await other.StopAsync();
        // The idle stream has ended with the service's own word.
        await Waiting.UntilAsync(() => logs.All.Any(each => each.Contains("the next observation opens it again", StringComparison.Ordinal)));
        // What the client itself has found would begin with the address.
        Assert.DoesNotContain(logs.All, each => each.Contains($"{other.Address}: ", StringComparison.Ordinal) && each.Contains("the next observation", StringComparison.Ordinal));
        await other.StartAsync();
        await stream.ActAsync(new float[size], token);
        await run.CancelAsync(token);
        Assert.True(await next);
        while (!watch.Current.IsDone)
        {
            Assert.True(await watch.MoveNextAsync());
        }
    }
}
