using System.Threading;

namespace AISandbox.Simulation;

/// <summary>
/// Keeps one thread of the pool for each session that may block one: the pool adds threads above its minimum slowly, and calls such as
/// the health check would wait for that.
/// </summary>
internal static class PoolThreads
{
    private static readonly object Changing = new();

    public static void Reserve() => Change(1);

    public static void Release() => Change(-1);

    private static void Change(int by)
    {
        lock (Changing)
        {
            ThreadPool.GetMinThreads(out var workers, out var ports);
            ThreadPool.SetMinThreads(workers + by, ports);
        }
    }
}
