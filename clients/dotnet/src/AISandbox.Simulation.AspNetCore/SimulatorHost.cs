using System;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Tasks;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

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

    /// <summary>
    /// The pool that the program joins instead of listening, if <see cref="SimulatorAttachmentOptions.Pool"/> is set. Only for <c>RunAsync</c>; another
    /// part of a program calls <see cref="Simulator.AttachAsync(SimulatorAttachmentOptions, CancellationToken)"/>.
    /// </summary>
    public SimulatorAttachmentOptions Attachment { get; } = new();
}

/// <summary>Serves an environment without an application of your own: a whole program with <c>RunAsync</c>, or a part of one with <c>StartAsync</c>.</summary>
public sealed class SimulatorHost : IAsyncDisposable
{
    private const string Usage =
        "arguments: --host 127.0.0.1 --port 50061 --capacity 0 (0: no limit), "
        + "or --attach ADDRESS --pool NAME [--instance NAME] [--environments 1] [--places 1] to dial the service instead of listening";
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

    /// <summary>Cancelled at SIGTERM or Ctrl+C, or when the host is disposed of.</summary>
    public CancellationToken Stopping { get; }

    /// <summary>The simulator.</summary>
    public Simulator Simulator => app.Services.GetRequiredService<SimulatorRegistration>().Simulator!;

    /// <summary>
    /// Serves environments of this class until the program is told to stop (SIGTERM, Ctrl+C), which ends the sessions at once.
    /// Arguments: <c>--host</c>, <c>--port</c>, <c>--capacity</c>; or <c>--attach ADDRESS --pool NAME</c>, with <c>--instance</c>,
    /// <c>--environments</c> and <c>--places</c>, to join a pool of the service by dialling it. Returns the status to exit with.
    /// </summary>
    public static Task<int> RunAsync<TEnvironment>(
        string[] args, Action<SimulatorHostOptions>? configure = null, CancellationToken cancellationToken = default)
        where TEnvironment : IEnvironment, new() => RunAsync(() => new TEnvironment(), args, configure, cancellationToken);

    /// <summary>The same with environments that <paramref name="create"/> makes.</summary>
    public static Task<int> RunAsync(
        Func<IEnvironment> create, string[] args, Action<SimulatorHostOptions>? configure = null, CancellationToken cancellationToken = default) =>
        RunAsync(
            (app, use) => app.MapSimulation(create, use), (options, logger) => new Simulator(create, options, logger), args, configure, cancellationToken);

    /// <summary>The same with environments that are made with the options of their session, which <paramref name="spec"/> declares.</summary>
    public static Task<int> RunAsync(
        EnvironmentSpec spec, Func<SimulationOptions, IEnvironment> create, string[] args, Action<SimulatorHostOptions>? configure = null,
        CancellationToken cancellationToken = default) =>
        RunAsync(
            (app, use) => app.MapSimulation(spec, create, use), (options, logger) => new Simulator(spec, create, options, logger), args, configure,
            cancellationToken);

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
        Action<WebApplication, Action<SimulatorOptions>> map, Func<SimulatorOptions, ILogger, Simulator> create, string[] args,
        Action<SimulatorHostOptions>? configure, CancellationToken cancellationToken)
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
            if (options.Attachment.Pool.Length > 0)
            {
                await AttachAsync(create, options, cancellationToken).ConfigureAwait(false);
                return 0;
            }
            var host = await StartAsync(map, options, cancellationToken).ConfigureAwait(false);
            await using (host.ConfigureAwait(false))
                await host.WaitForShutdownAsync(cancellationToken).ConfigureAwait(false);
            return 0;
        }
        catch (Exception error) when (error is IOException or SimulationException or ArgumentException or OptionsValidationException)
        {
            await Console.Error.WriteLineAsync(error.Message).ConfigureAwait(false);
            return 1;
        }
    }

    /// <summary>Attaches until SIGTERM or Ctrl+C.</summary>
    private static async Task AttachAsync(
        Func<SimulatorOptions, ILogger, Simulator> create, SimulatorHostOptions options, CancellationToken cancellationToken)
    {
        using var loggers = LoggerFactory.Create(logging => logging.AddSimpleConsole(console => console.SingleLine = true));
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        void Stop(PosixSignalContext context)
        {
            context.Cancel = true; // not the end of the process: goodbye is said first
            stop.Cancel();
        }
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        try
        {
            await create(options.Simulator, loggers.CreateLogger<Simulator>()).AttachAsync(options.Attachment, stop.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            // What was asked for.
        }
    }

    private static async Task<SimulatorHost> StartAsync(
        Action<WebApplication, Action<SimulatorOptions>> map, SimulatorHostOptions options, CancellationToken cancellationToken)
    {
        // No settings from environment variables: an image's ASPNETCORE_HTTP_PORTS is for web pages.
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
                simulator.FailedEpisodesDirectory = options.Simulator.FailedEpisodesDirectory;
                simulator.LongRequestThreshold = options.Simulator.LongRequestThreshold;
                simulator.ReplyTimeout = options.Simulator.ReplyTimeout;
                simulator.UsePump = options.Simulator.UsePump;
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
        : throw new IOException($"--host: {host} is not an address of this machine; use 127.0.0.1, or 0.0.0.0 for all");

    private static string? Read(string[] args, SimulatorHostOptions options)
    {
        var attachment = options.Attachment;
        var attaches = false;
        for (var i = 0; i < args.Length; i += 2)
        {
            var name = args[i];
            if (name == "--help")
                return Usage;
            if (name is not ("--host" or "--port" or "--capacity" or "--attach" or "--pool" or "--instance" or "--environments" or "--places"))
                return $"{name} is unknown; {Usage}";
            if (i + 1 == args.Length)
                return $"{name} needs a value; {Usage}";
            var value = args[i + 1];
            switch (name)
            {
                case "--host":
                    options.Host = value;
                    continue;
                case "--attach":
                    (attachment.Address, attaches) = (value, true);
                    continue;
                case "--pool":
                    attachment.Pool = value;
                    continue;
                case "--instance":
                    attachment.Instance = value;
                    continue;
            }
            if (!int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var number) || (name == "--port" && number > 65535))
                return $"{name}: {value} is not a {(name == "--port" ? "port" : name == "--places" ? "number of places" : "number of environments")}; {Usage}";
            if (name == "--port")
                options.Port = number;
            else if (name == "--capacity")
                options.Simulator.Capacity = number;
            else if (name == "--environments")
                attachment.Environments = number;
            else
                attachment.Places = number;
        }
        return attaches && attachment.Pool.Length == 0 ? $"--attach needs --pool; {Usage}" : null;
    }
}
