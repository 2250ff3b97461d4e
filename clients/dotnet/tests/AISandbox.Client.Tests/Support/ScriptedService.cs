using System;
using System.Linq;
using System.Net;
using System.Threading.Tasks;
using AISandbox.V1;
using Google.Protobuf.WellKnownTypes;
using Google.Rpc;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Logging;

namespace AISandbox.Client.Tests.Support;

/// <summary>A service in this process that answers as a test says.</summary>
internal sealed class ScriptedService : PolicyTrainerService.PolicyTrainerServiceBase
{
    public Func<TrainingRequest, TrainingResponse> OnStart { get; set; } = _ => new TrainingResponse { RunId = "run" };

    public Func<StatusRequest, StatusResponse> OnStatus { get; set; } = request => Running(request.RunId, 0);

    public Func<ListTrainingRunsRequest, ListTrainingRunsResponse> OnList { get; set; } = _ => new ListTrainingRunsResponse();

    public Func<IServerStreamWriter<StatusResponse>, ServerCallContext, Task> OnWatch { get; set; } = (_, _) => Task.CompletedTask;

    public Func<ActRequest, ServerCallContext, Task<ActResponse>> OnAct { get; set; } = (request, _) => Task.FromResult(Echo(request));

    public Func<IAsyncStreamReader<ActStreamRequest>, IServerStreamWriter<ActStreamResponse>, ServerCallContext, Task> OnStream { get; set; } = EchoAsync;

    public static StatusResponse Running(string run, long steps) => new() { RunId = run, Phase = Phase.Running, TimestepsDone = steps };

    public static StatusResponse Done(string run, Phase phase = Phase.Succeeded) => new() { RunId = run, Phase = phase, IsDone = true };

    public static ActResponse Echo(ActRequest request) => new() { Action = { request.Observation }, Model = "sha256:1" };

    public static async Task EchoAsync(IAsyncStreamReader<ActStreamRequest> requests, IServerStreamWriter<ActStreamResponse> replies, ServerCallContext context)
    {
        await foreach (var request in requests.ReadAllAsync(context.CancellationToken))
        {
            await replies.WriteAsync(new ActStreamResponse { Response = Echo(request.Request) });
        }
    }

    public static RpcException Error(StatusCode code, string message, params IMessage[] details) =>
        new Google.Rpc.Status { Code = (int)code, Message = message, Details = { details.Select(each => Any.Pack(each.Message)) } }.ToRpcException();

    /// <summary>A detail of an error.</summary>
    public readonly record struct IMessage(Google.Protobuf.IMessage Message)
    {
        public static implicit operator IMessage(BadRequest detail) => new(detail);

        public static implicit operator IMessage(PreconditionFailure detail) => new(detail);
    }

    public override Task<TrainingResponse> StartTrainingPPO(TrainingRequest request, ServerCallContext context) => Task.FromResult(OnStart(request));

    public override Task<StatusResponse> GetTrainingStatus(StatusRequest request, ServerCallContext context) => Task.FromResult(OnStatus(request));

    public override Task<ListTrainingRunsResponse> ListTrainingRuns(ListTrainingRunsRequest request, ServerCallContext context) =>
        Task.FromResult(OnList(request));

    public override Task WatchTraining(WatchTrainingRequest request, IServerStreamWriter<StatusResponse> responseStream, ServerCallContext context) =>
        OnWatch(responseStream, context);

    public override Task<ActResponse> Act(ActRequest request, ServerCallContext context) => OnAct(request, context);

    public override Task ActStream(
        IAsyncStreamReader<ActStreamRequest> requestStream, IServerStreamWriter<ActStreamResponse> responseStream, ServerCallContext context) =>
        OnStream(requestStream, responseStream, context);
}

/// <summary>Kestrel on a free port of loopback, in front of a <see cref="ScriptedService"/>.</summary>
internal sealed class ScriptedServer : IAsyncDisposable
{
    private readonly WebApplication _app;

    private readonly bool _hasTls;

    private ScriptedServer(WebApplication app, int port, bool hasTls) => (_app, Port, _hasTls) = (app, port, hasTls);

    public int Port { get; }

    public string Address => $"{(_hasTls ? "https" : "http")}://127.0.0.1:{Port}";

    public static async Task<ScriptedServer> StartAsync(
        ScriptedService service, int port = 0, string host = "127.0.0.1", bool isHealthy = true, HttpsConnectionAdapterOptions? https = null)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().UseKestrelHttpsConfiguration().ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Parse(host), port, listen =>
        {
            listen.Protocols = HttpProtocols.Http2;
            if (https is not null)
            {
                listen.UseHttps(https);
            }
        }));
        builder.Services.AddRouting();
        builder.Services.AddGrpc();
        builder.Services.AddSingleton(service);
        builder.Services.AddGrpcHealthChecks().AddCheck("test", () => isHealthy ? HealthCheckResult.Healthy() : HealthCheckResult.Unhealthy());
        builder.Services.Configure<Microsoft.Extensions.Hosting.HostOptions>(options => options.ShutdownTimeout = TimeSpan.FromMilliseconds(100));
        var app = builder.Build();
        app.UseRouting();
        app.MapGrpcService<ScriptedService>();
        app.MapGrpcHealthChecksService();
        await app.StartAsync();
        var address = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single();
        return new ScriptedServer(app, new Uri(address).Port, https is not null);
    }

    /// <summary>A client with short waits, so that a test of trouble is quick; its deadline is not.</summary>
    public AISandboxClient Connect(Action<AISandboxClientOptions>? configure = null, ILoggerFactory? loggers = null) => Connect(Address, configure, loggers);

    public static AISandboxClient Connect(string address, Action<AISandboxClientOptions>? configure = null, ILoggerFactory? loggers = null)
    {
        var options = new AISandboxClientOptions
        {
            Address = address,
            Timeout = TimeSpan.FromSeconds(60),
            InitialBackoff = TimeSpan.FromMilliseconds(5),
            MaxBackoff = TimeSpan.FromMilliseconds(50),
        };
        configure?.Invoke(options);
        return new AISandboxClient(options, loggers);
    }

    public async ValueTask DisposeAsync() => await _app.DisposeAsync();
}
