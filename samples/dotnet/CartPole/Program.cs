// A simulator, a training against it, and the trained policy that drives it, in one program.
//
//   dotnet run -- [--address HOST:PORT] [--timesteps 100000]     against the service, which `aisandbox up` starts
//   dotnet run -- serve [--host ...] [--port ...]                the simulator alone
//
// Exits with 1 if the policy did not learn.
using System.Globalization;
using AISandbox;
using AISandbox.Client;
using AISandbox.Simulation;
using AISandbox.Simulation.AspNetCore;

if (args is ["serve", .. var simulatorArguments])
    return await SimulatorHost.RunAsync<CartPole>(simulatorArguments);

var address = Argument("--address") ?? "127.0.0.1:50051";
var timesteps = int.Parse(Argument("--timesteps") ?? "100000", CultureInfo.InvariantCulture);

// 1. The simulator, on a free port of this machine.
await using var simulator = await SimulatorHost.StartAsync<CartPole>(options => options.Port = 0);

// 2. The training: the hyperparameters of RL Zoo for PPO on cart-pole.
using var client = new AISandboxClient($"http://{address}");
var run = await client.StartAsync(new Training
{
    Experiment = "cartpole",
    TotalTimesteps = timesteps,
    Seed = 1,
    Environment = TrainingEnvironment.Simulator(simulator.Address),
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
});
var shown = -1L;
await foreach (var status in run.WatchAsync())
{
    var tenth = 10 * status.TimestepsDone / timesteps;
    if (tenth != shown)
        Console.WriteLine($"{run.Name}: {status.Phase}, {status.TimestepsDone} of {timesteps} steps, reward {status.EpisodeRewardMean:0.0}");
    shown = tenth;
}
await run.WaitAsync(); // a failed run is an exception with its reason

// 3. The policy, in this process.
await using var policy = await Policy.FollowAsync(client.Contract, run.Name, "best");
var action = new float[1];
var agent = Agents.From(context =>
{
    policy.Act(context.Observation.Box, action);
    context.Action.Write(action);
});
using var runner = new EnvironmentRunner(new CartPole());
var mean = Enumerable.Range(1, 20).Average(seed => runner.Play(agent, (ulong)seed).Reward);
Console.WriteLine($"the policy keeps the pole up for {mean:0.0} of 500 steps, the mean of 20 episodes");
return mean >= 475 ? 0 : 1;

string? Argument(string name)
{
    var index = Array.IndexOf(args, name);
    return index >= 0 && index + 1 < args.Length ? args[index + 1] : null;
}
