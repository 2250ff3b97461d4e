using System;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using Grpc.Core;
using Microsoft.Extensions.Hosting;

namespace AISandbox.Simulation.AspNetCore;

/// <summary>Carries the messages of EnvironmentService between Kestrel and the sessions of the simulator.</summary>
internal sealed class SimulatorService : V1.EnvironmentService.EnvironmentServiceBase
{
    private readonly Simulator simulator;
    private readonly CancellationToken stopping;

    public SimulatorService(SimulatorRegistration registration, IHostApplicationLifetime lifetime)
    {
        simulator = registration.Simulator ?? throw new InvalidOperationException("MapSimulation was not called");
        stopping = lifetime.ApplicationStopping;
    }

    public override Task<V1.DescribeResponse> Describe(V1.DescribeRequest request, ServerCallContext context) =>
        Task.FromResult(simulator.Describe());

    public override async Task Session(
        IAsyncStreamReader<V1.SimulatorRequest> requestStream, IServerStreamWriter<V1.SimulatorReply> responseStream, ServerCallContext context)
    {
        try
        {
            using var ending = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, stopping);
            using var session = simulator.CreateSession();
            await Answer(session, requestStream, responseStream, ending.Token).ConfigureAwait(false);
        }
        catch (Exception error) when (error is OperationCanceledException or IOException)
        {
            // Not a failure: the client is gone, or this program stops. A trainer waits for an unavailable simulator to come back.
            throw new RpcException(stopping.IsCancellationRequested
                ? new Status(StatusCode.Unavailable, "the simulator is stopping")
                : new Status(StatusCode.Cancelled, "the client ended the session"));
        }
    }

    private static async Task Answer(
        SimulatorSession session, IAsyncStreamReader<V1.SimulatorRequest> requests, IServerStreamWriter<V1.SimulatorReply> replies,
        CancellationToken ending)
    {
        while (await requests.MoveNext(ending).ConfigureAwait(false))
        {
            var pending = session.HandleAsync(requests.Current);
            // A session in a thread of its own: what it does there cannot be interrupted, so it is left to itself.
            var reply = pending.IsCompleted
                ? await pending.ConfigureAwait(false)
                : await pending.AsTask().WaitAsync(ending).ConfigureAwait(false);
            // A write that is cancelled resets the stream, and the client would not get the status.
            await replies.WriteAsync(reply, CancellationToken.None).ConfigureAwait(false);
        }
    }
}
