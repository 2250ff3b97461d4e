using System;
using System.Threading;
using System.Threading.Tasks;
using AISandbox.Client;
using Grpc.Core;
using Microsoft.Extensions.Logging;

namespace AISandbox.Simulation;

/// <summary>
/// One place of a simulator in a pool, as simulator_pool.proto describes it: registers, serves one session after another, and attaches again
/// when its stream is lost.
/// </summary>
internal sealed class AttachedPlace
{
    /// <summary>A service that answers pings, and not the registration, is none.</summary>
    private static readonly TimeSpan RegistrationLimit = TimeSpan.FromSeconds(30);

    private static readonly TimeSpan BusyWarning = TimeSpan.FromSeconds(10);

    private readonly Simulator simulator;
    private readonly V1.SimulatorPoolService.SimulatorPoolServiceClient service;
    private readonly SimulatorAttachmentOptions options;
    private readonly string instance;
    private readonly Backoff backoff;

    public AttachedPlace(Simulator simulator, CallInvoker invoker, SimulatorAttachmentOptions options, string instance)
    {
        (this.simulator, this.options, this.instance) = (simulator, options, instance);
        service = new V1.SimulatorPoolService.SimulatorPoolServiceClient(invoker);
        backoff = new Backoff(options.ToClientOptions(), options.Time);
    }

    private ILogger Log => simulator.Logger;

    /// <summary>Throws <see cref="AttachmentRefusedException"/>, and <see cref="OperationCanceledException"/> when it is cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            string lost;
            try
            {
                await AttachAsync(cancellationToken).ConfigureAwait(false);
                lost = AttachedStream.Ended().Status.Detail;
            }
            catch (RpcException error) when (IsRefusal(error.StatusCode))
            {
                throw new AttachmentRefusedException(error.StatusCode, Refusal(error), error);
            }
            catch (Exception error) when (error is not OperationCanceledException || !cancellationToken.IsCancellationRequested)
            {
                // Also what the provider of tokens throws: it may have a network between.
                lost = Describe(error);
            }
            cancellationToken.ThrowIfCancellationRequested();
            simulator.Explain(lost);
            var delay = backoff.Next();
            Log.LogWarning(
                "{Instance}, pool {Pool} of {Address}: {Error}; attaching again in {Delay:0.0} s, attempt {Attempt}",
                instance, options.Pool, options.Address, lost, delay.TotalSeconds, backoff.Attempts);
            await backoff.DelayAsync(delay, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Serves sessions on one stream, until it ends.</summary>
    private async Task AttachAsync(CancellationToken cancellationToken)
    {
        using var stream = new AttachedStream(
            service.Attach(cancellationToken: CancellationToken.None), options.GoodbyeLimit, cancellationToken);
        var attached = false;
        try
        {
            await RegisterAsync(stream).ConfigureAwait(false);
            attached = true;
            simulator.CountAttached(1);
            backoff.Reset();
            while (await stream.ReadAsync().ConfigureAwait(false) is { } message)
                if (message.MessageCase == V1.AttachResponse.MessageOneofCase.Request)
                    await ServeSessionAsync(stream, message.Request).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            await stream.LeaveAsync().ConfigureAwait(false);
            throw;
        }
        finally
        {
            if (attached)
                simulator.CountAttached(-1);
        }
    }

    private async Task RegisterAsync(AttachedStream stream)
    {
        await stream.WriteAsync(new V1.AttachRequest
        {
            Register = new V1.RegisterSimulator
            {
                Pool = options.Pool,
                Instance = instance,
                ProtocolVersion = SimulatorSession.ProtocolVersion,
                Environments = (uint)options.Environments,
                Spec = simulator.Spec.ToContract(),
                Name = simulator.Spec.Name,
                Version = simulator.Spec.Version,
            },
        }).ConfigureAwait(false);
        var answer = stream.ReadAsync();
        using (var stopDelay = new CancellationTokenSource())
        {
            if (await Task.WhenAny(answer, options.Time.DelayAsync(RegistrationLimit, stopDelay.Token)).ConfigureAwait(false) != answer)
                throw new RpcException(new Status(StatusCode.Unavailable, $"the service did not answer the registration within {RegistrationLimit.TotalSeconds:0} s"));
            stopDelay.Cancel();
        }
        if (await answer.ConfigureAwait(false) is not { MessageCase: V1.AttachResponse.MessageOneofCase.Registered } message)
            throw new RpcException(new Status(StatusCode.Unavailable, "the service did not answer the registration"));
        Log.LogInformation(
            "{Name} is attached to pool {Pool} of {Address} (version {Version}) as {Instance}, with {Environments} environments",
            simulator.Spec.Name, options.Pool, options.Address, message.Registered.ServiceVersion, instance, options.Environments);
    }

    /// <summary>A session, from its first request to its end on both sides.</summary>
    private async Task ServeSessionAsync(AttachedStream stream, V1.SimulatorRequest request)
    {
        var session = simulator.CreateSession();
        stream.InSession = true;
        try
        {
            var failure = await AnswerAsync(stream, session, request).ConfigureAwait(false);
            await FreeAsync(stream, session).ConfigureAwait(false);
            await stream.WriteAsync(new V1.AttachRequest
            {
                SessionEnded = new V1.SessionEnded { Code = (int)(failure?.StatusCode ?? StatusCode.OK), Message = failure?.Status.Detail ?? "" },
            }).ConfigureAwait(false);
            stream.InSession = false;
            // What the trainer had sent before it knew is discarded.
            while (failure is not null
                && await stream.ReadAsync().ConfigureAwait(false) is { MessageCase: not V1.AttachResponse.MessageOneofCase.SessionEnded })
            {
            }
        }
        catch (Exception error) when (error is not OperationCanceledException)
        {
            // The stream is lost: the place is registered again when its environments are free.
            await FreeAsync(stream, session).ConfigureAwait(false);
            throw;
        }
        finally
        {
            session.Dispose();
        }
    }

    /// <summary>Answers requests until the service ends the session (null), or the session fails.</summary>
    private static async Task<RpcException?> AnswerAsync(AttachedStream stream, SimulatorSession session, V1.SimulatorRequest request)
    {
        while (true)
        {
            var handling = HandleAsync(session, request);
            if (!handling.IsCompleted && await stream.EndsBeforeAsync(handling).ConfigureAwait(false))
                return null;
            V1.SimulatorReply reply;
            try
            {
                reply = await handling.ConfigureAwait(false);
            }
            catch (RpcException error)
            {
                return error;
            }
            await stream.WriteAsync(new V1.AttachRequest { Reply = reply }).ConfigureAwait(false);
            V1.AttachResponse? message;
            do
            {
                message = await stream.ReadAsync().ConfigureAwait(false) ?? throw AttachedStream.Ended();
                if (message.MessageCase == V1.AttachResponse.MessageOneofCase.SessionEnded)
                    return null;
            }
            while (message.MessageCase != V1.AttachResponse.MessageOneofCase.Request);
            request = message.Request;
        }
    }

    /// <summary>What the session answers, with its failures in the task.</summary>
    private static async Task<V1.SimulatorReply> HandleAsync(SimulatorSession session, V1.SimulatorRequest request) =>
        await session.HandleAsync(request).ConfigureAwait(false);

    /// <summary>Waits until the environments of a session are free: only then the place is.</summary>
    private async Task FreeAsync(AttachedStream stream, SimulatorSession session)
    {
        var free = session.EndAsync();
        if (free.IsCompleted)
            return;
        using var stopDelay = new CancellationTokenSource();
        var late = options.Time.DelayAsync(BusyWarning, stopDelay.Token);
        if (await stream.UntilAsync(Task.WhenAny(free, late)).ConfigureAwait(false) == late)
        {
            Log.LogWarning("{Instance}: the session has ended, and a step of it is still being taken; the place is free when it returns", instance);
            await stream.UntilAsync(free).ConfigureAwait(false);
        }
        stopDelay.Cancel();
    }

    /// <summary>As simulator_pool.proto says; a service without the method is an older one.</summary>
    private static bool IsRefusal(StatusCode code) =>
        code is StatusCode.InvalidArgument or StatusCode.FailedPrecondition or StatusCode.Unauthenticated or StatusCode.PermissionDenied
            or StatusCode.Unimplemented;

    private string Refusal(RpcException error) => error.StatusCode == StatusCode.Unimplemented
        ? $"{options.Address} has no SimulatorPoolService: it is another service, or an older version ({Describe(error)})"
        : error.Status.Detail.Length > 0 ? error.Status.Detail : error.StatusCode.ToString();

    private static string Describe(Exception error)
    {
        if (error is not RpcException failure)
            return $"{error.GetType().Name}: {error.Message}";
        var detail = failure.Status.Detail.Length > 0 ? failure.Status.Detail : failure.StatusCode.ToString();
        var cause = failure.Status.DebugException?.GetBaseException().Message;
        return cause is null || detail.Contains(cause, StringComparison.Ordinal) ? detail : $"{detail} {cause}";
    }
}
