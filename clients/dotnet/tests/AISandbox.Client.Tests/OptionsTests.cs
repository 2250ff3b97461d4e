using System;
using System.Threading.Tasks;
using AISandbox.Client.Tests.Support;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;
using Xunit;

namespace AISandbox.Client.Tests;

public class OptionsTests
{
    [Theory]
    [InlineData("http://127.0.0.1:50051")]
    [InlineData("https://trainer.example.com")]
    [InlineData("localhost:50051")]
    [InlineData("dns:///aisandbox-inference-pods.aisandbox.svc:50051")]
    public void Address_may_be_written_so(string address)
    {
        using var client = new AISandboxClient(address);
        Assert.NotNull(client.Contract);
    }

    [Theory]
    [InlineData("")]
    [InlineData("ftp://127.0.0.1:21")]
    [InlineData("unix:///run/aisandbox.sock")]
    [InlineData("http://user@host:50051")]
    [InlineData("http://host:50051/path")]
    [InlineData("host:port")]
    [InlineData("dns:///")]
    public void Wrong_address_is_refused_by_name(string address)
    {
        var error = Assert.Throws<OptionsValidationException>(() => new AISandboxClient(address));
        Assert.Contains("Address", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Wrong_time_is_refused_by_name()
    {
        var error = Assert.Throws<OptionsValidationException>(
            () => new AISandboxClient(new AISandboxClientOptions { Timeout = TimeSpan.Zero, InferenceAddress = "x y", KeepAliveInterval = TimeSpan.FromSeconds(-5) }));
        Assert.Contains("Timeout: must be greater than zero", error.Message, StringComparison.Ordinal);
        Assert.Contains("InferenceAddress: must be", error.Message, StringComparison.Ordinal);
        Assert.Contains("KeepAliveInterval: must be", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Host_with_wrong_options_does_not_start()
    {
        var builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddAISandbox(options => options.Address = "nonsense://");
        using var host = builder.Build();
        var error = await Assert.ThrowsAsync<OptionsValidationException>(() => host.StartAsync(TestContext.Current.CancellationToken));
        Assert.Contains("Address: must be http://HOST:PORT", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Client_of_a_host_calls_the_configured_service()
    {
        await using var server = await ScriptedServer.StartAsync(new ScriptedService());
        await using var provider = new ServiceCollection().AddAISandbox(options => options.Address = server.Address).BuildServiceProvider();
        var client = provider.GetRequiredService<AISandboxClient>();
        Assert.Same(client, provider.GetRequiredService<AISandboxClient>());
        Assert.Equal("run", (await client.GetRun("run").GetStatusAsync(TestContext.Current.CancellationToken)).Run);
    }

    [Theory]
    [InlineData(true, HealthStatus.Healthy)]
    [InlineData(false, HealthStatus.Unhealthy)]
    public async Task Health_check_says_what_the_service_says(bool isHealthy, HealthStatus expected)
    {
        await using var server = await ScriptedServer.StartAsync(new ScriptedService(), isHealthy: isHealthy);
        Assert.Equal(expected, await CheckAsync(server.Address));
    }

    [Fact]
    public async Task Health_check_of_an_absent_service_is_unhealthy() => Assert.Equal(HealthStatus.Unhealthy, await CheckAsync("http://127.0.0.1:1"));

    private static async Task<HealthStatus> CheckAsync(string address)
    {
        var services = new ServiceCollection().AddLogging().AddAISandbox(options => options.Address = address);
        services.AddHealthChecks().AddAISandbox();
        await using var provider = services.BuildServiceProvider();
        var report = await provider.GetRequiredService<HealthCheckService>().CheckHealthAsync(TestContext.Current.CancellationToken);
        return report.Entries["aisandbox"].Status;
    }
}
