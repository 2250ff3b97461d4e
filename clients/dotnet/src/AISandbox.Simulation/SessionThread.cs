using System;
using System.Threading;

namespace AISandbox.Simulation;

/// <summary>The thread of a session whose requests take long: one request at a time. Allocates nothing for a request.</summary>
internal sealed class SessionThread : SessionWorker
{
    private readonly SemaphoreSlim arrived = new(0);

    /// <param name="handle">Answers a request; what it throws is the caller's.</param>
    /// <param name="free">Called in the thread at its end.</param>
    /// <param name="name">The name of the thread, for debuggers.</param>
    public SessionThread(Func<V1.SimulatorRequest?, V1.SimulatorReply?> handle, Action free, string name) : base(handle, free) =>
        new Thread(Run) { IsBackground = true, Name = $"{name} session" }.Start();

    protected override void Wake() => arrived.Release();

    private void Run()
    {
        while (true)
        {
            arrived.Wait();
            if (HasEnded)
                break;
            Handle();
        }
        Free();
    }
}
