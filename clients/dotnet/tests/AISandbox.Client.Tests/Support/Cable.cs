using System;
using System.Collections.Concurrent;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;

namespace AISandbox.Client.Tests.Support;

/// <summary>A TCP connection between client and service that can be cut, or go silent as when the other machine vanishes.</summary>
internal sealed class Cable : IDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _stop = new();
    private readonly ConcurrentBag<TcpClient> _open = new();
    private readonly int _target;
    private long _silentUpTo = -1;
    private long _accepted;
    private long _pings;

    public Cable(int target)
    {
        _target = target;
        _listener.Start();
        _ = AcceptAsync();
    }

    public string Address => $"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}";

    public long Connections => Interlocked.Read(ref _accepted);

    /// <summary>HTTP/2 pings of the client that have passed.</summary>
    public long Pings => Interlocked.Read(ref _pings);

    /// <summary>From now on nothing passes on the connections there are. New ones work.</summary>
    public void GoSilent() => Interlocked.Exchange(ref _silentUpTo, Connections);

    /// <summary>Closes the connections there are.</summary>
    public void Cut()
    {
        while (_open.TryTake(out var client))
        {
            client.Client.Close(0);
        }
    }

    public void Dispose()
    {
        _stop.Cancel();
        _listener.Stop();
        Cut();
        _stop.Dispose();
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                var client = await _listener.AcceptTcpClientAsync(_stop.Token);
                var number = Interlocked.Increment(ref _accepted);
                _ = ConnectAsync(client, number);
            }
        }
        catch (Exception error) when (error is OperationCanceledException or SocketException or ObjectDisposedException)
        {
        }
    }

    private async Task ConnectAsync(TcpClient client, long number)
    {
        using var server = new TcpClient { NoDelay = true };
        client.NoDelay = true;
        _open.Add(client);
        try
        {
            await server.ConnectAsync(IPAddress.Loopback, _target);
            await Task.WhenAny(PumpAsync(client, server, number, count: true), PumpAsync(server, client, number, count: false));
        }
        catch (Exception error) when (error is IOException or SocketException or ObjectDisposedException or InvalidOperationException)
        {
        }

        client.Client?.Close(0);
    }

    private async Task PumpAsync(TcpClient from, TcpClient to, long number, bool count)
    {
        var buffer = new byte[1 << 16];
        while (true)
        {
            var read = await from.GetStream().ReadAsync(buffer, _stop.Token);
            if (read == 0)
            {
                return;
            }

            if (number <= Interlocked.Read(ref _silentUpTo))
            {
                continue;
            }

            // A ping that is alone in a packet, as one of a quiet connection is: 8 bytes, type 6, not an answer.
            if (count && read == 17 && buffer[2] == 8 && buffer[3] == 6 && (buffer[4] & 1) == 0)
            {
                Interlocked.Increment(ref _pings);
            }

            await to.GetStream().WriteAsync(buffer.AsMemory(0, read), _stop.Token);
        }
    }
}
