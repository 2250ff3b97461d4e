using System;
using AISandbox.Simulation;
using AISandbox.Simulation.AspNetCore;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Microsoft.AspNetCore.Builder;

/// <summary>Serves an environment with an ASP.NET Core application: <c>AddSimulator</c>, then <c>MapSimulation</c>.</summary>
public static class SimulatorApplicationExtensions
{
    private static readonly string Service = AISandbox.V1.EnvironmentService.Descriptor.FullName;

    /// <summary>
    /// Adds what serving needs: gRPC, its health service and reflection. Endpoints that say nothing else speak HTTP/2 without TLS, as
    /// trainers do; a lost trainer is found by pings; a stop of the application takes 5 seconds at most.
    /// </summary>
    public static WebApplicationBuilder AddSimulator(this WebApplicationBuilder builder)
    {
        builder.Services.TryAddSingleton<SimulatorRegistration>();
        // A batch of images has many bytes; a trainer is no stranger.
        builder.Services.AddGrpc().AddServiceOptions<SimulatorService>(options => options.MaxReceiveMessageSize = null);
        builder.Services.AddGrpcReflection();
        builder.Services.AddGrpcHealthChecks(options => options.Services.Map(Service, _ => true))
            .AddCheck("simulator", () => HealthCheckResult.Healthy());
        builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = TimeSpan.FromSeconds(5));
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.ConfigureEndpointDefaults(endpoint => endpoint.Protocols = HttpProtocols.Http2);
            kestrel.Limits.Http2.KeepAlivePingDelay = TimeSpan.FromSeconds(10);
            kestrel.Limits.Http2.KeepAlivePingTimeout = TimeSpan.FromSeconds(20);
        });
        return builder;
    }

    /// <summary>Serves environments of this class. Throws <see cref="InvalidSpecException"/>.</summary>
    public static WebApplication MapSimulation<TEnvironment>(this WebApplication app, Action<SimulatorOptions>? configure = null)
        where TEnvironment : IEnvironment, new() =>
        app.MapSimulation(() => new TEnvironment(), configure);

    /// <summary>Serves the environments that <paramref name="create"/> makes. Throws <see cref="InvalidSpecException"/>.</summary>
    public static WebApplication MapSimulation(this WebApplication app, Func<IEnvironment> create, Action<SimulatorOptions>? configure = null) =>
        app.Map((options, logger) => new Simulator(create, options, logger), configure);

    /// <summary>Serves environments that are made with the options of their session, which <paramref name="spec"/> declares.</summary>
    public static WebApplication MapSimulation(
        this WebApplication app, EnvironmentSpec spec, Func<SimulationOptions, IEnvironment> create, Action<SimulatorOptions>? configure = null) =>
        app.Map((options, logger) => new Simulator(spec, create, options, logger), configure);

    private static WebApplication Map(
        this WebApplication app, Func<SimulatorOptions, ILogger, Simulator> create, Action<SimulatorOptions>? configure)
    {
        var registration = app.Services.GetService<SimulatorRegistration>()
            ?? throw new InvalidOperationException("MapSimulation needs builder.AddSimulator() before builder.Build()");
        if (registration.Simulator is not null)
            throw new InvalidOperationException("MapSimulation was called before: a program serves one simulation");
        var options = new SimulatorOptions();
        configure?.Invoke(options);
        registration.Simulator = create(options, app.Services.GetRequiredService<ILoggerFactory>().CreateLogger<Simulator>());
        app.MapGrpcService<SimulatorService>();
        app.MapGrpcHealthChecksService();
        app.MapGrpcReflectionService();
        return app;
    }
}
