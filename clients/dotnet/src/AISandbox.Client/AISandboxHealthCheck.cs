using System.Threading;
using System.Threading.Tasks;
using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace AISandbox.Client;

/// <summary>Healthy while the service says that it is serving, by gRPC's health protocol.</summary>
public sealed class AISandboxHealthCheck : IHealthCheck
{
    private readonly AISandboxClient _client;

    /// <summary>A check of the service of <paramref name="client"/>.</summary>
    /// <param name="client">Is not disposed.</param>
    public AISandboxHealthCheck(AISandboxClient client) => _client = client;

    /// <inheritdoc/>
    public async Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default)
    {
        try
        {
            return await _client.IsServingAsync(cancellationToken).ConfigureAwait(false)
                ? HealthCheckResult.Healthy()
                : new HealthCheckResult(context.Registration.FailureStatus, "the service says that it is not serving");
        }
        catch (AISandboxException error)
        {
            return new HealthCheckResult(context.Registration.FailureStatus, error.Message, error);
        }
    }
}
