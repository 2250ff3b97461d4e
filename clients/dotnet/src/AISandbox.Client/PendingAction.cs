using System;
using System.Threading;
using System.Threading.Tasks;
using Google.Protobuf;
using Grpc.Core;

namespace AISandbox.Client;

/// <summary>An observation that waits for its action. The caller continues on a thread of its own, never the stream's.</summary>
internal sealed class PendingAction : TaskCompletionSource<PolicyAction>
{
    private CancellationTokenRegistration _cancellation;

    public PendingAction(V1.ActRequest request, long since)
        : base(TaskCreationOptions.RunContinuationsAsynchronously) =>
        (Message, Since) = (new V1.ActStreamRequest { Request = request }, since);

    public V1.ActStreamRequest Message { get; }

    /// <summary>When it was asked, as a timestamp of the clock.</summary>
    public long Since { get; }

    /// <summary>Whether its caller has stopped waiting. If it was sent, its answer still comes, in order.</summary>
    public bool IsOver => Task.IsCompleted;

    public void CancelWith(CancellationToken cancellationToken) =>
        _cancellation = cancellationToken.Register(() => TrySetCanceled(cancellationToken));

    /// <summary>Whether it is the first observation of an episode.</summary>
    public bool StartsEpisode
    {
        get => Message.Request.EpisodeStart;
        set => Message.Request.EpisodeStart = value;
    }

    /// <summary>Writes the run and the model of <paramref name="first"/> into the request, or nothing; and the state that it goes on from.</summary>
    public void Address(V1.ActRequest? first, ByteString state)
    {
        var request = Message.Request;
        request.State = state;
        (request.RunId, request.Model, request.Stochastic) = (first?.RunId ?? "", first?.Model ?? "", first?.Stochastic ?? false);
    }

    public void Complete(V1.ActStreamResponse answer)
    {
        _cancellation.Dispose();
        if (answer.ReplyCase == V1.ActStreamResponse.ReplyOneofCase.Response)
        {
            TrySetResult(new PolicyAction(answer.Response));
            return;
        }

        var code = answer.Error is { } error ? (StatusCode)error.Code : StatusCode.Internal;
        TrySetException(new AISandboxException(code, answer.Error?.Message ?? "the answer is empty", code == StatusCode.Unavailable));
    }

    public void Fail(Exception error)
    {
        _cancellation.Dispose();
        TrySetException(error);
    }
}
