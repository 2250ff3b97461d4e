using System;
using System.Threading.Tasks;
using System.Threading.Tasks.Sources;

namespace AISandbox.Simulation;

/// <summary>Answers the requests of a session in another thread than the caller's, one at a time. Allocates nothing for a request.</summary>
internal abstract class SessionWorker : IValueTaskSource<V1.SimulatorReply>, IDisposable
{
    private readonly Func<V1.SimulatorRequest?, V1.SimulatorReply?> handle;
    private readonly Action free;
    private ManualResetValueTaskSourceCore<V1.SimulatorReply> source = new() { RunContinuationsAsynchronously = true };
    private V1.SimulatorRequest? request;
    private volatile bool ended;

    /// <param name="handle">Answers a request, or goes on with it (null) after a tick; null: it waits for one. What it throws is the caller's.</param>
    /// <param name="free">Called in the other thread at the end.</param>
    protected SessionWorker(Func<V1.SimulatorRequest?, V1.SimulatorReply?> handle, Action free) => (this.handle, this.free) = (handle, free);

    /// <summary>Whether the session was disposed of.</summary>
    protected bool HasEnded => ended;

    public ValueTask<V1.SimulatorReply> HandleAsync(V1.SimulatorRequest message)
    {
        source.Reset();
        request = message;
        Wake();
        return new ValueTask<V1.SimulatorReply>(this, source.Version);
    }

    /// <summary>Ends when the request that is being answered, if there is one, is done. Does not wait for that.</summary>
    public void Dispose()
    {
        ended = true;
        Wake();
    }

    V1.SimulatorReply IValueTaskSource<V1.SimulatorReply>.GetResult(short token) => source.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource<V1.SimulatorReply>.GetStatus(short token) => source.GetStatus(token);

    void IValueTaskSource<V1.SimulatorReply>.OnCompleted(
        Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        source.OnCompleted(continuation, state, token, flags);

    /// <summary>Tells the other thread that there is a request, or that the session has ended.</summary>
    protected abstract void Wake();

    /// <summary>In the other thread: answers the request, or goes on with it. False: it waits for a tick.</summary>
    protected bool Handle()
    {
        try
        {
            var message = request;
            request = null;
            if (handle(message) is not { } reply)
                return false;
            source.SetResult(reply);
        }
        catch (Exception error)
        {
            source.SetException(error);
        }
        return true;
    }

    /// <summary>In the other thread: frees the environments.</summary>
    protected void Free() => free();
}
