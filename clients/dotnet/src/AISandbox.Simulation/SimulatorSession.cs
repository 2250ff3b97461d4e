using System;
using System.Diagnostics;
using System.Threading.Tasks;
using Grpc.Core;
using Microsoft.Extensions.Logging;

namespace AISandbox.Simulation;

/// <summary>
/// One session of a simulator, as environment.proto describes it: a reply to every request, in order. Whatever carries the messages
/// calls <see cref="HandleAsync"/> with one request at a time and disposes of the session when its stream ends.
/// </summary>
public sealed class SimulatorSession : IDisposable
{
    /// <summary>The version of the contract that this package implements.</summary>
    public const uint ProtocolVersion = 1;

    /// <summary>Not one alone: the first requests of a program are long because their code is compiled.</summary>
    private const int LongRequestsInRow = 4;

    private const int VeryLong = 200;
    private const long MostBytes = int.MaxValue - (1 << 20);

    private readonly Simulator simulator;
    private readonly TaskCompletionSource<bool> freed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private SessionWorker? worker;
    private int longRequests;
    private SessionMessages? messages;
    private int reserved;
    private bool wasReset;
    private string run = "";
    private LogLevel level = LogLevel.Information;

    internal SimulatorSession(Simulator simulator)
    {
        this.simulator = simulator;
        worker = simulator.SessionPump?.Add(Handle, Free);
    }

    /// <summary>
    /// The reply to a request. It is valid until the next call, which overwrites it. Throws <see cref="RpcException"/> with the status
    /// that ends the stream.
    /// </summary>
    /// <remarks>
    /// Runs in the caller's thread, until several requests in a row were long; from then on in a thread of its own. With
    /// <see cref="SimulatorOptions.UsePump"/> it runs in <see cref="Simulator.Pump"/>. A caller that gives up waiting disposes of the session: its
    /// environments are freed when they return.
    /// </remarks>
    public ValueTask<V1.SimulatorReply> HandleAsync(V1.SimulatorRequest request)
    {
        if (worker is not null)
            return worker.HandleAsync(request);
        var begun = Stopwatch.GetTimestamp();
        var reply = Handle(request)!; // without a pump nothing waits for a tick
        var seconds = (Stopwatch.GetTimestamp() - begun) / (double)Stopwatch.Frequency;
        var limit = simulator.Options.LongRequestThreshold.TotalSeconds;
        longRequests = seconds > limit ? longRequests + 1 : 0;
        if (longRequests == LongRequestsInRow || seconds > VeryLong * limit)
            worker = new SessionThread(Handle, Free, simulator.Spec.Name);
        return new ValueTask<V1.SimulatorReply>(reply);
    }

    /// <summary>Frees the environments, as soon as a step that is being taken has returned.</summary>
    public void Dispose()
    {
        if (worker is null)
            Free();
        else
            worker.Dispose();
    }

    /// <summary>Disposes of the session; completed when its environments are free.</summary>
    internal Task EndAsync()
    {
        Dispose();
        return freed.Task;
    }

    /// <summary>The reply to a request, or, for null, to the one that waits for a tick; null: it waits for another tick.</summary>
    private V1.SimulatorReply? Handle(V1.SimulatorRequest? request)
    {
        try
        {
            return request is null ? messages!.Continue() : Answer(request);
        }
        catch (EnvironmentFailedException error)
        {
            simulator.Logger.LogError(error, "Run {Run}: {Message}", run, error.Message);
            // DATA_LOSS: a client does not try the same again.
            var code = error.Threw ? StatusCode.Internal : StatusCode.DataLoss;
            throw new RpcException(new Status(code, error.Message));
        }
        catch (Exception error) when (error is not RpcException)
        {
            var what = request?.RequestCase.ToString() ?? "Tick";
            simulator.Logger.LogError(error, "Run {Run}: the simulation failed on {Request}", run, what);
            throw new RpcException(new Status(StatusCode.Internal, $"the simulation failed on {what}: {error.GetType().Name}: {error.Message}"));
        }
    }

    private V1.SimulatorReply? Answer(V1.SimulatorRequest request)
    {
        if (messages is null)
        {
            return request.RequestCase == V1.SimulatorRequest.RequestOneofCase.Open
                ? Open(request.Open)
                : throw Ended(StatusCode.InvalidArgument, "the first request of a session is open");
        }
        switch (request.RequestCase)
        {
            case V1.SimulatorRequest.RequestOneofCase.Step:
                if (!wasReset)
                    return Refusal(V1.SimulatorErrorCode.OutOfOrder, "step: the first step needs a reset before it");
                if (messages.ReadActions(request.Step.Actions) is { } problem)
                    return Refusal(V1.SimulatorErrorCode.InvalidArgument, $"step.actions: {problem}");
                return messages.ReadParameters(null, request.Step.NextParameters, "step.next_parameters") is { } wrong
                    ? Refusal(V1.SimulatorErrorCode.InvalidArgument, wrong)
                    : messages.Step();
            case V1.SimulatorRequest.RequestOneofCase.Reset:
                var seeds = request.Reset.Seeds;
                if (seeds.Count != 0 && seeds.Count != messages.Batch.Count)
                    return Refusal(
                        V1.SimulatorErrorCode.InvalidArgument,
                        $"reset.seeds: got {seeds.Count}, expected none or one for each of {messages.Batch.Count} environments");
                if (messages.ReadParameters(request.Reset.Parameters, request.Reset.EnvironmentParameters, "reset.environment_parameters")
                    is { } refused)
                    return Refusal(V1.SimulatorErrorCode.InvalidArgument, refused);
                wasReset = true;
                return messages.Reset(seeds);
            case V1.SimulatorRequest.RequestOneofCase.Open:
                return Refusal(V1.SimulatorErrorCode.OutOfOrder, "open: the session is open already");
            default:
                return Refusal(V1.SimulatorErrorCode.InvalidArgument, "request: none of open, reset and step is set");
        }
    }

    private V1.SimulatorReply Open(V1.OpenRequest open)
    {
        if (open.ProtocolVersion != ProtocolVersion)
            throw Ended(
                StatusCode.FailedPrecondition,
                $"the client speaks protocol version {open.ProtocolVersion}, this simulator {ProtocolVersion}");
        if (open.Environments is < 1 or > int.MaxValue)
            throw Ended(StatusCode.InvalidArgument, $"open.environments: must be at least 1, got {open.Environments}");
        SimulationOptions options;
        try
        {
            options = OptionDeclaration.Read(simulator.Spec.Options, open.Options);
        }
        catch (InvalidOptionException error)
        {
            throw Ended(StatusCode.InvalidArgument, $"open.options: {error.Message}");
        }
        CheckSize(open.Environments);
        // A run has an evaluation every few thousand steps: each of them is of no interest to a person.
        (run, level) = (open.RunId, open.Evaluation ? LogLevel.Debug : LogLevel.Information);
        simulator.Reserve((int)open.Environments);
        PoolThreads.Reserve();
        reserved = (int)open.Environments;
        messages = new SessionMessages(simulator.Make(reserved, options));
        var patience = simulator.Options.AskedReplyTimeout;
        simulator.Logger.Log(
            level,
            "Session opened: run {Run}, {Environments} environments{Evaluation}{Patience}", run, reserved, open.Evaluation ? ", for an evaluation" : "",
            patience > TimeSpan.Zero ? $"; the trainer is asked to wait up to {patience} for each reply" : "");
        return new V1.SimulatorReply
        {
            Open = new V1.OpenReply { Spec = messages.Batch.Spec.ToContract(), ReplyTimeoutSeconds = patience.TotalSeconds },
        };
    }

    /// <summary>Refuses what no message can carry, before anything is allocated.</summary>
    private void CheckSize(uint environments)
    {
        if (SizeProblem(simulator.Spec, environments, MostBytes, "2 GiB") is { } problem)
            throw Ended(StatusCode.InvalidArgument, $"open.environments: {problem}");
    }

    /// <summary>Why the replies of so many environments do not fit into messages of so many bytes; null if they do.</summary>
    internal static string? SizeProblem(EnvironmentSpec spec, long environments, long limit, string words)
    {
        Leaf? largest = null;
        long bytes = 0;
        foreach (var leaf in spec.ObservationLeaves)
        {
            bytes += leaf.RowBytes;
            largest = largest is null || leaf.RowBytes > largest.RowBytes ? leaf : largest;
        }
        // The reply may carry all observations twice: an episode may end in every environment.
        if (2 * bytes * environments <= limit)
            return null;
        var name = largest!.Key.Length > 0 ? $"observation '{largest.Key}'" : "the observation";
        return FormattableString.Invariant(
            $"the observations of {environments} environments do not fit into a message of {words}; {name} alone has {largest.RowBytes} bytes");
    }

    private void Free()
    {
        if (reserved > 0)
            FreeEnvironments();
        freed.TrySetResult(true);
    }

    private void FreeEnvironments()
    {
        var environments = reserved;
        reserved = 0;
        try
        {
            messages?.Batch.Dispose();
        }
        catch (Exception error)
        {
            simulator.Logger.LogError(error, "Run {Run}: environments could not be disposed of", run);
        }
        PoolThreads.Release();
        simulator.Release(environments);
        if (messages is not null)
            simulator.Logger.Log(level, "Session ended: run {Run}", run);
    }

    private static RpcException Ended(StatusCode code, string message) => new(new Status(code, message));

    private static V1.SimulatorReply Refusal(V1.SimulatorErrorCode code, string message) =>
        new() { Error = new V1.SimulatorError { Code = code, Message = message } };
}
