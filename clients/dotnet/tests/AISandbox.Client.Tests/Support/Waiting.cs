using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Logging.Testing;

namespace AISandbox.Client.Tests.Support;

internal static class Waiting
{
    /// <summary>How long a test waits for what must come; it is not reached in a test that passes.</summary>
    public static readonly TimeSpan Limit = TimeSpan.FromSeconds(120);

    public static Task UntilAsync(Func<bool> condition) => UntilAsync(() => Task.FromResult(condition()));

    public static async Task UntilAsync(Func<Task<bool>> condition)
    {
        using var limit = new CancellationTokenSource(Limit);
        while (!await condition())
        {
            await Task.Delay(10, limit.Token);
        }
    }

    public static async Task<List<T>> ToListAsync<T>(this IAsyncEnumerable<T> items)
    {
        var all = new List<T>();
        await foreach (var item in items)
        {
            all.Add(item);
        }

        return all;
    }
}

/// <summary>Keeps what a client logs.</summary>
internal sealed class Logs : ILoggerFactory
{
    private readonly FakeLogCollector _collector = new();

    public IEnumerable<string> Warnings => _collector.GetSnapshot().Where(each => each.Level == LogLevel.Warning).Select(each => each.Message);

    public IEnumerable<string> All => _collector.GetSnapshot().Select(each => each.Message);

    /// <summary>gRPC logs every step of every connection.</summary>
    public ILogger CreateLogger(string categoryName) => categoryName.StartsWith("AISandbox", StringComparison.Ordinal) ? new FakeLogger(_collector, categoryName) : NullLogger.Instance;

    public void AddProvider(ILoggerProvider provider)
    {
    }

    public void Dispose()
    {
    }
}
