using System.Runtime.InteropServices;
using AISandbox.V1;
using Google.Protobuf;

namespace AISandbox.Simulation.Tests;

/// <summary>Requests as a trainer sends them.</summary>
internal static class Requests
{
    public static SimulatorRequest Open(uint environments, uint version = 1) =>
        new() { Open = new OpenRequest { ProtocolVersion = version, Environments = environments, RunId = "run-1" } };

    public static SimulatorRequest Reset(params ulong[] seeds) => new() { Reset = new ResetRequest { Seeds = { seeds } } };

    public static SimulatorRequest Step(params long[] actions) => new()
    {
        Step = new StepRequest
        {
            Actions = new Tensor
            {
                Dtype = DataType.Int64,
                Shape = { actions.Length },
                Data = ByteString.CopyFrom(MemoryMarshal.AsBytes<long>(actions)),
            },
        },
    };

    public static float[] Floats(this Tensor tensor) => MemoryMarshal.Cast<byte, float>(tensor.Data.Span).ToArray();

    public static float[] Floats(this ByteString data) => MemoryMarshal.Cast<byte, float>(data.Span).ToArray();

    /// <summary>The reply, which must have come at once.</summary>
    public static SimulatorReply Handle(this SimulatorSession session, SimulatorRequest request) =>
        session.HandleAsync(request).AsTask().GetAwaiter().GetResult();
}
