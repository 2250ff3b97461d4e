// A rover that collects samples: the simulator, the client that trains a policy for it, and the user of that policy.
//
//   dotnet run -- check                  tests the environment; needs no service
//   dotnet run -- play                   you drive, with the arrow keys; `play script` lets a script drive
//   dotnet run -- train [400000]         serves it, trains a policy for so many steps, and compares it with chance and with the script
//   dotnet run -- play RUN               the best policy of a run drives
//   dotnet run -- serve [--port 50061]   serves it, for runs that others start: kubernetes.yaml has one
//
// AISANDBOX_ADDRESS is the service's address, by default 127.0.0.1:50051, where `aisandbox up` starts one.
using AISandbox;
using AISandbox.Client;
using AISandbox.Simulation;
using AISandbox.Simulation.AspNetCore;

const int Episodes = 20;
var service = Environment.GetEnvironmentVariable("AISANDBOX_ADDRESS") ?? "127.0.0.1:50051";
try
{
    return args switch
    {
        ["check"] => Check(),
        ["serve", .. var options] => await SimulatorHost.RunAsync<Rover>(options),
        ["train"] => await Train(400_000),
        ["train", var steps] when int.TryParse(steps, out var timesteps) => await Train(timesteps),
        ["play"] when Console.IsInputRedirected => Fail("to drive by hand needs a terminal; `play script` does not"),
        ["play"] => await Play(Drivers.Keyboard()),
        ["play", "script"] => await Play(Drivers.Script),
        ["play", var run] => await PlayWithPolicy(run),
        _ => Fail("usage: dotnet run -- check | play [script | RUN] | train [TIMESTEPS] | serve [--port PORT]"),
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
    var results = EnvironmentChecks.Run(() => new Rover());
    foreach (var result in results)
        Console.WriteLine($"{(result.Ok ? "ok    " : "BROKEN")} {result.Name}: {result.Message}");
    return results.All(result => result.Ok) ? 0 : 1;
}

async Task<int> Train(int timesteps)
{
    var chance = Mean("chance", Agents.Random());
    Mean("the script", Drivers.Script);

    await using var simulator = await SimulatorHost.StartAsync<Rover>(options => options.Port = 0);
    using var client = new AISandboxClient(service);
    Console.WriteLine($"starting a training at {service}");
    var run = await client.StartAsync(new Training
    {
        Experiment = "rover",
        TotalTimesteps = timesteps,
        Seed = 1,
        Environment = TrainingEnvironment.Simulator(simulator.Address),
        Evaluation = new EvaluationPlan { Episodes = 10 },
        Hyperparameters = new PpoHyperparameters
        {
            NEnvs = 32,
            NSteps = 128,
            BatchSize = 512,
            NEpochs = 10,
            Gamma = 0.98,
            LearningRate = Schedule.Linear(0.001),
            EntCoef = 0.001,
        },
    }, simulator.Stopping);
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

    await using var policy = await Policy.FollowAsync(client, run.Name, "best");
    return Mean("the policy", Driver(policy)) > chance + 5 ? 0 : 1;
}

async Task<int> PlayWithPolicy(string run)
{
    using var client = new AISandboxClient(service);
    await using var policy = await Policy.FollowAsync(client, run, "best");
    return await Play(Driver(policy));
}

// An episode at its own pace, drawn; without a terminal the last picture alone.
async Task<int> Play(IAgent driver)
{
    var rover = new Rover();
    using var runner = new EnvironmentRunner(rover);
    var screen = new Screen(rover);
    await runner.PlayAsync(driver, Console.IsOutputRedirected
        ? new PlayOptions { Speed = double.PositiveInfinity }
        : new PlayOptions { OnStep = screen.Draw });
    if (Console.IsOutputRedirected)
        Console.Write(screen.Text(runner));
    return 0;
}

// A policy in this process drives.
static IAgent Driver(Policy policy)
{
    var (observation, action) = (new float[policy.FrameSize], new float[policy.ActionSize]);
    return Agents.From(context =>
    {
        context.Observation.CopyTo(observation); // motion, sample, lidar: the entries in their order
        policy.Act(observation, action);
        context.Action.Write(action);
    });
}

// The mean return of episodes that are the same for every driver.
static double Mean(string name, IAgent driver)
{
    using var runner = new EnvironmentRunner(new Rover());
    var results = Enumerable.Range(1, Episodes).Select(seed => runner.Play(driver, (ulong)seed)).ToArray();
    double Of(string metric) => results.Average(result => result.Metrics[metric]);
    var mean = results.Average(result => result.Reward);
    Console.WriteLine($"{name,-10}  reward {mean,5:0.0}   collected {Of("collected"),4:0.0}   bumps {Of("bumps"),5:0.0}   {Of("metres"),4:0} m   (mean of {Episodes} episodes)");
    return mean;
}

int Fail(string message)
{
    Console.Error.WriteLine(message);
    return 2;
}
