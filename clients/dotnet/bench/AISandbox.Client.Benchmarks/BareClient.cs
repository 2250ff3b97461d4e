using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using AISandbox.V1;
using Grpc.Core;
using Grpc.Net.Client;

namespace AISandbox.ClientBenchmarks;

/// <summary>The generated client, as it is written by hand for this one purpose: no deadline, no retry, no cancellation.</summary>
internal sealed class BareClient : IAsyncDisposable
{
    private readonly GrpcChannel _channel;
    private readonly PolicyTrainerService.PolicyTrainerServiceClient _client;
    private readonly AsyncDuplexStreamingCall<ActStreamRequest, ActStreamResponse> _stream;
    private readonly string _run;
    private readonly float[] _observation;
    private string _address;

    public BareClient(string address, string run, float[] observation)
    {
        (_run, _address, _observation) = (run, run, observation);
        _channel = GrpcChannel.ForAddress(address);
        _client = new PolicyTrainerService.PolicyTrainerServiceClient(_channel);
        _stream = _client.ActStream();
    }

    public Task UnaryAsync(int callers, long end, Action<long> took) => Task.WhenAll(Enumerable.Range(0, callers).Select(_ => Task.Run(async () =>
    {
        for (var since = Stopwatch.GetTimestamp(); since < end; since = Stopwatch.GetTimestamp())
        {
            var response = await _client.ActAsync(new ActRequest { RunId = _run, Observation = { _observation } });
            Use(response);
            took(since);
        }
    })));

    /// <summary>One loop that keeps so many observations in flight.</summary>
    public async Task StreamAsync(int callers, long end, Action<long> took)
    {
        var sent = new Queue<long>();
        for (var i = 0; i < callers; i++)
        {
            await SendAsync(sent);
        }

        while (sent.Count > 0 && await _stream.ResponseStream.MoveNext(CancellationToken.None))
        {
            Use(_stream.ResponseStream.Current.Response);
            took(sent.Dequeue());
            if (Stopwatch.GetTimestamp() < end)
            {
                await SendAsync(sent);
            }
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _stream.RequestStream.CompleteAsync();
        _stream.Dispose();
        _channel.Dispose();
    }

    private static void Use(ActResponse response)
    {
        if (response.Action[0] < 0)
        {
            throw new InvalidOperationException("no such action");
        }
    }

    private Task SendAsync(Queue<long> sent)
    {
        sent.Enqueue(Stopwatch.GetTimestamp());
        var request = new ActRequest { RunId = _address, Observation = { _observation } };
        _address = "";
        return _stream.RequestStream.WriteAsync(new ActStreamRequest { Request = request });
    }
}
