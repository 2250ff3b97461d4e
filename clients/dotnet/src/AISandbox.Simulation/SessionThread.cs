using System;
using System.Threading;
using System.Threading.Tasks;
using System.Threading.Tasks.Sources;

namespace AISandbox.Simulation;

/// <summary>The thread of a session whose requests take long: one request at a time. Allocates nothing for a request.</summary>
internal sealed class SessionThread : IValueTaskSource<V1.SimulatorReply>, IDisposable
{
    private readonly Func<V1.SimulatorRequest, V1.SimulatorReply> handle;
    private readonly Action free;
    private readonly SemaphoreSlim arrived = new(0);
    private ManualResetValueTaskSourceCore<V1.SimulatorReply> source = new() { RunContinuationsAsynchronously = true };
    private V1.SimulatorRequest? request;
    private volatile bool ended;

    /// <param name="handle">Answers a request; what it throws is the caller's.</param>
    /// <param name="free">Called in the thread at its end.</param>
    /// <param name="name">The name of the thread, for debuggers.</param>
    public SessionThread(Func<V1.SimulatorRequest, V1.SimulatorReply> handle, Action free, string name)
    {
        (this.handle, this.free) = (handle, free);
        new Thread(Run) { IsBackground = true, Name = $"{name} session" }.Start();
    }

    public ValueTask<V1.SimulatorReply> HandleAsync(V1.SimulatorRequest message)
    {
        source.Reset();
        request = message;
        arrived.Release();
        return new ValueTask<V1.SimulatorReply>(this, source.Version);
    }

    /// <summary>Ends the thread when the request that it is answering, if there is one, is done. Does not wait for that.</summary>
    public void Dispose()
    {
        ended = true;
        arrived.Release();
    }

    V1.SimulatorReply IValueTaskSource<V1.SimulatorReply>.GetResult(short token) => source.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource<V1.SimulatorReply>.GetStatus(short token) => source.GetStatus(token);

    void IValueTaskSource<V1.SimulatorReply>.OnCompleted(
        Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        source.OnCompleted(continuation, state, token, flags);

    private void Run()
    {
        while (true)
        {
            arrived.Wait();
            if (ended)
                break;
            try
            {
                source.SetResult(handle(request!));
            }
            catch (Exception error)
            {
                source.SetException(error);
            }
        }
        free();
    }
}
