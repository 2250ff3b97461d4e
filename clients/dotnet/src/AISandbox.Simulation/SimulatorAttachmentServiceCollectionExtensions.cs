using System;
using System.Collections.Generic;
using System.Linq;
using AISandbox.Simulation;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Attaches a simulator to a pool of the AISandbox RL Training Service for as long as a host runs.</summary>
public static class SimulatorAttachmentServiceCollectionExtensions
{
    /// <summary>
    /// Attaches environments of this class. Options are checked when the host starts, and may also come from
    /// <c>services.Configure&lt;SimulatorAttachmentOptions&gt;(configuration.GetSection("Simulator"))</c>, those of the simulator from
    /// <c>services.Configure&lt;SimulatorOptions&gt;</c>. A refusal stops the host, with its sentence in the log.
    /// </summary>
    /// <param name="services">The services of the application.</param>
    /// <param name="configure">Sets options; null: what is configured elsewhere.</param>
    public static IServiceCollection AddSimulatorAttachment<TEnvironment>(
        this IServiceCollection services, Action<SimulatorAttachmentOptions>? configure = null)
        where TEnvironment : IEnvironment, new() =>
        services.AddSimulatorAttachment(
            provider => new Simulator(
                () => new TEnvironment(), provider.GetRequiredService<IOptions<SimulatorOptions>>().Value,
                provider.GetService<ILoggerFactory>()?.CreateLogger<Simulator>()),
            configure);

    /// <summary>The same with a simulator that <paramref name="create"/> makes; the application may get it as a service, to call its <see cref="Simulator.Pump"/>.</summary>
    /// <param name="services">The services of the application.</param>
    /// <param name="create">Makes the simulator, once.</param>
    /// <param name="configure">Sets options; null: what is configured elsewhere.</param>
    public static IServiceCollection AddSimulatorAttachment(
        this IServiceCollection services, Func<IServiceProvider, Simulator> create, Action<SimulatorAttachmentOptions>? configure = null)
    {
        if (services.Any(service => service.ServiceType == typeof(Simulator)))
            throw new InvalidOperationException("AddSimulatorAttachment was called before: a host attaches one simulator; SimulatorAttachmentOptions.Places are several sessions of it");
        var options = services.AddOptions<SimulatorAttachmentOptions>().ValidateOnStart();
        if (configure is not null)
            options.Configure(configure);
        services.AddOptions<SimulatorOptions>();
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IValidateOptions<SimulatorAttachmentOptions>, SimulatorAttachmentOptionsValidator>());
        services.AddSingleton(create);
        services.AddHostedService<SimulatorAttachmentService>();
        return services;
    }

    /// <summary>Adds a check that all places of the simulator are attached.</summary>
    /// <param name="builder">The health checks of the application, to which a simulator attachment was added.</param>
    /// <param name="name">The name of the check.</param>
    /// <param name="failureStatus">What it reports otherwise; null: unhealthy.</param>
    /// <param name="tags">For choosing checks.</param>
    public static IHealthChecksBuilder AddSimulatorAttachment(
        this IHealthChecksBuilder builder, string name = "simulator-attachment", HealthStatus? failureStatus = null, IEnumerable<string>? tags = null) =>
        builder.Add(new HealthCheckRegistration(
            name,
            provider => new SimulatorAttachmentHealthCheck(
                provider.GetRequiredService<Simulator>(), provider.GetRequiredService<IOptions<SimulatorAttachmentOptions>>()),
            failureStatus,
            tags));
}
