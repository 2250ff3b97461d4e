#if NET
using System;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Grpc.Core;
using Grpc.Net.Client.Balancer;

namespace AISandbox.Client;

/// <summary>Resolves <c>dns:///</c> addresses by <see cref="PodResolver"/>.</summary>
internal sealed class PodResolverFactory : ResolverFactory
{
    private readonly AISandboxClientOptions _options;
    private readonly TimeProvider _time;
    private readonly Func<string, CancellationToken, Task<IPAddress[]>> _lookup;

    public PodResolverFactory(AISandboxClientOptions options, TimeProvider time, Func<string, CancellationToken, Task<IPAddress[]>>? lookup = null) =>
        (_options, _time, _lookup) = (options, time, lookup ?? Dns.GetHostAddressesAsync);

    public override string Name => "dns";

    public override Resolver Create(ResolverOptions options) => new PodResolver(options, _options.DnsRefreshInterval, _time, _lookup);
}

/// <summary>
/// All addresses that a name resolves to, asked again at an interval. A name without addresses is the normal state of a
/// headless Service without ready pods: calls wait until their deadline, and the first pod is used when it is there.
/// </summary>
internal sealed class PodResolver : PollingResolver
{
    private readonly string _host;
    private readonly int _port;
    private readonly TimeSpan _interval;
    private readonly TimeProvider _time;
    private readonly Func<string, CancellationToken, Task<IPAddress[]>> _lookup;
    private ITimer? _timer;

    public PodResolver(ResolverOptions options, TimeSpan interval, TimeProvider time, Func<string, CancellationToken, Task<IPAddress[]>> lookup)
        : base(options.LoggerFactory, new LimitedBackoffFactory(interval))
    {
        var endpoint = new Uri($"http://{options.Address.AbsolutePath.TrimStart('/')}");
        (_host, _port) = (endpoint.DnsSafeHost, endpoint.IsDefaultPort ? options.DefaultPort : endpoint.Port);
        (_interval, _time, _lookup) = (interval, time, lookup);
    }

    protected override void OnStarted() => _timer = _time.CreateTimer(_ => Refresh(), null, _interval, _interval);

    protected override async Task ResolveAsync(CancellationToken cancellationToken)
    {
        IPAddress[] addresses;
        try
        {
            addresses = await _lookup(_host, cancellationToken).ConfigureAwait(false);
        }
        catch (SocketException error)
        {
            Listener(ResolverResult.ForFailure(new Status(StatusCode.Unavailable, $"{_host} is not resolved: {error.Message}", error)));
            return;
        }

        var found = addresses.Select(each => new BalancerAddress(each.ToString(), _port)).ToArray();
        Listener(found.Length > 0
            ? ResolverResult.ForResult(found)
            : ResolverResult.ForFailure(new Status(StatusCode.Unavailable, $"{_host} has no addresses yet")));
    }

    protected override void Dispose(bool disposing)
    {
        _timer?.Dispose();
        base.Dispose(disposing);
    }

    /// <summary>A failed lookup is repeated after 1, 2, 4, ... seconds, at most after the interval: gRPC's own waits reach two minutes.</summary>
    internal sealed class LimitedBackoffFactory(TimeSpan limit) : IBackoffPolicyFactory
    {
        public IBackoffPolicy Create() => new LimitedBackoff(limit);

        private sealed class LimitedBackoff(TimeSpan limit) : IBackoffPolicy
        {
            private TimeSpan _next = TimeSpan.FromSeconds(1);

            public TimeSpan NextBackoff()
            {
                var current = _next < limit ? _next : limit;
                _next = current + current;
                return current;
            }
        }
    }
}
#endif
