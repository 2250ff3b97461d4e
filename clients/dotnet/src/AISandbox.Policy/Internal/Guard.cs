using System;
using System.Diagnostics.CodeAnalysis;

namespace AISandbox.Internal;

/// <summary>What .NET has and netstandard2.1 has not.</summary>
internal static class Guard
{
    public static void NotNull([NotNull] object? value, string name)
    {
#if NET
        ArgumentNullException.ThrowIfNull(value, name);
#else
        if (value is null)
        {
            throw new ArgumentNullException(name);
        }
#endif
    }

    public static void NotDisposed(bool isDisposed, object instance)
    {
#if NET
        ObjectDisposedException.ThrowIf(isDisposed, instance);
#else
        if (isDisposed)
        {
            throw new ObjectDisposedException(instance.GetType().Name);
        }
#endif
    }
}
