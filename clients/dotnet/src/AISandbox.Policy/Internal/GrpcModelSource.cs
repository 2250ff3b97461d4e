using System;
using System.Globalization;
using System.Threading;
using System.Threading.Tasks;
using AISandbox.V1;
using Grpc.Core;

namespace AISandbox.Internal;

/// <summary>Where a follower gets models from.</summary>
internal interface IModelSource
{
    /// <summary>What is followed, for messages: "model best of run r".</summary>
    string Name { get; }

    /// <summary>Whether there can be a newer model.</summary>
    bool MayChange { get; }

    /// <summary>The digest of the model. Throws PolicyException.</summary>
    Task<string> DigestAsync(CancellationToken cancellationToken);

    /// <summary>The verified model. Throws PolicyException.</summary>
    Task<ModelFile> DownloadAsync(CancellationToken cancellationToken);

    /// <summary>Why there will never be a model; null: there may be one. Throws PolicyException.</summary>
    Task<string?> WhyNeverAsync(CancellationToken cancellationToken);
}

/// <summary>The models of a run of the service.</summary>
internal sealed class GrpcModelSource : IModelSource
{
    private readonly PolicyTrainerService.PolicyTrainerServiceClient _models;
    private readonly PolicyTrainerService.PolicyTrainerServiceClient _runs;
    private readonly string _run;
    private readonly string _model;
    private readonly TimeSpan _timeout;

    /// <summary>Models may come from an inference-server, which knows no status of a run.</summary>
    public GrpcModelSource(
        PolicyTrainerService.PolicyTrainerServiceClient models,
        PolicyTrainerService.PolicyTrainerServiceClient runs,
        string run,
        string model,
        TimeSpan timeout)
    {
        _models = models;
        _runs = runs;
        _run = run;
        _model = string.IsNullOrEmpty(model) ? "latest" : model;
        _timeout = timeout;
    }

    public string Name => $"model '{_model}' of run '{_run}'";

    public bool MayChange => _model is "latest" or "best";

    public Task<string> DigestAsync(CancellationToken cancellationToken) => CallAsync(
        async patience =>
        {
            patience.Renew();
            var request = new DescribeModelRequest { RunId = _run, Model = _model };
            return (await _models.DescribeModelAsync(request, cancellationToken: patience.Token).ConfigureAwait(false)).Model;
        },
        cancellationToken);

    public Task<ModelFile> DownloadAsync(CancellationToken cancellationToken) => CallAsync(ReadAsync, cancellationToken);

    public Task<string?> WhyNeverAsync(CancellationToken cancellationToken) => CallAsync(
        async patience =>
        {
            patience.Renew();
            var status = await _runs.GetTrainingStatusAsync(new StatusRequest { RunId = _run }, cancellationToken: patience.Token).ConfigureAwait(false);
            var end = status.Phase switch
            {
                Phase.Failed => $"has failed ({status.Failure?.Reason}: {status.Failure?.Message})",
                Phase.Cancelled => "was cancelled",
                _ => "is done",
            };
            return status.IsDone ? $"the run {end}" : null;
        },
        cancellationToken);

    private async Task<ModelFile> ReadAsync(Patience patience)
    {
        using var call = _models.GetModel(new GetModelRequest { RunId = _run, Model = _model }, cancellationToken: patience.Token);
        GetModelResponse? first = null;
        var file = Array.Empty<byte>();
        var length = 0;
        while (await patience.Renew(call.ResponseStream).ConfigureAwait(false))
        {
            var response = call.ResponseStream.Current;
            if (first is null)
            {
                first = response;
                file = new byte[checked((int)Math.Min(Math.Max(first.Size, 0), int.MaxValue - 64))];
            }

            if (response.Part.Length > file.Length - length)
            {
                throw Damaged($"more than the {file.Length} bytes that were announced arrived");
            }

            response.Part.Span.CopyTo(file.AsSpan(length));
            length += response.Part.Length;
        }

        if (first?.Description is null || length != file.Length)
        {
            throw Damaged(string.Format(CultureInfo.InvariantCulture, "{0} bytes of {1} arrived", length, file.Length));
        }

        var model = new ModelFile(file, Name) { Description = first.Description };
        model.CheckDigest(first.FileDigest);
        return model;
    }

    private PolicyException Damaged(string what) =>
        new(PolicyErrorReason.Damaged, $"The download of {Name} is damaged: {what}.");

    private async Task<T> CallAsync<T>(Func<Patience, Task<T>> call, CancellationToken cancellationToken)
    {
        using var patience = new Patience(_timeout, cancellationToken);
        try
        {
            return await call(patience).ConfigureAwait(false);
        }
        catch (Exception error) when (error is RpcException or OperationCanceledException && cancellationToken.IsCancellationRequested)
        {
            throw new OperationCanceledException("The wait for a model was cancelled.", error, cancellationToken);
        }
        catch (Exception error) when (error is RpcException { StatusCode: StatusCode.Cancelled } or OperationCanceledException)
        {
            throw new PolicyException(PolicyErrorReason.Unavailable, $"The service was silent for {_timeout.TotalSeconds:0.#} s when asked for {Name}.", error);
        }
        catch (RpcException error)
        {
            throw Explain(error);
        }
    }

    private PolicyException Explain(RpcException error)
    {
        var (reason, text) = error.StatusCode switch
        {
            StatusCode.NotFound => (PolicyErrorReason.RunNotFound, $"The service has no run '{_run}'"),
            StatusCode.FailedPrecondition => (PolicyErrorReason.NoModel, $"There is no {Name} yet"),
            StatusCode.DataLoss => (PolicyErrorReason.Damaged, $"The service has no intact {Name}"),
            StatusCode.Unauthenticated or StatusCode.PermissionDenied => (PolicyErrorReason.Refused, $"The service does not let this caller have {Name}"),
            StatusCode.InvalidArgument or StatusCode.Unimplemented => (PolicyErrorReason.Refused, $"The service refuses to give {Name}"),
            _ => (PolicyErrorReason.Unavailable, $"The service does not answer when asked for {Name}"),
        };
        return new PolicyException(reason, $"{text}: {error.Status.Detail}", error);
    }

    /// <summary>A token that is cancelled when nothing has arrived for a time.</summary>
    private sealed class Patience : IDisposable
    {
        private readonly CancellationTokenSource _source;
        private readonly TimeSpan _timeout;

        public Patience(TimeSpan timeout, CancellationToken cancellationToken)
        {
            _source = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            _timeout = timeout;
        }

        public CancellationToken Token => _source.Token;

        public void Renew() => _source.CancelAfter(_timeout);

        public Task<bool> Renew<T>(IAsyncStreamReader<T> stream)
        {
            Renew();
            return stream.MoveNext(Token);
        }

        public void Dispose() => _source.Dispose();
    }
}
