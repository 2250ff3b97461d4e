using System.Threading;
using System.Threading.Tasks;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;

namespace AISandbox.Simulation;

/// <summary>Keeps the simulator of a host attached.</summary>
internal sealed class SimulatorAttachmentService : BackgroundService
{
    private readonly Simulator simulator;
    private readonly IOptions<SimulatorAttachmentOptions> options;

    public SimulatorAttachmentService(Simulator simulator, IOptions<SimulatorAttachmentOptions> options) =>
        (this.simulator, this.options) = (simulator, options);

    protected override Task ExecuteAsync(CancellationToken stoppingToken) => simulator.AttachAsync(options.Value, stoppingToken);
}

/// <summary>Healthy while all places are attached.</summary>
internal sealed class SimulatorAttachmentHealthCheck : IHealthCheck
{
    private readonly Simulator simulator;
    private readonly IOptions<SimulatorAttachmentOptions> options;

    public SimulatorAttachmentHealthCheck(Simulator simulator, IOptions<SimulatorAttachmentOptions> options) =>
        (this.simulator, this.options) = (simulator, options);

    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default)
    {
        var (attached, places) = (simulator.AttachedPlaces, options.Value.Places);
        return Task.FromResult(attached >= places
            ? HealthCheckResult.Healthy()
            : new HealthCheckResult(
                context.Registration.FailureStatus,
                $"{attached} of {places} places are attached to pool {options.Value.Pool} of {options.Value.Address}: {simulator.AttachmentTrouble ?? "not yet"}"));
    }
}
