using System;
using System.Collections.Generic;
using System.Diagnostics.CodeAnalysis;
using System.Threading;
using System.Threading.Tasks;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.Extensions.Logging;

namespace AISandbox.Client;

/// <summary>
/// Observations and actions over one stream. Any number of observations may be waiting for their actions at once: they are
/// sent at once, and answered in their order. Safe for use by several threads.
/// </summary>
/// <remarks>
/// A lost stream is opened again, and what was not answered is asked again until its deadline
/// (<see cref="AISandboxClientOptions.Timeout"/>). A stream that is lost while nothing waits is opened by the next observation.
/// A recurrent policy goes on in the middle of its episode: the new stream begins with the state of the last answer.
/// </remarks>
[SuppressMessage("Naming", "CA1711", Justification = "It is gRPC's stream, as the service names it.")]
public sealed class ActStream : IAsyncDisposable
{
    private readonly Connection _connection;
    private readonly V1.ActRequest _first;
    private readonly object _gate = new();
    private readonly Queue<PendingAction> _unsent = new();
    private readonly Queue<PendingAction> _sent = new();
    private readonly ITimer _deadlines;
    private readonly CancellationTokenSource _close;
    private readonly CancellationToken _closed;
    private readonly CancellationTokenRegistration _onClosed;
    private readonly Backoff _backoff;
    private AsyncDuplexStreamingCall<V1.ActStreamRequest, V1.ActStreamResponse>? _call;
    private AsyncDuplexStreamingCall<V1.ActStreamRequest, V1.ActStreamResponse>? _addressed;
    private bool _isSending;
    private bool _isWaiting;
    private bool _startsEpisode = true;
    private ByteString _state = ByteString.Empty;
    private int _isDisposed;

    internal ActStream(Connection connection, V1.ActRequest first)
    {
        _connection = connection;
        _first = first;
        _backoff = new Backoff(connection.Options, connection.Time);
        _close = CancellationTokenSource.CreateLinkedTokenSource(connection.Disposed);
        _closed = _close.Token;
        _onClosed = _closed.Register(static state => ((ActStream)state!).FailAll(new ObjectDisposedException(nameof(ActStream))), this);
        var interval = TimeSpan.FromTicks(Math.Max(connection.Options.Timeout.Ticks / 8, TimeSpan.TicksPerMillisecond));
        _deadlines = connection.Time.CreateTimer(static state => ((ActStream)state!).FailOverdue(), this, interval, interval);
    }

    /// <summary>The policy's action for one observation, as of the calls of <see cref="TrainingRunHandle"/>.</summary>
    /// <param name="observation">Is copied before the method returns.</param>
    /// <param name="cancellationToken">Ends the wait for the action.</param>
    /// <exception cref="AISandboxException">This observation was refused, or not answered in time. The stream stays usable.</exception>
    public Task<PolicyAction> ActAsync(ReadOnlyMemory<float> observation, CancellationToken cancellationToken = default) =>
        ActAsync(observation, default(ReadOnlyMemory<byte>), cancellationToken);

    /// <summary>The action of a policy that was trained with action masks for one observation.</summary>
    /// <param name="observation">Is copied before the method returns.</param>
    /// <param name="actionMask">Which actions are allowed, as of the calls of <see cref="TrainingRunHandle"/>; is copied too. Empty: all are.</param>
    /// <param name="cancellationToken">Ends the wait for the action.</param>
    /// <exception cref="ArgumentException">A byte of the mask is neither 0 nor 1.</exception>
    /// <exception cref="AISandboxException">This observation or its mask was refused, or not answered in time. The stream stays usable.</exception>
    public Task<PolicyAction> ActAsync(ReadOnlyMemory<float> observation, ReadOnlyMemory<byte> actionMask, CancellationToken cancellationToken = default)
    {
        if (cancellationToken.IsCancellationRequested)
        {
            return Task.FromCanceled<PolicyAction>(cancellationToken);
        }

        var pending = new PendingAction(ActRequests.Make(observation.Span, actionMask.Span), _connection.Time.GetTimestamp());
        if (cancellationToken.CanBeCanceled)
        {
            pending.CancelWith(cancellationToken);
        }

        lock (_gate)
        {
            if (_closed.IsCancellationRequested)
            {
                throw new ObjectDisposedException(nameof(ActStream));
            }

            pending.StartsEpisode = _startsEpisode;
            _startsEpisode = false;
            _unsent.Enqueue(pending);
            if (_isSending || _isWaiting)
            {
                return pending.Task;
            }

            _isSending = true;
        }

        // On this thread, up to the first write that has to wait: the usual one has not.
        _ = SendAsync();
        return pending.Task;
    }

    /// <summary>
    /// Tells that the next observation is the first of an episode: a recurrent policy forgets the ones before, and a newer model may
    /// answer. The first observation of the stream is one too. Of no effect if the policy is not recurrent.
    /// </summary>
    public void StartEpisode()
    {
        lock (_gate)
        {
            _startsEpisode = true;
        }
    }

    /// <summary>Ends the stream. What waits for an action ends with <see cref="ObjectDisposedException"/>.</summary>
    public ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _isDisposed, 1) != 0)
        {
            return default;
        }

        _close.Cancel();
        _onClosed.Dispose();
        _close.Dispose();
        _deadlines.Dispose();
        lock (_gate)
        {
            _call?.Dispose();
            _call = null;
        }

        return default;
    }

    /// <summary>Writes what is unsent, in order. One at a time runs, guarded by <see cref="_isSending"/>.</summary>
    private async Task SendAsync()
    {
        while (await SendUntilLostAsync().ConfigureAwait(false))
        {
        }
    }

    /// <summary>Returns whether there is more to write, on another call.</summary>
    private async Task<bool> SendUntilLostAsync()
    {
        AsyncDuplexStreamingCall<V1.ActStreamRequest, V1.ActStreamResponse>? call = null;
        PendingAction? pending = null;
        try
        {
            while (true)
            {
                bool more;
                lock (_gate)
                {
                    DropOver();

                    if (_unsent.Count == 0 || _isWaiting || _closed.IsCancellationRequested)
                    {
                        _isSending = false;
                        return false;
                    }

                    if (_call is null)
                    {
                        var opened = _call = Open();
                        // Not inside of the lock: a call that cannot connect has ended already, and would be replaced here.
                        _ = Task.Run(() => ReadAsync(opened));
                    }

                    pending = _unsent.Dequeue();
                    more = _unsent.Count > 0;
                    // The first request of a stream says for which run and model; the others leave it out.
                    var isFirst = _call != _addressed;
                    pending.Address(isFirst ? _first : null, isFirst && !pending.StartsEpisode ? _state : ByteString.Empty);
                    call = _addressed = _call;
                    _sent.Enqueue(pending);
                }

                call.RequestStream.WriteOptions = more ? Buffered : null;
                await call.RequestStream.WriteAsync(pending.Message).ConfigureAwait(false);
            }
        }
        catch (Exception error)
        {
            _connection.Log.LogDebug(error, "stream for {Run}: a write failed", _first.RunId);
            if (error is RpcException { StatusCode: StatusCode.ResourceExhausted } tooLarge)
            {
                pending?.Fail(Errors.Translate(tooLarge, _connection.InferenceAddress, CancellationToken.None));
            }

            if (call is not null && !IsOver(call))
            {
                call.Dispose();
            }

            lock (_gate)
            {
                // The reader has the reason and connects again. If it has already, it has left the writing to this method.
                _isSending = _call != call && !_isWaiting && !_closed.IsCancellationRequested;
                return _isSending;
            }
        }
    }

    /// <summary>Whether the call has its status, which the reader then gets.</summary>
    private static bool IsOver(AsyncDuplexStreamingCall<V1.ActStreamRequest, V1.ActStreamResponse> call)
    {
        try
        {
            call.GetStatus();
            return true;
        }
        catch (InvalidOperationException)
        {
            return false;
        }
    }

    private static readonly WriteOptions Buffered = new(WriteFlags.BufferHint);

    private AsyncDuplexStreamingCall<V1.ActStreamRequest, V1.ActStreamResponse> Open() =>
        _connection.Inference.ActStream(new CallOptions(cancellationToken: _closed));

    /// <summary>Reads the answers of one call until it ends, then sees to what was not answered.</summary>
    private async Task ReadAsync(AsyncDuplexStreamingCall<V1.ActStreamRequest, V1.ActStreamResponse> call)
    {
        RpcException? lost = null;
        try
        {
            while (await call.ResponseStream.MoveNext(CancellationToken.None).ConfigureAwait(false))
            {
                var answer = call.ResponseStream.Current;
                PendingAction pending;
                lock (_gate)
                {
                    if (_call != call)
                    {
                        return;
                    }

                    _backoff.Reset();
                    pending = _sent.Dequeue();
                    if (answer.ReplyCase == V1.ActStreamResponse.ReplyOneofCase.Response)
                    {
                        _state = answer.Response.State;
                    }
                    else
                    {
                        _startsEpisode |= pending.StartsEpisode; // it has not begun
                    }
                }

                pending.Complete(answer);
                if (AISandboxTelemetry.ActDuration.Enabled)
                {
                    AISandboxTelemetry.ActDuration.Record(_connection.Time.GetElapsedTime(pending.Since).TotalSeconds);
                }
            }
        }
        catch (RpcException error)
        {
            // Only this class cancels the call, in order to make a new one.
            lost = error.StatusCode == StatusCode.Cancelled ? new RpcException(new Status(StatusCode.Unavailable, "the stream was given up")) : error;
        }
        catch (Exception error)
        {
            var isClosed = error is ObjectDisposedException or OperationCanceledException;
            lost = new RpcException(new Status(isClosed ? StatusCode.Unavailable : StatusCode.Internal, error.Message, error));
        }

        await ReconnectAsync(call, lost ?? new RpcException(new Status(StatusCode.Unavailable, "the stream has ended"))).ConfigureAwait(false);
    }

    private async Task ReconnectAsync(AsyncDuplexStreamingCall<V1.ActStreamRequest, V1.ActStreamResponse> call, RpcException lost)
    {
        call.Dispose();
        TimeSpan delay;
        bool idle;
        lock (_gate)
        {
            if (_call != call || _closed.IsCancellationRequested)
            {
                return;
            }

            _call = null;
            idle = _sent.Count + _unsent.Count == 0;
            delay = _backoff.Next();
            if (idle)
            {
                _backoff.Reset();
            }

            // Asked again, in their order, before what was not sent yet.
            foreach (var pending in _unsent)
            {
                _sent.Enqueue(pending);
            }

            _unsent.Clear();
            foreach (var pending in _sent)
            {
                _unsent.Enqueue(pending);
            }

            _sent.Clear();
            _isWaiting = !idle;
        }

        if (idle)
        {
            _connection.Log.LogInformation("stream for {Run}: {Error}; the next observation opens it again", _first.RunId, Errors.Describe(lost, _connection.InferenceAddress));
            return;
        }

        if (!Errors.IsTransient(lost))
        {
            lock (_gate)
            {
                _isWaiting = false;
            }

            FailAll(Errors.Translate(lost, _connection.InferenceAddress, CancellationToken.None));
            return;
        }

        AISandboxTelemetry.Reconnects.Add(1);
        _connection.Log.LogWarning(
            "stream for {Run}: {Error}; connecting again in {Delay}, attempt {Attempt}", _first.RunId, Errors.Describe(lost, _connection.InferenceAddress), delay, _backoff.Attempts);
        try
        {
            await _backoff.DelayAsync(delay, _closed).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            return;
        }

        lock (_gate)
        {
            _isWaiting = false;
            if (_isSending)
            {
                return;
            }

            _isSending = true;
        }

        await SendAsync().ConfigureAwait(false);
    }

    /// <summary>Drops what nobody waits for any more; an episode that it began begins with the next observation.</summary>
    private void DropOver()
    {
        var starts = false;
        while (_unsent.Count > 0 && _unsent.Peek().IsOver)
        {
            starts |= _unsent.Dequeue().StartsEpisode;
        }

        if (starts && _unsent.Count > 0)
        {
            _unsent.Peek().StartsEpisode = true;
        }
        else
        {
            _startsEpisode |= starts;
        }
    }

    /// <summary>Ends what has waited too long. An answer that is overdue means that the stream is stuck: it is given up.</summary>
    private void FailOverdue()
    {
        AsyncDuplexStreamingCall<V1.ActStreamRequest, V1.ActStreamResponse>? stuck = null;
        List<PendingAction>? overdue = null;
        lock (_gate)
        {
            foreach (var queue in new[] { _sent, _unsent })
            {
                foreach (var pending in queue)
                {
                    if (_connection.Time.GetElapsedTime(pending.Since) < _connection.Options.Timeout)
                    {
                        break;
                    }

                    (overdue ??= new List<PendingAction>()).Add(pending);
                    stuck = queue == _sent ? _call : stuck;
                }
            }
        }

        foreach (var pending in overdue ?? new List<PendingAction>())
        {
            pending.Fail(new AISandboxException(
                StatusCode.DeadlineExceeded, $"no action for an observation of run {_first.RunId} within {_connection.Options.Timeout}", isTransient: true));
        }

        stuck?.Dispose();
    }

    private void FailAll(Exception error)
    {
        PendingAction[] all;
        lock (_gate)
        {
            all = new PendingAction[_sent.Count + _unsent.Count];
            _sent.CopyTo(all, 0);
            _unsent.CopyTo(all, _sent.Count);
            _startsEpisode |= Array.Exists(all, each => each.StartsEpisode);
            _sent.Clear();
            _unsent.Clear();
        }

        foreach (var pending in all)
        {
            pending.Fail(error);
        }
    }
}
