using System;
using System.Diagnostics;
using System.Threading;
using System.Threading.Tasks;
using AISandbox.V1;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.Extensions.Logging;

namespace AISandbox.Client;

/// <summary>
/// The channels of a client, and how one call is made: with a deadline, repeated while errors are transient, as an
/// activity, its errors translated.
/// </summary>
internal sealed class Connection : IDisposable
{
    private readonly GrpcChannel _channel;
    private readonly GrpcChannel? _inferenceChannel;
    private readonly CancellationTokenSource _disposed = new();

    public Connection(AISandboxClientOptions options, ILoggerFactory loggers, TimeProvider time)
    {
        Options = options;
        Time = time;
        Log = loggers.CreateLogger("AISandbox.Client");
        _channel = Channels.Open(options.Address, options, loggers, time);
        Invoker = _channel.CreateCallInvoker();
        Service = new PolicyTrainerService.PolicyTrainerServiceClient(Invoker);
        Inference = Service;
        if (!string.IsNullOrEmpty(options.InferenceAddress))
        {
            _inferenceChannel = Channels.Open(options.InferenceAddress!, options, loggers, time);
            Inference = new PolicyTrainerService.PolicyTrainerServiceClient(_inferenceChannel);
        }
    }

    public AISandboxClientOptions Options { get; }

    public string InferenceAddress => string.IsNullOrEmpty(Options.InferenceAddress) ? Options.Address : Options.InferenceAddress!;

    public TimeProvider Time { get; }

    public ILogger Log { get; }

    public CallInvoker Invoker { get; }

    public PolicyTrainerService.PolicyTrainerServiceClient Service { get; }

    public PolicyTrainerService.PolicyTrainerServiceClient Inference { get; }

    /// <summary>Is cancelled when the client is disposed.</summary>
    public CancellationToken Disposed => _disposed.Token;

    /// <summary>
    /// Makes a call that may be repeated: all of the service's may, those that start a run by their request id. Throws
    /// <see cref="AISandboxException"/>, and <see cref="OperationCanceledException"/> with the caller's token.
    /// </summary>
    public async Task<TResult> CallAsync<TRequest, TResponse, TResult>(
        Method<TRequest, TResponse, TResult> method, TRequest request, string? run, CancellationToken cancellationToken)
        where TRequest : class
        where TResponse : class
    {
        var (client, address) = method.IsInference ? (Inference, InferenceAddress) : (Service, Options.Address);
        using var activity = AISandboxTelemetry.Source.StartActivity(method.Name, ActivityKind.Client);
        activity?.SetTag("aisandbox.run", run);
        var since = Time.GetTimestamp();
        var options = new CallOptions(
            deadline: Time.GetUtcNow().UtcDateTime + Options.Timeout, cancellationToken: cancellationToken);
        Backoff? backoff = null;
        RpcException? before = null;
        while (true)
        {
            RpcException failure;
            try
            {
                var response = await method.Call(client, request, options).ResponseAsync.ConfigureAwait(false);
                return method.Translate(response);
            }
            catch (RpcException error)
            {
                // That time was over is less to know than why an attempt has failed.
                failure = error.StatusCode == StatusCode.DeadlineExceeded ? before ?? error : error;
            }
            catch (ObjectDisposedException) when (_disposed.IsCancellationRequested)
            {
                throw new ObjectDisposedException(nameof(AISandboxClient));
            }

            before = failure;
            backoff ??= new Backoff(Options, Time);
            var delay = backoff.Next();
            if (!Errors.IsTransient(failure) || cancellationToken.IsCancellationRequested || _disposed.IsCancellationRequested
                || Time.GetElapsedTime(since) + delay >= Options.Timeout)
            {
                activity?.SetStatus(ActivityStatusCode.Error, failure.Status.Detail);
                throw _disposed.IsCancellationRequested ? new ObjectDisposedException(nameof(AISandboxClient)) : Errors.Translate(failure, address, cancellationToken);
            }

            AISandboxTelemetry.Retries.Add(1);
            Log.LogWarning("{Call} {Run}: {Error}; trying again in {Delay}", method.Name, run, Errors.Describe(failure, address), delay);
            await backoff.DelayAsync(delay, cancellationToken).ConfigureAwait(false);
        }
    }

    public void Dispose()
    {
        if (_disposed.IsCancellationRequested)
        {
            return;
        }

        _disposed.Cancel();
        _channel.Dispose();
        _inferenceChannel?.Dispose();
    }
}

/// <summary>A unary method of the service, and what this package makes of its response.</summary>
internal sealed record Method<TRequest, TResponse, TResult>(
    string Name,
    Func<PolicyTrainerService.PolicyTrainerServiceClient, TRequest, CallOptions, AsyncUnaryCall<TResponse>> Call,
    Func<TResponse, TResult> Translate,
    bool IsInference = false)
    where TRequest : class
    where TResponse : class;
