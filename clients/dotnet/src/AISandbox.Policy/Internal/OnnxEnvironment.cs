using System;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;

namespace AISandbox.Internal;

/// <summary>ONNX Runtime in this process: without telemetry, quiet, and with an understandable error if it is not there.</summary>
internal static class OnnxEnvironment
{
    private static readonly object Gate = new();
    private static bool _isReady;

    /// <summary>Makes ONNX Runtime's environment, unless the application has made it.</summary>
    /// <exception cref="PolicyException">The native library is missing or too old.</exception>
    public static void EnsureCreated()
    {
        lock (Gate)
        {
            if (_isReady)
            {
                return;
            }

            try
            {
                Create();
            }
            catch (Exception error) when (IsMissingRuntime(error))
            {
                throw MissingRuntime(error);
            }

            _isReady = true;
        }
    }

    public static SessionOptions CreateOptions(Action<SessionOptions>? configure)
    {
        // A policy takes microseconds: more threads cost more than they gain, and a spinning one takes a core from the game.
        var options = new SessionOptions
        {
            IntraOpNumThreads = 1,
            InterOpNumThreads = 1,
            ExecutionMode = ExecutionMode.ORT_SEQUENTIAL,
            EnableCpuMemArena = false,
            EnableMemoryPattern = false,
            LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR,
        };
        options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0");
        options.AddSessionConfigEntry("session.inter_op.allow_spinning", "0");
        configure?.Invoke(options);
        return options;
    }

    internal static bool IsMissingRuntime(Exception error) => error switch
    {
        DllNotFoundException or EntryPointNotFoundException or BadImageFormatException => true,
        TypeInitializationException { InnerException: { } inner } => IsMissingRuntime(inner) || inner is NullReferenceException or ArgumentNullException,
        _ => false,
    };

    internal static PolicyException MissingRuntime(Exception error)
    {
        var machine = $"{RuntimeInformation.OSDescription.Trim()}, {RuntimeInformation.ProcessArchitecture}";
        var cause = error is TypeInitializationException { InnerException: { } inner } ? inner : error;
        var message = cause is DllNotFoundException
            ? $"There is no native ONNX Runtime for this machine ({machine}). Add the package Microsoft.ML.OnnxRuntime to the application, in the "
              + "version of Microsoft.ML.OnnxRuntime.Managed; it has Windows, macOS and Linux with glibc, x64 and arm64. Alpine (musl) has none: use an "
              + "image with glibc, for example mcr.microsoft.com/dotnet/aspnet:10.0."
            : $"The native ONNX Runtime of this application does not fit the managed one or this machine ({machine}): use Microsoft.ML.OnnxRuntime, or "
              + "one package for a GPU instead of it, in the version of Microsoft.ML.OnnxRuntime.Managed, and not both.";
        return new PolicyException(PolicyErrorReason.NoRuntime, message + " " + cause.Message, error);
    }

    private static void Create()
    {
        DisableTelemetry();
        if (!OrtEnv.IsCreated)
        {
            var options = new EnvironmentCreationOptions { logId = "AISandbox", logLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR };
            OrtEnv.CreateInstanceWithOptions(ref options);
        }

        OrtEnv.Instance().DisableTelemetryEvents();
    }

    /// <summary>
    /// ONNX Runtime reads ORT_DISABLE_TELEMETRY when it is loaded, from the process's own environment, which .NET does not change on Unix.
    /// </summary>
    private static void DisableTelemetry()
    {
        const string Name = "ORT_DISABLE_TELEMETRY";
        System.Environment.SetEnvironmentVariable(Name, "1");
        if (RuntimeInformation.IsOSPlatform(OSPlatform.Windows))
        {
            return;
        }

        try
        {
            _ = SetEnvironmentVariable(Name, "1", 1);
        }
        catch (Exception error) when (error is DllNotFoundException or EntryPointNotFoundException)
        {
            // An operating system without a libc of this name; DisableTelemetryEvents remains.
        }
    }

    [DllImport("libc", EntryPoint = "setenv", CharSet = CharSet.Ansi, BestFitMapping = false, ThrowOnUnmappableChar = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int SetEnvironmentVariable(string name, string value, int overwrite);
}
