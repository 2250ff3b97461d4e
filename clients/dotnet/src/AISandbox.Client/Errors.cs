using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Security.Authentication;
using System.Threading;
using Google.Rpc;
using Grpc.Core;

namespace AISandbox.Client;

/// <summary>Translates gRPC's exceptions into those of this package: the one place that reads them.</summary>
internal static class Errors
{
    /// <summary>Whether the same call may succeed at another moment: the service says so, or no service has answered.</summary>
    public static bool IsTransient(RpcException error) =>
        CertificateProblem(error) is null && (error.StatusCode == StatusCode.Unavailable || IsOfTransport(error));

    /// <summary>The exception for <paramref name="error"/>: the caller's cancellation, or an <see cref="AISandboxException"/>.</summary>
    public static Exception Translate(RpcException error, string address, CancellationToken cancellationToken)
    {
        if (cancellationToken.IsCancellationRequested)
        {
            return new OperationCanceledException("the call was cancelled", error, cancellationToken);
        }

        var (reason, violations) = Details(error);
        var transient = IsTransient(error);
        // Broken connections have many codes; to a caller all of them are one.
        var code = transient || CertificateProblem(error) is not null ? StatusCode.Unavailable : error.StatusCode;
        return new AISandboxException(code, Describe(error, address), transient || code == StatusCode.DeadlineExceeded, reason, violations, error);
    }

    /// <summary>What the service at <paramref name="address"/> says, or why it was not reached.</summary>
    public static string Describe(RpcException error, string address)
    {
        var detail = error.Status.Detail.Length > 0 ? error.Status.Detail : error.StatusCode.ToString();
        if (error.StatusCode == StatusCode.DeadlineExceeded)
        {
            return $"{address}: no answer in time";
        }

        // Only what the client itself has found has an exception.
        var found = error.Status.DebugException?.GetBaseException();
        if (found is System.Net.Sockets.SocketException)
        {
            return $"{address}: cannot be reached: {found.Message}. Is the service running, and is this its address?";
        }

        if (CertificateProblem(error) is { } problem)
        {
            return $"{address}: {problem}";
        }

        // gRPC's words for a connection that was closed before an answer.
        if (found is HttpRequestException or IOException && address.IndexOf("https://", StringComparison.Ordinal) < 0)
        {
            return $"{address}: {detail} {found.Message} Does the service use TLS? Then its address begins with https://.";
        }

        var cause = found?.Message;
        return cause is null ? detail : detail.Contains(cause, StringComparison.Ordinal) ? $"{address}: {detail}" : $"{address}: {detail} {cause}";
    }

    /// <summary>What keeps TLS from being agreed on; null: it is something else. No repetition of a call changes it.</summary>
    private static string? CertificateProblem(RpcException error)
    {
        for (var cause = error.Status.DebugException; cause is not null; cause = cause.InnerException)
        {
            if (cause is AuthenticationException)
            {
                // What TLS says of bytes that are none of its own, by its words in .NET.
                var problem = cause.GetBaseException().Message;
                return problem.Contains("frame size", StringComparison.Ordinal) || problem.Contains("wrong version number", StringComparison.OrdinalIgnoreCase)
                    ? "what listens there does not use TLS: its address begins with http://"
                    : problem;
            }
        }

        return null;
    }

    // An error that the client itself has made from a broken connection keeps the exception that it was made from.
    private static bool IsOfTransport(RpcException error)
    {
        if (error.StatusCode is StatusCode.DeadlineExceeded)
        {
            return false;
        }

        for (var cause = error.Status.DebugException; cause is not null; cause = cause.InnerException)
        {
            if (cause is HttpRequestException or IOException or System.Net.Sockets.SocketException)
            {
                return true;
            }
        }

        return false;
    }

    private static (string? Reason, IReadOnlyList<FieldViolation>? Violations) Details(RpcException error)
    {
        Google.Rpc.Status? status;
        try
        {
            status = error.GetRpcStatus();
        }
        catch (Google.Protobuf.InvalidProtocolBufferException)
        {
            return (null, null);
        }

        var violations = status?.GetDetail<BadRequest>()?.FieldViolations.Select(each => new FieldViolation(each.Field, each.Description));
        var reason = status?.GetDetail<ErrorInfo>()?.Reason ?? status?.GetDetail<PreconditionFailure>()?.Violations.FirstOrDefault()?.Type;
        return (reason, violations?.ToArray());
    }
}
