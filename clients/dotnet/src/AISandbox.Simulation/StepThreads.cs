using System;
using System.Threading;

namespace AISandbox.Simulation;

/// <summary>
/// Threads that, together with the caller's, take the steps of a session's environments at the same time. Their own, not the pool's: a
/// long step must not keep the pool from other work. Allocates nothing while it runs.
/// </summary>
internal sealed class StepThreads : IDisposable
{
    private readonly SemaphoreSlim started = new(0);
    private readonly ManualResetEventSlim done = new(false);
    private readonly int helpers;
    private Action<int>? work;
    private int count;
    private int next;
    private int busy;
    private volatile bool ended;

    public StepThreads(int helpers, string name)
    {
        this.helpers = helpers;
        for (var i = 0; i < helpers; i++)
            new Thread(Help) { IsBackground = true, Name = $"{name} steps {i + 1}" }.Start();
    }

    /// <summary>Calls <paramref name="action"/>, which must not throw, with 0 .. count - 1; returns when all calls have returned.</summary>
    public void Run(int number, Action<int> action)
    {
        (work, count, next, busy) = (action, number, -1, helpers);
        done.Reset();
        started.Release(helpers);
        Work();
        done.Wait();
    }

    public void Dispose()
    {
        ended = true;
        started.Release(helpers);
    }

    private void Help()
    {
        while (true)
        {
            started.Wait();
            if (ended)
                return;
            Work();
            if (Interlocked.Decrement(ref busy) == 0)
                done.Set();
        }
    }

    private void Work()
    {
        int i;
        while ((i = Interlocked.Increment(ref next)) < count)
            work!(i);
    }
}
