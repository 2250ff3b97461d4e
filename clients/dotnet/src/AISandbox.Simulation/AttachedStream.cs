using System;
using System.Threading;
using System.Threading.Tasks;
using Grpc.Core;

namespace AISandbox.Simulation;

/// <summary>
/// The stream of one call of SimulatorPoolService.Attach. Whatever waits here ends with <see cref="OperationCanceledException"/> when the place
/// is cancelled, and leaves the call open, so that goodbye can be said.
/// </summary>
internal sealed class AttachedStream : IDisposable
{
    private readonly AsyncDuplexStreamingCall<V1.AttachRequest, V1.AttachResponse> call;
    private readonly TimeSpan goodbyeLimit;
    private readonly CancellationToken cancellationToken;
    private readonly TaskCompletionSource<bool> cancelled = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly CancellationTokenRegistration registration;
    private Task<bool>? reading;
    private Task writing = Task.CompletedTask;

    public AttachedStream(
        AsyncDuplexStreamingCall<V1.AttachRequest, V1.AttachResponse> call, TimeSpan goodbyeLimit, CancellationToken cancellationToken)
    {
        (this.call, this.goodbyeLimit, this.cancellationToken) = (call, goodbyeLimit, cancellationToken);
        registration = cancellationToken.Register(static source => ((TaskCompletionSource<bool>)source!).TrySetResult(true), cancelled);
    }

    /// <summary>Whether the service waits for the end of a session.</summary>
    public bool InSession { get; set; }

    /// <summary>For a stream that has ended without an error.</summary>
    public static RpcException Ended() => new(new Status(StatusCode.Unavailable, "the service has ended the stream"));

    /// <summary>The next message; null: the service has ended the stream without an error. Throws RpcException with the one that it has ended with.</summary>
    public async Task<V1.AttachResponse?> ReadAsync()
    {
        var next = BeginRead();
        await UntilAsync(next).ConfigureAwait(false);
        reading = null;
        return await next.ConfigureAwait(false) ? call.ResponseStream.Current : null;
    }

    public async Task WriteAsync(V1.AttachRequest message)
    {
        // With a token a write that is cancelled would end the call.
        writing = call.RequestStream.WriteAsync(message);
        await UntilAsync(writing).ConfigureAwait(false);
        try
        {
            await writing.ConfigureAwait(false);
        }
        catch (InvalidOperationException)
        {
            // The call is over: why, is its status.
            var status = call.GetStatus();
            throw status.StatusCode == StatusCode.OK ? Ended() : new RpcException(status);
        }
    }

    /// <summary>Waits for the work of a session; true: the session has ended before it was done. Throws RpcException if the stream is lost.</summary>
    public async Task<bool> EndsBeforeAsync(Task work)
    {
        var next = BeginRead();
        await UntilAsync(Task.WhenAny(work, next)).ConfigureAwait(false);
        if (work.IsCompleted)
            return false;
        if (!await next.ConfigureAwait(false))
            throw Ended();
        if (call.ResponseStream.Current.MessageCase == V1.AttachResponse.MessageOneofCase.SessionEnded)
        {
            reading = null;
            return true;
        }
        // A request that came before the reply to the one before it waits for its turn.
        await UntilAsync(work).ConfigureAwait(false);
        return false;
    }

    /// <summary>Waits for a task, whose exception is its own.</summary>
    public async Task UntilAsync(Task task)
    {
        if (!task.IsCompleted)
            await Task.WhenAny(task, cancelled.Task).ConfigureAwait(false);
        // Also when both are there: a cancellation ends at once.
        cancellationToken.ThrowIfCancellationRequested();
    }

    /// <summary>Waits for a task.</summary>
    public async Task<T> UntilAsync<T>(Task<T> task)
    {
        await UntilAsync((Task)task).ConfigureAwait(false);
        return await task.ConfigureAwait(false);
    }

    /// <summary>Says goodbye: ends a session as a simulator that stops, and leaves the pool. Does not wait for a service that does not answer.</summary>
    public async Task LeaveAsync()
    {
        using var stopDelay = new CancellationTokenSource();
        var leaving = SayGoodbyeAsync();
        await Task.WhenAny(leaving, Task.Delay(goodbyeLimit, stopDelay.Token)).ConfigureAwait(false);
        stopDelay.Cancel();
    }

    public void Dispose()
    {
        registration.Dispose();
        call.Dispose();
        // Nothing reads them after this.
        Observe(reading);
        Observe(writing);
    }

    private static void Observe(Task? task) =>
        _ = task?.ContinueWith(static done => _ = done.Exception, CancellationToken.None, TaskContinuationOptions.OnlyOnFaulted, TaskScheduler.Default);

    private Task<bool> BeginRead() => reading ??= call.ResponseStream.MoveNext(CancellationToken.None);

    private async Task SayGoodbyeAsync()
    {
        try
        {
            await writing.ConfigureAwait(false);
            if (InSession)
            {
                var end = new V1.SessionEnded { Code = (int)StatusCode.Unavailable, Message = "the simulator is stopping" };
                await call.RequestStream.WriteAsync(new V1.AttachRequest { SessionEnded = end }).ConfigureAwait(false);
            }
            await call.RequestStream.CompleteAsync().ConfigureAwait(false);
            while (await BeginRead().ConfigureAwait(false))
                reading = null;
        }
        catch (Exception error) when (error is RpcException or InvalidOperationException or OperationCanceledException or ObjectDisposedException)
        {
            // The stream has ended by itself, which is what was wanted.
        }
    }
}
