using System;
using System.Net.Http;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.Extensions.Logging;
#if NET
using System.Net.Security;
using System.Threading;
using Grpc.Net.Client.Balancer;
using Grpc.Net.Client.Configuration;
using Microsoft.Extensions.DependencyInjection;
#endif

namespace AISandbox.Client;

/// <summary>Opens channels that long streams survive.</summary>
internal static class Channels
{
    public static GrpcChannel Open(string text, AISandboxClientOptions options, ILoggerFactory loggers, TimeProvider time)
    {
        var address = ServiceAddress.Parse(text);
        var channel = new GrpcChannelOptions
        {
            HttpHandler = options.HttpHandler ?? MakeHandler(address, options),
            DisposeHttpClient = options.HttpHandler is null,
            MaxReceiveMessageSize = options.MaxMessageSize,
            MaxSendMessageSize = options.MaxMessageSize,
            LoggerFactory = loggers,
            // This package repeats calls itself: one layer that does, with one deadline.
            MaxRetryAttempts = null,
#if NET
            InitialReconnectBackoff = options.InitialBackoff,
            MaxReconnectBackoff = options.MaxBackoff,
#endif
        };
        var tls = options.UsesTls(address);
        ChannelCredentials credentials = tls ? ChannelCredentials.SecureSsl : ChannelCredentials.Insecure;
        if (AccessTokens.ProviderOf(options) is { } provider)
        {
            credentials = ChannelCredentials.Create(credentials, AccessTokens.CredentialsOf(provider));
            // The options refuse a token without TLS, but for this machine.
            channel.UnsafeUseInsecureChannelCallCredentials = !tls;
        }

        channel.Credentials = credentials;
        if (!address.IsDns)
        {
            return GrpcChannel.ForAddress(address.Uri, channel);
        }

#if NET
        var services = new ServiceCollection();
        services.AddSingleton<ResolverFactory>(new PodResolverFactory(options, time, options.Lookup));
        channel.ServiceProvider = services.BuildServiceProvider();
        channel.ServiceConfig = new ServiceConfig { LoadBalancingConfigs = { new RoundRobinConfig() } };
        return GrpcChannel.ForAddress(address.Uri, channel);
#else
        throw new PlatformNotSupportedException($"{text}: dns:/// needs .NET; use http:// or https:// here");
#endif
    }

#if NET
    private static SocketsHttpHandler MakeHandler(ServiceAddress address, AISandboxClientOptions options) => new()
    {
        ConnectTimeout = TimeSpan.FromSeconds(10),
        EnableMultipleHttp2Connections = true,
        PooledConnectionIdleTimeout = Timeout.InfiniteTimeSpan,
        KeepAlivePingDelay = options.KeepAliveInterval,
        KeepAlivePingTimeout = options.KeepAliveInterval,
        KeepAlivePingPolicy = HttpKeepAlivePingPolicy.WithActiveRequests,
        // A proxy does not pass HTTP/2 without TLS on.
        UseProxy = address.HasTls,
        SslOptions = options.UsesTls(address) ? ServerTrust.OptionsOf(options, address.Host) : new SslClientAuthenticationOptions(),
    };
#else
    // Neither netstandard2.1 nor gRPC can set more than this here.
    private static HttpMessageHandler? MakeHandler(ServiceAddress address, AISandboxClientOptions options) => null;
#endif
}
