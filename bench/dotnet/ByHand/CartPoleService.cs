using AISandbox.V1;
using Google.Protobuf;
using Grpc.Core;
using System.Runtime.InteropServices;

public sealed class CartPoleService : EnvironmentService.EnvironmentServiceBase
{
    static int inUse;

    static readonly EnvironmentSpec Spec = new()
    {
        ObservationSpace = new Space { Box = new Box { Dtype = DataType.Float32, Shape = { 4 } } },
        ActionSpace = new Space { Discrete = new Discrete { N = 2, Names = { "left", "right" } } },
        MaxEpisodeSteps = 500,
    };

    public override Task<DescribeResponse> Describe(DescribeRequest request, ServerCallContext context) =>
        Task.FromResult(new DescribeResponse { ProtocolVersion = 1, Name = "CartPole", Spec = Spec, InUse = (uint)inUse });

    public override async Task Session(
        IAsyncStreamReader<SimulatorRequest> requests,
        IServerStreamWriter<SimulatorReply> replies,
        ServerCallContext context)
    {
        if (!await requests.MoveNext(context.CancellationToken)) return;
        var worlds = Open(requests.Current);                       // local variables: freed with the stream
        Interlocked.Add(ref inUse, worlds.Length);
        try
        {
            await replies.WriteAsync(new SimulatorReply { Open = new OpenReply { Spec = Spec } });
            var ready = false;
            await foreach (var request in requests.ReadAllAsync(context.CancellationToken))
            {
                if (Refusal(request, worlds.Length, ready) is { } error)
                {
                    await replies.WriteAsync(new SimulatorReply { Error = error });
                }
                else if (request.RequestCase == SimulatorRequest.RequestOneofCase.Reset)
                {
                    for (int i = 0; i < worlds.Length; i++)
                        worlds[i].Reset(request.Reset.Seeds.Count > 0 ? request.Reset.Seeds[i] : null);
                    ready = true;
                    await replies.WriteAsync(new SimulatorReply { Reset = new ResetReply { Observations = { Batch(worlds) } } });
                }
                else
                {
                    await replies.WriteAsync(new SimulatorReply { Step = Step(worlds, request.Step) });
                }
            }
        }
        finally
        {
            Interlocked.Add(ref inUse, -worlds.Length);
        }
    }

    // An invalid first request ends the stream.
    static CartPole[] Open(SimulatorRequest request)
    {
        if (request.RequestCase != SimulatorRequest.RequestOneofCase.Open)
            throw new RpcException(new Status(StatusCode.InvalidArgument, "the first request must be open"));
        var open = request.Open;
        if (open.ProtocolVersion != 1)
            throw new RpcException(new Status(StatusCode.FailedPrecondition,
                $"this simulator speaks protocol version 1, the client {open.ProtocolVersion}"));
        if (open.Environments < 1)
            throw new RpcException(new Status(StatusCode.InvalidArgument, "open.environments: must be at least 1"));
        if (open.Options is { Fields.Count: > 0 } options)
            throw new RpcException(new Status(StatusCode.InvalidArgument, $"open.options: {options.Fields.Keys.First()} is unknown"));
        return Enumerable.Range(0, (int)open.Environments).Select(_ => new CartPole()).ToArray();
    }

    // A wrong but harmless request gets an error reply and changes nothing.
    static SimulatorError? Refusal(SimulatorRequest request, int n, bool ready)
    {
        switch (request.RequestCase)
        {
            case SimulatorRequest.RequestOneofCase.Reset:
                return request.Reset.Seeds.Count is var seeds && (seeds == 0 || seeds == n)
                    ? null : Error(SimulatorErrorCode.InvalidArgument, $"reset.seeds: {seeds} seeds for {n} environments");
            case SimulatorRequest.RequestOneofCase.Step when !ready:
                return Error(SimulatorErrorCode.OutOfOrder, "step: reset must come before the first step");
            case SimulatorRequest.RequestOneofCase.Step:
                return Fits(request.Step.Actions, n)
                    ? null : Error(SimulatorErrorCode.InvalidArgument, $"step.actions: must be int64 [{n}], each 0 or 1");
            case SimulatorRequest.RequestOneofCase.Open:
                return Error(SimulatorErrorCode.OutOfOrder, "open: the session is already open");
            default:
                return Error(SimulatorErrorCode.InvalidArgument, "the request is empty");
        }
    }

    static SimulatorError Error(SimulatorErrorCode code, string message) => new() { Code = code, Message = message };

    static bool Fits(Tensor? actions, int n)
    {
        if (actions is null || actions.Dtype != DataType.Int64 || !actions.Shape.SequenceEqual([n]) || actions.Data.Length != 8 * n)
            return false;
        foreach (var action in MemoryMarshal.Cast<byte, long>(actions.Data.Span))
            if (action is < 0 or > 1) return false;
        return true;
    }

    static StepReply Step(CartPole[] worlds, StepRequest request)
    {
        var actions = MemoryMarshal.Cast<byte, long>(request.Actions.Data.Span);
        var (rewards, terminated, truncated) = (new float[worlds.Length], new byte[worlds.Length], new byte[worlds.Length]);
        var final = new List<float>();
        for (int i = 0; i < worlds.Length; i++)
        {
            worlds[i].Step((int)actions[i]);
            rewards[i] = 1f;
            terminated[i] = (byte)(worlds[i].Fallen ? 1 : 0);
            truncated[i] = (byte)(worlds[i].Steps >= 500 ? 1 : 0);
            if (terminated[i] + truncated[i] > 0)
            {
                final.AddRange(worlds[i].State);                   // the last observation of the old episode ...
                worlds[i].Reset(null);                             // ... before the next one starts
            }
        }
        var reply = new StepReply
        {
            Observations = { Batch(worlds) },
            Rewards = ByteString.CopyFrom(MemoryMarshal.AsBytes<float>(rewards)),
            Terminated = ByteString.CopyFrom(terminated),
            Truncated = ByteString.CopyFrom(truncated),
        };
        if (final.Count > 0)
            reply.FinalObservations.Add(Float32(final.ToArray(), final.Count / 4, 4));
        return reply;
    }

    static Tensor Batch(CartPole[] worlds) => Float32(worlds.SelectMany(w => w.State).ToArray(), worlds.Length, 4);

    static Tensor Float32(float[] values, params long[] shape) => new()
    {
        Dtype = DataType.Float32,
        Shape = { shape },
        Data = ByteString.CopyFrom(MemoryMarshal.AsBytes<float>(values)),
    };
}
