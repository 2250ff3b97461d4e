using System.Net;
using System.Threading.Channels;
using AISandbox.V1;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace AISandbox.Simulation.Tests;

/// <summary>Kestrel with a SimulatorPoolService that hands each stream to the test.</summary>
internal sealed class PoolServiceDouble : SimulatorPoolService.SimulatorPoolServiceBase, IAsyncDisposable
{
    public static readonly TimeSpan Long = TimeSpan.FromSeconds(60);

    private readonly Channel<PlaceDouble> attached = Channel.CreateUnbounded<PlaceDouble>();
    private WebApplication? app;

    public int Port { get; private set; }

    public string Address => $"http://127.0.0.1:{Port}";

    /// <summary>What the next registrations are refused with; null: nothing.</summary>
    public Status? Refusal { get; set; }

    public static async Task<PoolServiceDouble> StartAsync(int port = 0)
    {
        var service = new PoolServiceDouble();
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
            kestrel.Listen(IPAddress.Loopback, port, listen => listen.Protocols = HttpProtocols.Http2));
        builder.Services.AddRouting();
        builder.Services.AddGrpc(options => options.MaxReceiveMessageSize = null);
        builder.Services.AddSingleton(service);
        builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = TimeSpan.FromMilliseconds(100));
        service.app = builder.Build();
        service.app.UseRouting();
        service.app.MapGrpcService<PoolServiceDouble>();
        await service.app.StartAsync();
        service.Port = new Uri(service.app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single()).Port;
        return service;
    }

    /// <summary>The next place that registers; it was answered.</summary>
    public async Task<PlaceDouble> NextAsync() => await attached.Reader.ReadAsync().AsTask().WaitAsync(Long);

    public override async Task Attach(
        IAsyncStreamReader<AttachRequest> requestStream, IServerStreamWriter<AttachResponse> responseStream, ServerCallContext context)
    {
        Assert(await requestStream.MoveNext(), "a message comes first");
        if (Refusal is { } refusal)
            throw new RpcException(refusal);
        await responseStream.WriteAsync(new AttachResponse { Registered = new SimulatorRegistered { ServiceVersion = "1.2.3" } });
        var place = new PlaceDouble(requestStream.Current.Register, responseStream, context.RequestHeaders);
        attached.Writer.TryWrite(place);
        var reading = place.ReadAsync(requestStream);
        if (await Task.WhenAny(place.Ended.Task, reading) == place.Ended.Task && await place.Ended.Task is { } end)
            throw new RpcException(end);
    }

    public async ValueTask DisposeAsync() => await app!.DisposeAsync();

    private static void Assert(bool condition, string what) => _ = condition ? true : throw new InvalidOperationException(what);
}

/// <summary>The service's side of one stream.</summary>
internal sealed class PlaceDouble(RegisterSimulator register, IServerStreamWriter<AttachResponse> responses, Metadata headers)
{
    private readonly Channel<AttachRequest> received = Channel.CreateUnbounded<AttachRequest>();

    public RegisterSimulator Register { get; } = register;

    public Metadata Headers { get; } = headers;

    /// <summary>Set: ends the stream with this status.</summary>
    public TaskCompletionSource<Status?> Ended { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public Task SendAsync(SimulatorRequest request) => responses.WriteAsync(new AttachResponse { Request = request }).WaitAsync(PoolServiceDouble.Long);

    public Task EndSessionAsync() => responses.WriteAsync(new AttachResponse { SessionEnded = new SessionEnded() }).WaitAsync(PoolServiceDouble.Long);

    /// <summary>The next message of the simulator; null: it has half-closed.</summary>
    public async Task<AttachRequest?> ReceiveAsync()
    {
        using var limit = new CancellationTokenSource(PoolServiceDouble.Long);
        return await received.Reader.WaitToReadAsync(limit.Token) ? await received.Reader.ReadAsync(limit.Token) : null;
    }

    /// <summary>Reads until the simulator half-closes, or is gone.</summary>
    public async Task ReadAsync(IAsyncStreamReader<AttachRequest> requests)
    {
        Exception? lost = null;
        try
        {
            while (await requests.MoveNext())
                received.Writer.TryWrite(requests.Current);
        }
        catch (Exception error) when (error is IOException or InvalidOperationException or OperationCanceledException)
        {
            lost = error;
        }
        received.Writer.TryComplete(lost);
    }

    public async Task<SimulatorReply> ExchangeAsync(SimulatorRequest request)
    {
        await SendAsync(request);
        var message = await ReceiveAsync();
        return message?.Reply ?? throw new InvalidOperationException($"a reply, not {message}");
    }

    public async Task OpenAsync()
    {
        await ExchangeAsync(Requests.Open(Register.Environments));
        await ExchangeAsync(Requests.Reset());
    }
}
