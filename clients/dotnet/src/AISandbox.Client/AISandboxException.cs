using System;
using System.Collections.Generic;
using Grpc.Core;

namespace AISandbox.Client;

/// <summary>A call ended with an error; the only exception of a call beside <see cref="OperationCanceledException"/>.</summary>
public sealed class AISandboxException : Exception
{
    internal AISandboxException(
        StatusCode statusCode, string message, bool isTransient = false, string? reason = null,
        IReadOnlyList<FieldViolation>? fieldViolations = null, Exception? innerException = null)
        : base(message, innerException)
    {
        StatusCode = statusCode;
        IsTransient = isTransient;
        Reason = reason ?? statusCode.ToString();
        FieldViolations = fieldViolations ?? Array.Empty<FieldViolation>();
    }

    /// <summary>The kind of error, as <c>policy_trainer.proto</c> specifies it.</summary>
    public StatusCode StatusCode { get; }

    /// <summary>One word in CamelCase for programs: the service's own reason, otherwise the name of the status code.</summary>
    public string Reason { get; }

    /// <summary>The fields of the request that were refused; empty for another error, and of an <see cref="ActStream"/>, where the message names the field.</summary>
    public IReadOnlyList<FieldViolation> FieldViolations { get; }

    /// <summary>Whether the same call may succeed later. Calls have then already been retried until their deadline.</summary>
    public bool IsTransient { get; }
}

/// <summary>A field of a request, and the rule that it breaks.</summary>
/// <param name="Field">The path of the field, <c>hyperparameters.gamma</c>.</param>
/// <param name="Description">The rule, and the value that breaks it.</param>
public sealed record FieldViolation(string Field, string Description);

/// <summary>A run that was waited for has failed.</summary>
public sealed class TrainingFailedException : Exception
{
    internal TrainingFailedException(TrainingStatus status)
        : base($"run {status.Run} failed: {status.Failure?.Reason}: {status.Failure?.Message}") => Status = status;

    /// <summary>The last status of the run.</summary>
    public TrainingStatus Status { get; }

    /// <summary>One word in CamelCase for programs: <c>SimulatorUnreachable</c>.</summary>
    public string Reason => Status.Failure?.Reason ?? "Unknown";
}
