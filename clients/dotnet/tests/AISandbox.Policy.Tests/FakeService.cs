using System;
using System.Collections.Concurrent;
using System.IO;
using System.Linq;
using System.Net;
using System.Threading;
using System.Threading.Tasks;
using AISandbox.V1;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace AISandbox.PolicyTests;

/// <summary>A service with one run whose model can be replaced, damaged or withheld; it can be stopped and started again.</summary>
internal sealed class FakeService : IAsyncDisposable
{
    private readonly State _state = new();
    private WebApplication? _app;
    private int _port;
    private GrpcChannel? _channel;

    /// <summary>What is answered; may be changed at any time.</summary>
    public State Answers => _state;

    /// <summary>A client; of a port where nothing listens before the first start.</summary>
    public PolicyTrainerService.PolicyTrainerServiceClient Client()
    {
        if (_port == 0)
        {
            using var listener = new System.Net.Sockets.TcpListener(IPAddress.Loopback, 0);
            listener.Start();
            _port = ((IPEndPoint)listener.LocalEndpoint).Port;
        }

        _channel ??= GrpcChannel.ForAddress(Address);
        return new PolicyTrainerService.PolicyTrainerServiceClient(_channel);
    }

    /// <summary>Where it listens, once Client was called.</summary>
    public string Address => $"http://127.0.0.1:{_port}";

    public async Task StartAsync()
    {
        Client();
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseKestrelCore().ConfigureKestrel(
            kestrel => kestrel.Listen(IPAddress.Loopback, _port, listen => listen.Protocols = HttpProtocols.Http2));
        builder.Services.AddGrpc();
        builder.Services.AddSingleton(_state);
        builder.Services.Configure<Microsoft.Extensions.Hosting.HostOptions>(options => options.ShutdownTimeout = TimeSpan.Zero);
        _app = builder.Build();
        _app.MapGrpcService<Service>();
        await _app.StartAsync();
    }

    public async Task StopAsync()
    {
        if (_app is { } app)
        {
            _app = null;
            await app.DisposeAsync();
        }
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        _channel?.Dispose();
    }

    internal sealed class State
    {
        public volatile Published? Model;
        public volatile Func<byte[], byte[]>? Damage;
        public volatile StatusResponse Status = new() { Phase = Phase.Running };
        public volatile RpcException? Error;

        /// <summary>What is thrown instead of <see cref="Status"/>.</summary>
        public volatile RpcException? StatusError;

        /// <summary>Is called when the status was asked for.</summary>
        public volatile Action? OnStatus;
        public volatile bool IsSilent;

        /// <summary>The calls that arrived, by name.</summary>
        public ConcurrentQueue<string> Calls { get; } = new();
    }

    private sealed class Service(State state) : PolicyTrainerService.PolicyTrainerServiceBase
    {
        public override Task<StatusResponse> GetTrainingStatus(StatusRequest request, ServerCallContext context)
        {
            state.OnStatus?.Invoke();
            return state.StatusError is { } error ? throw error : Task.FromResult(state.Status);
        }

        public override async Task<DescribeModelResponse> DescribeModel(DescribeModelRequest request, ServerCallContext context) =>
            Describe(await ModelAsync("DescribeModel", context));

        public override async Task GetModel(GetModelRequest request, IServerStreamWriter<GetModelResponse> responses, ServerCallContext context)
        {
            var model = await ModelAsync("GetModel", context);
            var onnx = await File.ReadAllBytesAsync(model.OnnxFile);
            var first = new GetModelResponse { Description = Describe(model), Size = onnx.Length, FileDigest = Digest(onnx) };
            var sent = state.Damage is { } damage ? damage(onnx) : onnx;
            foreach (var part in sent.Chunk(4096))
            {
                first.Part = ByteString.CopyFrom(part);
                await responses.WriteAsync(first);
                first = new GetModelResponse();
            }
        }

        private static string Digest(byte[] data) =>
            "sha256:" + Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(data));

        private static DescribeModelResponse Describe(Published model)
        {
            var description = JsonParser.Default.Parse<DescribeModelResponse>(File.ReadAllText(Path.Combine(model.Folder, "metadata.json")));
            description.Model = "sha256:of-" + model.Name;
            return description;
        }

        private async Task<Published> ModelAsync(string call, ServerCallContext context)
        {
            state.Calls.Enqueue(call);
            if (state.IsSilent)
            {
                await Task.Delay(Timeout.Infinite, context.CancellationToken);
            }

            if (state.Error is { } error)
            {
                throw error;
            }

            return state.Model ?? throw new RpcException(new Status(StatusCode.FailedPrecondition, "run r has published no model 'best' yet"));
        }
    }
}
