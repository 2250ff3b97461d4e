using AISandbox.Simulation.AspNetCore;
using SelfTrained;

await using var host = await SimulatorHost.StartAsync<CartPole>(options => options.Host = "0.0.0.0");
using var stop = new CancellationTokenSource();
var shutdown = host.WaitForShutdownAsync();
_ = shutdown.ContinueWith(_ => stop.Cancel(), TaskScheduler.Default);
try
{
    await SelfTraining.RunAsync(stop.Token);
}
catch (OperationCanceledException) when (stop.IsCancellationRequested)
{
    // The pod is stopped.
}

await shutdown;
