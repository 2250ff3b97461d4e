using System;
using System.Threading;
using System.Threading.Tasks;

namespace AISandbox.Client;

/// <summary>The delay of a clock, which .NET and netstandard2.1 have in different places.</summary>
internal static class TimeProviderDelay
{
    public static Task DelayAsync(this TimeProvider time, TimeSpan delay, CancellationToken cancellationToken) =>
#if NET
        Task.Delay(delay, time, cancellationToken);
#else
        TimeProviderTaskExtensions.Delay(time, delay, cancellationToken);
#endif
}
