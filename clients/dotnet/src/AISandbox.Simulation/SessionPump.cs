using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Diagnostics;
using System.Threading;
using Microsoft.Extensions.Logging;

namespace AISandbox.Simulation;

/// <summary>
/// Runs the sessions of a simulator in the thread that calls <see cref="Run"/>: an engine's. Must not know who carries the messages.
/// </summary>
#pragma warning disable CA1001 // It lives as long as its simulator; without sessions the timer does not run.
internal sealed class SessionPump
#pragma warning restore CA1001
{
    private readonly ConcurrentQueue<PumpedSession> arrived = new();
    private readonly ManualResetEventSlim arrival = new(false);
    private readonly List<PumpedSession> waiting = [];
    private readonly TimeSpan patience;
    private readonly ILogger logger;
    private readonly Timer timer;
    private long waitsSince;
    private int sessions;
    private int running;
    private int warned;

    /// <param name="patience">How long a request may wait for a call of <see cref="Run"/> before that is logged.</param>
    /// <param name="logger">Gets the warnings.</param>
    public SessionPump(TimeSpan patience, ILogger logger)
    {
        (this.patience, this.logger) = (patience, logger);
        timer = new Timer(static pump => ((SessionPump)pump!).WarnIfLate(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    public SessionWorker Add(Func<V1.SimulatorRequest?, V1.SimulatorReply?> handle, Action free)
    {
        if (Interlocked.Increment(ref sessions) == 1)
            timer.Change(patience, patience);
        return new PumpedSession(this, handle, free);
    }

    /// <summary>
    /// One tick: goes on with what has waited for it, then answers the requests that have come, and waits up to <paramref name="wait"/> for one if
    /// a session is open and nothing waits for the next tick. Returns whether something does.
    /// </summary>
    public bool Run(TimeSpan wait)
    {
        if (Interlocked.Exchange(ref running, 1) != 0)
            throw new InvalidOperationException("Pump is running: it is called by one thread, and not by an environment");
        try
        {
            if (Interlocked.Exchange(ref warned, 0) != 0)
                logger.LogInformation("Pump is called again");
            // What waits longer is kept, in its order.
            waiting.RemoveAll(static session => session.Run());
            var begun = Stopwatch.GetTimestamp();
            do
            {
                arrival.Reset();
                Volatile.Write(ref waitsSince, 0);
                while (arrived.TryDequeue(out var session))
                    if (!session.Run())
                        waiting.Add(session);
            }
            while (waiting.Count == 0 && Volatile.Read(ref sessions) > 0 && Arrives(begun, wait));
            return waiting.Count > 0;
        }
        finally
        {
            Volatile.Write(ref running, 0);
        }
    }

    private bool Arrives(long begun, TimeSpan wait)
    {
        var left = wait - TimeSpan.FromSeconds((Stopwatch.GetTimestamp() - begun) / (double)Stopwatch.Frequency);
        return left > TimeSpan.Zero && arrival.Wait(left);
    }

    private void Post(PumpedSession session)
    {
        arrived.Enqueue(session);
        Interlocked.CompareExchange(ref waitsSince, Stopwatch.GetTimestamp(), 0);
        arrival.Set();
    }

    private void Remove()
    {
        if (Interlocked.Decrement(ref sessions) == 0)
            timer.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    private void WarnIfLate()
    {
        var since = Volatile.Read(ref waitsSince);
        if (since == 0 || arrived.IsEmpty || Volatile.Read(ref running) != 0)
            return;
        var seconds = (Stopwatch.GetTimestamp() - since) / (double)Stopwatch.Frequency;
        if (seconds >= patience.TotalSeconds / 2 && Interlocked.Exchange(ref warned, 1) == 0)
            logger.LogWarning(
                "A request has waited for {Seconds:0} s, because Pump was not called: the trainer waits too, and gives up in the end", seconds);
    }

    /// <summary>A session whose requests are answered in the pump's thread.</summary>
    private sealed class PumpedSession : SessionWorker
    {
        private readonly SessionPump pump;
        private bool removed;

        public PumpedSession(SessionPump pump, Func<V1.SimulatorRequest?, V1.SimulatorReply?> handle, Action free) : base(handle, free) =>
            this.pump = pump;

        /// <summary>In the pump's thread. False: the session waits for a tick.</summary>
        public bool Run()
        {
            if (!HasEnded)
                return Handle();
            if (!removed)
                Free();
            if (!removed)
                pump.Remove();
            removed = true;
            return true;
        }

        protected override void Wake() => pump.Post(this);
    }
}
