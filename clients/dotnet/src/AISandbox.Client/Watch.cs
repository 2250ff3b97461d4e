using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Threading;
using System.Threading.Tasks;
using Grpc.Core;
using Microsoft.Extensions.Logging;

namespace AISandbox.Client;

public sealed partial class TrainingRunHandle
{
    /// <summary>
    /// The status now and then after every change, until the run is done, which the last one says. A lost connection is
    /// opened again; a status that was seen before is not repeated. Leaving the enumeration ends the call.
    /// </summary>
    /// <param name="cancellationToken">Ends the enumeration.</param>
    /// <exception cref="AISandboxException">
    /// The run is unknown, or no connection was made for <see cref="AISandboxClientOptions.ReconnectTimeout"/>.
    /// </exception>
    public async IAsyncEnumerable<TrainingStatus> WatchAsync([EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        using var activity = AISandboxTelemetry.Source.StartActivity("WatchTraining", ActivityKind.Client);
        activity?.SetTag("aisandbox.run", Name);
        var backoff = new Backoff(_connection.Options, _connection.Time);
        V1.StatusResponse? last = null;
        while (true)
        {
            using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _connection.Disposed);
            using var call = _connection.Service.WatchTraining(
                new V1.WatchTrainingRequest { RunId = Name }, new CallOptions(cancellationToken: stop.Token));
            RpcException? lost = null;
            while (lost is null)
            {
                V1.StatusResponse? status = null;
                try
                {
                    status = await NextAsync(call.ResponseStream, stop.Token).ConfigureAwait(false);
                    // The service ends the stream of a run that is done; another end is one that something between has made.
                    lost = status is null ? Lost("the stream has ended") : null;
                }
                catch (RpcException error)
                {
                    lost = error;
                }

                if (status is null)
                {
                    continue;
                }

                backoff.Reset();
                if (!status.Equals(last))
                {
                    last = status;
                    yield return TrainingStatus.From(status);
                }

                if (status.IsDone)
                {
                    yield break;
                }
            }

            await WaitToReconnectAsync(backoff, lost, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Waits until the run has succeeded or was cancelled, and returns its last status.</summary>
    /// <param name="cancellationToken">Ends the wait, not the run.</param>
    /// <exception cref="TrainingFailedException">The run has failed.</exception>
    /// <exception cref="AISandboxException">As <see cref="WatchAsync"/>.</exception>
    public async Task<TrainingStatus> WaitAsync(CancellationToken cancellationToken = default)
    {
        await foreach (var status in WatchAsync(cancellationToken).ConfigureAwait(false))
        {
            if (status.IsDone)
            {
                return status.Phase == TrainingPhase.Failed ? throw new TrainingFailedException(status) : status;
            }
        }

        throw new InvalidOperationException("a watch ends with a run that is done");
    }

    private static RpcException Lost(string why) => new(new Status(StatusCode.Unavailable, why));

    /// <summary>The next message, null at the end. A service that does not answer a question meanwhile is lost.</summary>
    private async Task<V1.StatusResponse?> NextAsync(IAsyncStreamReader<V1.StatusResponse> stream, CancellationToken cancellationToken)
    {
        var next = stream.MoveNext(cancellationToken);
        while (!next.IsCompleted)
        {
            using var stopDelay = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            var quiet = _connection.Time.DelayAsync(_connection.Options.LivenessInterval, stopDelay.Token);
            if (await Task.WhenAny(next, quiet).ConfigureAwait(false) == quiet && !next.IsCompleted && !cancellationToken.IsCancellationRequested)
            {
                try
                {
                    await CheckLivenessAsync(cancellationToken).ConfigureAwait(false);
                }
                catch (RpcException)
                {
                    // The read is abandoned with its call; what becomes of it is of no interest.
                    _ = next.ContinueWith(
                        static task => _ = task.Exception, CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
                    throw;
                }
            }

            stopDelay.Cancel();
        }

        return await next.ConfigureAwait(false) ? stream.Current : null;
    }

    private async Task CheckLivenessAsync(CancellationToken cancellationToken)
    {
        var deadline = _connection.Time.GetUtcNow().UtcDateTime + _connection.Options.LivenessInterval;
        try
        {
            await _connection.Service.GetTrainingStatusAsync(
                new V1.StatusRequest { RunId = Name }, deadline: deadline, cancellationToken: cancellationToken).ResponseAsync.ConfigureAwait(false);
        }
        catch (RpcException error) when (error.StatusCode == StatusCode.DeadlineExceeded)
        {
            throw Lost($"the service was silent for {_connection.Options.LivenessInterval}, and did not answer within as long");
        }
    }

    private async Task WaitToReconnectAsync(Backoff backoff, RpcException lost, CancellationToken cancellationToken)
    {
        if (_connection.Disposed.IsCancellationRequested)
        {
            throw new ObjectDisposedException(nameof(AISandboxClient));
        }

        var delay = backoff.Next();
        var isOver = _connection.Options.ReconnectTimeout != Timeout.InfiniteTimeSpan && backoff.Failing >= _connection.Options.ReconnectTimeout;
        if (!Errors.IsTransient(lost) || isOver || cancellationToken.IsCancellationRequested)
        {
            throw Errors.Translate(lost, _connection.Options.Address, cancellationToken);
        }

        AISandboxTelemetry.Reconnects.Add(1);
        _connection.Log.LogWarning(
            "watch of {Run}: {Error}; connecting again in {Delay}, attempt {Attempt}", Name, Errors.Describe(lost, _connection.Options.Address), delay, backoff.Attempts);
        await backoff.DelayAsync(delay, cancellationToken).ConfigureAwait(false);
    }
}
