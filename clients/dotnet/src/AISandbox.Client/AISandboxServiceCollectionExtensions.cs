using System;
using System.Collections.Generic;
using AISandbox.Client;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Registers a client of the AISandbox RL Training Service.</summary>
public static class AISandboxServiceCollectionExtensions
{
    /// <summary>
    /// Adds one <see cref="AISandboxClient"/> for the process. Its options are checked when the host starts, and may also come
    /// from <c>services.Configure&lt;AISandboxClientOptions&gt;(configuration.GetSection("AISandbox"))</c>.
    /// </summary>
    /// <param name="services">The services of the application.</param>
    /// <param name="configure">Sets options; null: the defaults, or what is configured elsewhere.</param>
    public static IServiceCollection AddAISandbox(this IServiceCollection services, Action<AISandboxClientOptions>? configure = null)
    {
        var options = services.AddOptions<AISandboxClientOptions>().ValidateOnStart();
        if (configure is not null)
        {
            options.Configure(configure);
        }

        services.TryAddEnumerable(ServiceDescriptor.Singleton<IValidateOptions<AISandboxClientOptions>, AISandboxClientOptionsValidator>());
        services.TryAddSingleton(provider => new AISandboxClient(
            provider.GetRequiredService<IOptions<AISandboxClientOptions>>().Value,
            provider.GetService<ILoggerFactory>(),
            provider.GetService<TimeProvider>()));
        return services;
    }

    /// <summary>Adds a check that the service says that it is serving.</summary>
    /// <param name="builder">The health checks of the application, to which <see cref="AddAISandbox(IServiceCollection, Action{AISandboxClientOptions}?)"/> was added.</param>
    /// <param name="name">The name of the check.</param>
    /// <param name="failureStatus">What it reports otherwise; null: unhealthy.</param>
    /// <param name="tags">For choosing checks.</param>
    public static IHealthChecksBuilder AddAISandbox(
        this IHealthChecksBuilder builder, string name = "aisandbox", HealthStatus? failureStatus = null, IEnumerable<string>? tags = null) =>
        builder.Add(new HealthCheckRegistration(
            name, provider => new AISandboxHealthCheck(provider.GetRequiredService<AISandboxClient>()), failureStatus, tags));
}
