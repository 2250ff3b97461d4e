using System;
using Grpc.Core;

namespace AISandbox.Simulation;

/// <summary>
/// The base of this package's exceptions.
/// <code>
/// SimulationException
/// ├── InvalidSpecException           a space, an option or a name of the spec breaks a rule
/// ├── InvalidOptionException         an option of a session is unknown, or its value is not accepted
/// ├── EnvironmentFailedException     an environment threw, or what it returned does not fit its spec
/// ├── AttachmentRefusedException     the service refuses a simulator, and would again
/// ├── EnvironmentCheckException      the checks of an environment found a broken rule
/// └── RecordingException             a file is no recording, or its episode is not reproduced
/// </code>
/// </summary>
public class SimulationException : Exception
{
    /// <summary>An exception with this message.</summary>
    public SimulationException(string message, Exception? inner = null) : base(message, inner) { }
}

/// <summary>A space, an option or a name of the spec breaks a rule; the message names both.</summary>
public sealed class InvalidSpecException : SimulationException
{
    /// <summary>An exception with this message.</summary>
    public InvalidSpecException(string message) : base(message) { }
}

/// <summary>An option of a session is unknown, or its value is not accepted; the message names the option.</summary>
public sealed class InvalidOptionException : SimulationException
{
    /// <summary>An exception with this message.</summary>
    public InvalidOptionException(string message) : base(message) { }
}

/// <summary>
/// An environment threw an exception, or what it returned does not fit its spec. The message names environment, seed,
/// step and element.
/// </summary>
public sealed class EnvironmentFailedException : SimulationException
{
    internal EnvironmentFailedException(string message, Exception? inner, int environment, ulong seed, long step, string? recording)
        : base(message, inner)
    {
        Environment = environment;
        Seed = seed;
        Step = step;
        RecordingPath = recording;
    }

    /// <summary>The number of the environment in its session, from 0.</summary>
    public int Environment { get; }

    /// <summary>The seed of the episode.</summary>
    public ulong Seed { get; }

    /// <summary>The step of the episode, from 1; 0 is the reset.</summary>
    public long Step { get; }

    /// <summary>The file that <see cref="EpisodeRecording.Load"/> reads, to replay the episode; null if none was written.</summary>
    public string? RecordingPath { get; }

    /// <summary>Whether the environment itself threw; otherwise what it returned does not fit its spec.</summary>
    public bool Threw => InnerException is not null;
}

/// <summary>The service refuses a simulator, and would refuse it again; the message says why.</summary>
public sealed class AttachmentRefusedException : SimulationException
{
    internal AttachmentRefusedException(StatusCode statusCode, string message, Exception? inner) : base(message, inner) => StatusCode = statusCode;

    /// <summary>The kind of refusal, as <c>simulator_pool.proto</c> specifies it.</summary>
    public StatusCode StatusCode { get; }
}

/// <summary>The checks of an environment found rules that it breaks; the message lists them.</summary>
public sealed class EnvironmentCheckException : SimulationException
{
    /// <summary>An exception with this message.</summary>
    public EnvironmentCheckException(string message) : base(message) { }
}

/// <summary>A file is no recording of an episode, or an environment does not reproduce the episode.</summary>
public sealed class RecordingException : SimulationException
{
    /// <summary>An exception with this message.</summary>
    public RecordingException(string message, Exception? inner = null) : base(message, inner) { }
}
