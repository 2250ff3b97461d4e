using System;

namespace AISandbox;

/// <summary>Why a policy cannot be loaded or followed.</summary>
public enum PolicyErrorReason
{
    /// <summary>Not known.</summary>
    Unknown,

    /// <summary>The file or folder is not there, or cannot be read.</summary>
    FileNotFound,

    /// <summary>The bytes are not those that were published, or the policy does not give the actions that were tested.</summary>
    Damaged,

    /// <summary>The file is no policy of this service, or of a version that this package does not know.</summary>
    NotAPolicy,

    /// <summary>There is no native ONNX Runtime for this machine, or it is older than the managed one.</summary>
    NoRuntime,

    /// <summary>The run has published no such model, and never will.</summary>
    NoModel,

    /// <summary>The service has no such run.</summary>
    RunNotFound,

    /// <summary>The service refuses the caller.</summary>
    Refused,

    /// <summary>The service does not answer.</summary>
    Unavailable,

    /// <summary>The new model takes other observations or gives other actions than the one before.</summary>
    OtherSpaces,
}

/// <summary>
/// A policy cannot be loaded or followed. The message says what to do. What is wrong with an observation is an
/// <see cref="ArgumentException"/> of the call.
/// </summary>
public sealed class PolicyException : Exception
{
    /// <summary>Makes an exception of an unknown reason.</summary>
    public PolicyException()
        : this(PolicyErrorReason.Unknown, "The policy cannot be used.")
    {
    }

    /// <summary>Makes an exception of an unknown reason.</summary>
    public PolicyException(string message)
        : this(PolicyErrorReason.Unknown, message)
    {
    }

    /// <summary>Makes an exception of an unknown reason.</summary>
    public PolicyException(string message, Exception? innerException)
        : this(PolicyErrorReason.Unknown, message, innerException)
    {
    }

    /// <summary>Makes an exception.</summary>
    public PolicyException(PolicyErrorReason reason, string message, Exception? innerException = null)
        : base(message, innerException) => Reason = reason;

    /// <summary>What kind of problem it is, for programs.</summary>
    public PolicyErrorReason Reason { get; }

    /// <summary>Whether the same call may succeed later.</summary>
    public bool IsTransient => Reason == PolicyErrorReason.Unavailable;
}
