using System;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net;
using System.Threading;
using System.Threading.Tasks;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace AISandbox.Simulation.AspNetCore;

/// <summary>Where a simulator listens.</summary>
public sealed class SimulatorHostOptions
{
    /// <summary>The address: 127.0.0.1 for this machine only, 0.0.0.0 or :: for all. A trainer brings no password.</summary>
    public string Host { get; set; } = "127.0.0.1";

    /// <summary>The port; 0: a free one.</summary>
    public int Port { get; set; } = 50061;

    /// <summary>How the environments are served.</summary>
    public SimulatorOptions Simulator { get; } = new();
}

/// <summary>Serves an environment without an application of your own: a whole program with <c>RunAsync</c>, or a part of one with <c>StartAsync</c>.</summary>
public sealed class SimulatorHost : IAsyncDisposable
{
    private const string Usage = "arguments: --host 127.0.0.1 --port 50061 --capacity 0 (0: no limit)";
    private readonly WebApplication app;

    private SimulatorHost(WebApplication app, string host)
    {
        this.app = app;
        var addresses = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses;
        Port = new Uri(addresses.First().Replace("[::]", "localhost", StringComparison.Ordinal)).Port;
        var name = host is "0.0.0.0" or "::" ? Dns.GetHostName() : host;
        Stopping = app.Lifetime.ApplicationStopping;
        Address = (name.Contains(':', StringComparison.Ordinal) ? $"[{name}]" : name) + ":" + Port.ToString(CultureInfo.InvariantCulture);
    }

    /// <summary>The port.</summary>
    public int Port { get; }

    /// <summary>The address that a run names, <c>host:port</c>.</summary>
    public string Address { get; }

    /// <summary>Cancelled when the program is told to stop (SIGTERM, Ctrl+C), or the host is disposed of.</summary>
    public CancellationToken Stopping { get; }

    /// <summary>The simulator.</summary>
    public Simulator Simulator => app.Services.GetRequiredService<SimulatorRegistration>().Simulator!;

    /// <summary>
    /// Serves environments of this class until the program is told to stop (SIGTERM, Ctrl+C), which ends the sessions at once.
    /// Arguments: <c>--host</c>, <c>--port</c>, <c>--capacity</c>. Returns the status to exit with.
    /// </summary>
    public static Task<int> RunAsync<TEnvironment>(
        string[] args, Action<SimulatorHostOptions>? configure = null, CancellationToken cancellationToken = default)
        where TEnvironment : IEnvironment, new() => RunAsync(() => new TEnvironment(), args, configure, cancellationToken);

    /// <summary>The same with environments that <paramref name="create"/> makes.</summary>
    public static Task<int> RunAsync(
        Func<IEnvironment> create, string[] args, Action<SimulatorHostOptions>? configure = null, CancellationToken cancellationToken = default) =>
        RunAsync((app, use) => app.MapSimulation(create, use), args, configure, cancellationToken);

    /// <summary>The same with environments that are made with the options of their session, which <paramref name="spec"/> declares.</summary>
    public static Task<int> RunAsync(
        EnvironmentSpec spec, Func<SimulationOptions, IEnvironment> create, string[] args, Action<SimulatorHostOptions>? configure = null,
        CancellationToken cancellationToken = default) =>
        RunAsync((app, use) => app.MapSimulation(spec, create, use), args, configure, cancellationToken);

    /// <summary>Serves environments of this class until the host is disposed of. Throws <see cref="IOException"/> if the port is in use.</summary>
    public static Task<SimulatorHost> StartAsync<TEnvironment>(
        Action<SimulatorHostOptions>? configure = null, CancellationToken cancellationToken = default)
        where TEnvironment : IEnvironment, new() => StartAsync(() => new TEnvironment(), configure, cancellationToken);

    /// <summary>The same with environments that <paramref name="create"/> makes.</summary>
    public static Task<SimulatorHost> StartAsync(
        Func<IEnvironment> create, Action<SimulatorHostOptions>? configure = null, CancellationToken cancellationToken = default)
    {
        var options = new SimulatorHostOptions();
        configure?.Invoke(options);
        return StartAsync((app, use) => app.MapSimulation(create, use), options, cancellationToken);
    }

    /// <summary>Waits until the program is told to stop.</summary>
    public Task WaitForShutdownAsync(CancellationToken cancellationToken = default) => app.WaitForShutdownAsync(cancellationToken);

    /// <summary>Ends the sessions and the server.</summary>
    public async ValueTask DisposeAsync()
    {
        await app.StopAsync().ConfigureAwait(false);
        await app.DisposeAsync().ConfigureAwait(false);
    }

    private static async Task<int> RunAsync(
        Action<WebApplication, Action<SimulatorOptions>> map, string[] args, Action<SimulatorHostOptions>? configure,
        CancellationToken cancellationToken)
    {
        var options = new SimulatorHostOptions();
        configure?.Invoke(options);
        if (Read(args, options) is { } problem)
        {
            await Console.Error.WriteLineAsync(problem).ConfigureAwait(false);
            return 2;
        }
        try
        {
            var host = await StartAsync(map, options, cancellationToken).ConfigureAwait(false);
            await using (host.ConfigureAwait(false))
                await host.WaitForShutdownAsync(cancellationToken).ConfigureAwait(false);
            return 0;
        }
        catch (Exception error) when (error is IOException or SimulationException)
        {
            await Console.Error.WriteLineAsync(error.Message).ConfigureAwait(false);
            return 1;
        }
    }

    private static async Task<SimulatorHost> StartAsync(
        Action<WebApplication, Action<SimulatorOptions>> map, SimulatorHostOptions options, CancellationToken cancellationToken)
    {
        // No settings from the surroundings: an image's ASPNETCORE_HTTP_PORTS is for web pages.
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore();
        builder.Services.AddRoutingCore();
        builder.Logging.AddSimpleConsole(console => console.SingleLine = true)
            .AddFilter("Microsoft.AspNetCore", LogLevel.Warning).AddFilter("Grpc", LogLevel.Warning)
            .AddFilter("Microsoft.Hosting.Lifetime", LogLevel.Warning);
        builder.AddSimulator();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(AddressOf(options.Host), options.Port));
        var app = builder.Build();
        try
        {
            map(app, simulator =>
            {
                simulator.Capacity = options.Simulator.Capacity;
                simulator.FailedEpisodes = options.Simulator.FailedEpisodes;
                simulator.LongRequest = options.Simulator.LongRequest;
                simulator.ReplyTimeout = options.Simulator.ReplyTimeout;
            });
            await app.StartAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (IOException error)
        {
            await app.DisposeAsync().ConfigureAwait(false);
            throw new IOException($"cannot listen on {options.Host} port {options.Port}: {error.Message} Another port: --port 50062", error);
        }
        catch
        {
            await app.DisposeAsync().ConfigureAwait(false);
            throw;
        }
        var host = new SimulatorHost(app, options.Host);
        app.Logger.LogInformation("{Name} listens on {Address}", host.Simulator.Spec.Name, host.Address);
        return host;
    }

    private static IPAddress AddressOf(string host) =>
        host == "localhost" ? IPAddress.Loopback
        : IPAddress.TryParse(host, out var address) ? address
        : throw new IOException($"--host: {host} is no address of this machine; use 127.0.0.1, or 0.0.0.0 for all");

    private static string? Read(string[] args, SimulatorHostOptions options)
    {
        for (var i = 0; i < args.Length; i += 2)
        {
            var name = args[i];
            if (name is not ("--host" or "--port" or "--capacity"))
                return name == "--help" ? Usage : $"{name} is unknown; {Usage}";
            if (i + 1 == args.Length)
                return $"{name} needs a value; {Usage}";
            var value = args[i + 1];
            if (name == "--host")
                options.Host = value;
            else if (!int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var number) || (name == "--port" && number > 65535))
                return $"{name}: {value} is no {(name == "--port" ? "port" : "number of environments")}; {Usage}";
            else if (name == "--port")
                options.Port = number;
            else
                options.Simulator.Capacity = number;
        }
        return null;
    }
}
