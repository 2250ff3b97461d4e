// CartPole as a simulator, as the client that trains a policy for it, and as the user of that policy.
//
//   dotnet run -- check                  tests the environment; needs no service
//   dotnet run -- serve [--port 50061]   serves it, for runs that others start
//   dotnet run -- serve --attach ADDRESS --pool NAME
//                                        dials the service at ADDRESS instead of listening, for runs on that pool
//   dotnet run -- train [100000]         serves it, trains a policy for so many steps, and plays with it
//   dotnet run -- play RUN               plays with the best policy of a run
//
// AISANDBOX_ADDRESS is the service's address, by default 127.0.0.1:50051, where `aisandbox up` starts one. In a cluster
// SIMULATOR_ADDRESS is where trainers find this program, and REQUEST_ID lets it find its run again after a restart.
using AISandbox;
using AISandbox.Client;
using AISandbox.Simulation;
using AISandbox.Simulation.AspNetCore;

// A policy whose mean reward is less has not learned: then the exit status is 1.
const double Learned = 475;
var service = Environment.GetEnvironmentVariable("AISANDBOX_ADDRESS") ?? "127.0.0.1:50051";
try
{
    return args switch
    {
        ["check"] => Check(),
        ["serve", .. var options] => await SimulatorHost.RunAsync<CartPole>(options),
        ["train"] => await Train(100_000),
        ["train", var steps] when int.TryParse(steps, out var timesteps) => await Train(timesteps),
        ["play", var run] => await Play(run),
        _ => Fail("usage: dotnet run -- check | serve [--port PORT | --attach ADDRESS --pool NAME] | train [TIMESTEPS] | play RUN"),
    };
}
catch (Exception error) when (error is AISandboxException or TrainingFailedException or PolicyException or IOException)
{
    return Fail(error.Message);
}
catch (OperationCanceledException)
{
    return Fail("stopped; the run waits for its simulator until SIMULATOR_PATIENCE_SECONDS of the service are over");
}

int Check()
{
    var results = EnvironmentChecks.Run(() => new CartPole());
    foreach (var result in results)
        Console.WriteLine($"{(result.Ok ? "ok    " : "BROKEN")} {result.Name}: {result.Message}");
    return results.All(result => result.Ok) ? 0 : 1;
}

async Task<int> Train(int timesteps)
{
    // 1. The simulator: on a free port of this machine, or where the trainers of a cluster find it.
    var address = Environment.GetEnvironmentVariable("SIMULATOR_ADDRESS");
    await using var simulator = await SimulatorHost.StartAsync<CartPole>(options =>
        (options.Host, options.Port) = address is null ? ("127.0.0.1", 0) : ("0.0.0.0", 50061));

    // 2. The training: the hyperparameters of RL Zoo for PPO on cart-pole.
    using var client = new AISandboxClient(service);
    Console.WriteLine($"starting a training at {service}");
    var starting = client.StartAsync(new Training
    {
        Experiment = "cartpole",
        TotalTimesteps = timesteps,
        Seed = 1,
        RequestId = Environment.GetEnvironmentVariable("REQUEST_ID"),
        Environment = TrainingEnvironment.Simulator(address ?? simulator.Address),
        Evaluation = new EvaluationPlan { Episodes = 10 },
        Hyperparameters = new PpoHyperparameters
        {
            NEnvs = 8,
            NSteps = 32,
            BatchSize = 256,
            NEpochs = 20,
            GaeLambda = 0.8,
            Gamma = 0.98,
            LearningRate = Schedule.Linear(0.001),
            ClipRange = Schedule.Linear(0.2),
        },
    }, simulator.Stopping);
    if (await Task.WhenAny(starting, Task.Delay(TimeSpan.FromSeconds(3))) != starting)
        Console.WriteLine($"waiting for the service at {service}, up to half a minute");
    var run = await starting;
    Console.WriteLine($"run {run.Name}");
    var shown = -1L;
    await foreach (var status in run.WatchAsync(simulator.Stopping))
    {
        var tenth = 10 * status.TimestepsDone / timesteps;
        if (tenth != shown)
            Console.WriteLine($"{status.Phase}, {status.TimestepsDone} of {timesteps} steps, reward {status.EpisodeRewardMean:0.0}");
        shown = tenth;
    }
    await run.WaitAsync(simulator.Stopping); // a failed run is an exception with its reason

    // 3. The policy.
    return await Play(run.Name);
}

async Task<int> Play(string run)
{
    using var client = new AISandboxClient(service);
    await using var policy = await Policy.FollowAsync(client, run, "best");
    using var runner = new EnvironmentRunner(new CartPole());
    var (observation, action) = (new float[policy.FrameSize], new float[policy.ActionSize]);
    var hasMasks = policy.MaskSize > 0; // of an environment whose spec has ActionMasks()
    var agent = Agents.From(context =>
    {
        if (context.Steps == 0)
            policy.StartEpisode(); // of effect with a recurrent policy or a frame stack
        context.Observation.CopyTo(observation);
        policy.Act(observation, hasMasks ? context.Mask.AsSpan() : default, action);
        context.Action.Write(action);
    });
    if (!Console.IsOutputRedirected)
        await runner.PlayAsync(agent, new PlayOptions { Seed = 1, OnStep = Draw });

    // In this process: microseconds an action, no network. Random actions are what the policy is to be better than.
    EpisodeResult[] Episodes(IAgent player) => Enumerable.Range(1, 20).Select(seed => runner.Play(player, (ulong)seed)).ToArray();
    var (episodes, random) = (Episodes(agent), Episodes(Agents.Random()));
    var mean = episodes.Average(episode => episode.Reward);

    // The same actions by the service, for a program without ONNX Runtime.
    await using var stream = client.GetRun(run).OpenActStream(ModelSelector.Best);
    runner.Reset(1);
    while (!runner.Ended)
    {
        runner.Observation.CopyTo(observation);
        (await stream.ActAsync(observation, hasMasks ? runner.Mask.AsSpan().ToArray() : [])).CopyTo(action);
        runner.Action.Write(action);
        runner.Step();
    }
    Console.WriteLine($"model {policy.Model.Digest} of {policy.Model.Timesteps} steps");
    Console.WriteLine($"seed 1: reward {episodes[0].Reward:0.0} in this process, {runner.Result.Reward:0.0} by the service");
    Console.WriteLine($"mean reward of the policy in {episodes.Length} episodes: {mean:0.0}");
    Console.WriteLine($"mean reward of random actions in them: {random.Average(episode => episode.Reward):0.0}");
    foreach (var metric in episodes[0].Metrics.Keys)
        Console.WriteLine($"mean of {metric}: {episodes.Average(episode => episode.Metrics[metric]):0.##}, of random actions {random.Average(episode => episode.Metrics[metric]):0.##}");
    if (mean >= Learned)
        return 0;
    Console.WriteLine($"not learned: the mean is less than {Learned} (Learned in Program.cs)");
    return 1;
}

// What is observed, as one line that is written again and again.
void Draw(EnvironmentRunner runner)
{
    var observation = new float[runner.Observation.Count];
    runner.Observation.CopyTo(observation);
    var numbers = string.Concat(observation.Take(8).Select(number => $"{number,8:0.00}"));
    Console.Write($"\rstep {runner.Steps,4}  reward {runner.Result.Reward,7:0.0}  observation {numbers}{(runner.Ended ? "\n" : "")}");
}

int Fail(string message)
{
    Console.Error.WriteLine(message);
    return 2;
}
