using System;
using System.Diagnostics;
using System.Globalization;
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
    private SessionThread? thread;
    private int longRequests;
    private SessionMessages? messages;
    private int reserved;
    private bool wasReset;
    private string run = "";

    internal SimulatorSession(Simulator simulator) => this.simulator = simulator;

    /// <summary>
    /// The reply to a request. It is valid until the next call, which overwrites it. Throws <see cref="RpcException"/> with the status
    /// that ends the stream.
    /// </summary>
    /// <remarks>
    /// Runs in the caller's thread, until several requests in a row were long; from then on in a thread of its own. A caller that gives up waiting
    /// disposes of the session: its environments are freed when they return.
    /// </remarks>
    public ValueTask<V1.SimulatorReply> HandleAsync(V1.SimulatorRequest request)
    {
        if (thread is not null)
            return thread.HandleAsync(request);
        var begun = Stopwatch.GetTimestamp();
        var reply = Handle(request);
        var seconds = (Stopwatch.GetTimestamp() - begun) / (double)Stopwatch.Frequency;
        var limit = simulator.Options.LongRequest.TotalSeconds;
        longRequests = seconds > limit ? longRequests + 1 : 0;
        if (longRequests == LongRequestsInRow || seconds > VeryLong * limit)
            thread = new SessionThread(Handle, Free, simulator.Spec.Name);
        return new ValueTask<V1.SimulatorReply>(reply);
    }

    /// <summary>Frees the environments, as soon as a step that is being taken has returned.</summary>
    public void Dispose()
    {
        if (thread is null)
            Free();
        else
            thread.Dispose();
    }

    private V1.SimulatorReply Handle(V1.SimulatorRequest request)
    {
        try
        {
            return Answer(request);
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
            simulator.Logger.LogError(error, "Run {Run}: the simulation failed on {Request}", run, request.RequestCase);
            throw new RpcException(new Status(
                StatusCode.Internal, $"the simulation failed on {request.RequestCase}: {error.GetType().Name}: {error.Message}"));
        }
    }

    private V1.SimulatorReply Answer(V1.SimulatorRequest request)
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
                return messages.ReadActions(request.Step.Actions) is { } problem
                    ? Refusal(V1.SimulatorErrorCode.InvalidArgument, $"step.actions: {problem}")
                    : messages.Step();
            case V1.SimulatorRequest.RequestOneofCase.Reset:
                var seeds = request.Reset.Seeds;
                if (seeds.Count != 0 && seeds.Count != messages.Batch.Count)
                    return Refusal(
                        V1.SimulatorErrorCode.InvalidArgument,
                        $"reset.seeds: got {seeds.Count}, expected none or one for each of {messages.Batch.Count} environments");
                var reply = messages.Reset(seeds);
                wasReset = true;
                return reply;
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
        run = open.RunId;
        simulator.Reserve((int)open.Environments);
        reserved = (int)open.Environments;
        messages = new SessionMessages(simulator.Make(reserved, options));
        var patience = simulator.Options.AskedReplyTimeout;
        simulator.Logger.LogInformation(
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
        Leaf? largest = null;
        long bytes = 0;
        foreach (var leaf in simulator.Spec.ObservationLeaves)
        {
            bytes += leaf.RowBytes;
            largest = largest is null || leaf.RowBytes > largest.RowBytes ? leaf : largest;
        }
        // The reply may carry all observations twice: an episode may end in every environment.
        if (2 * bytes * environments <= MostBytes)
            return;
        var name = largest!.Key.Length > 0 ? $"observation '{largest.Key}'" : "the observation";
        throw Ended(
            StatusCode.InvalidArgument,
            $"open.environments: the observations of {environments} environments do not fit into a message of 2 GiB; {name} alone has {largest.RowBytes.ToString(CultureInfo.InvariantCulture)} bytes");
    }

    private void Free()
    {
        var environments = reserved;
        reserved = 0;
        if (environments == 0)
            return;
        try
        {
            messages?.Batch.Dispose();
        }
        catch (Exception error)
        {
            simulator.Logger.LogError(error, "Run {Run}: environments could not be disposed of", run);
        }
        simulator.Release(environments);
        if (messages is not null)
            simulator.Logger.LogInformation("Session ended: run {Run}", run);
    }

    private static RpcException Ended(StatusCode code, string message) => new(new Status(code, message));

    private static V1.SimulatorReply Refusal(V1.SimulatorErrorCode code, string message) =>
        new() { Error = new V1.SimulatorError { Code = code, Message = message } };
}
