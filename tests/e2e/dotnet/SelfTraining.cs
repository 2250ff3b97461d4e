using System.Text.Json;
using AISandbox;
using AISandbox.Client;
using AISandbox.Simulation;

namespace SelfTrained;

/// <summary>Starts a training against the simulation of this process, follows it to its end, and then plays with the policy.</summary>
internal static class SelfTraining
{
    private const int Episodes = 10;

    public static async Task RunAsync(CancellationToken cancellationToken)
    {
        using var client = new AISandboxClient(Variable("AISANDBOX_ADDRESS"));
        // With the same request id a program that was killed finds its run again.
        var run = await client.StartAsync(Wanted(), cancellationToken);
        Say(new() { ["run"] = run.Name });
        await foreach (var status in run.WatchAsync(cancellationToken))
        {
            Say(new() { ["phase"] = status.Phase.ToString(), ["timesteps"] = status.TimestepsDone });
        }

        await using var policy = await Policy.FollowAsync(client, run.Name, "best", cancellationToken: cancellationToken);
        var same = true;
        var byService = await PlayAsync(async observation =>
        {
            var there = (await run.ActAsync(observation, ModelSelector.Best, cancellationToken: cancellationToken)).Discrete;
            same &= there == policy.ActDiscrete(observation);
            return there;
        });
        var inProcess = await PlayAsync(observation => Task.FromResult(policy.ActDiscrete(observation)));
        Say(new()
        {
            ["service"] = byService,
            ["inProcess"] = inProcess,
            ["sameActions"] = same,
            ["model"] = policy.Model.Digest,
            ["verified"] = policy.Model.IsVerified,
        });
    }

    private static Training Wanted() => new()
    {
        Experiment = "e2e-dotnet",
        TotalTimesteps = 60_000,
        RequestId = Variable("REQUEST_ID"),
        Seed = 1,
        CheckpointEveryTimesteps = 10_000,
        Evaluation = new() { Episodes = 10 },
        Environment = TrainingEnvironment.Simulator(Variable("SIMULATOR_ADDRESS")) with { Environments = 8 },
        // Those of RL Zoo for CartPole-v1.
        Hyperparameters = new PpoHyperparameters
        {
            NSteps = 32,
            BatchSize = 256,
            GaeLambda = 0.8,
            Gamma = 0.98,
            NEpochs = 20,
            EntCoef = 0,
            LearningRate = Schedule.Linear(0.001),
            ClipRange = Schedule.Linear(0.2),
        },
    };

    /// <summary>The mean return of some episodes.</summary>
    private static async Task<double> PlayAsync(Func<float[], Task<int>> act)
    {
        using var runner = new EnvironmentRunner(new CartPole());
        var reward = 0.0;
        for (var episode = 0; episode < Episodes; episode++)
        {
            runner.Reset((ulong)(1000 + episode));
            while (!runner.Ended)
            {
                var action = await act(runner.Observation.AsSpan<float>().ToArray());
                runner.Action.Write(action);
                runner.Step();
            }

            reward += runner.Result.Reward;
        }

        return reward / Episodes;
    }

    private static void Say(Dictionary<string, object> document) => Console.WriteLine(JsonSerializer.Serialize(document));

    private static string Variable(string name) =>
        Environment.GetEnvironmentVariable(name) ?? throw new InvalidOperationException($"{name} is not set");
}
