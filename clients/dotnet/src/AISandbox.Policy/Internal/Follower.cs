using System;
using System.Threading;
using System.Threading.Tasks;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace AISandbox.Internal;

/// <summary>Gets the newer models of a run for a policy, in the background.</summary>
internal sealed partial class Follower
{
    private const int DamagedDownloads = 3;
    private static readonly TimeSpan FirstBackoff = TimeSpan.FromMilliseconds(250);

    private readonly IModelSource _source;
    private readonly PolicyFollowOptions _options;
    private readonly ILogger _logger;
    private TimeSpan _backoff = FirstBackoff;

    private Follower(IModelSource source, PolicyFollowOptions options)
    {
        _source = source;
        _options = options;
        _logger = options.Logger ?? NullLogger.Instance;
    }

    /// <summary>Gives the policy with its first model, and follows from then on.</summary>
    public static async Task<Policy> StartAsync(IModelSource source, PolicyFollowOptions options, CancellationToken cancellationToken)
    {
        var follower = new Follower(source, options);
        var model = await follower.FirstModelAsync(cancellationToken).ConfigureAwait(false);
        var policy = new Policy(model, options);
        if (source.MayChange)
        {
            policy.Follow(stop => follower.FollowAsync(policy, model.Model.Digest, stop));
        }

        return policy;
    }

    private async Task<LoadedModel> FirstModelAsync(CancellationToken cancellationToken)
    {
        var damaged = 0;
        string? whyNever = null;
        while (true)
        {
            try
            {
                return await LoadAsync(cancellationToken).ConfigureAwait(false);
            }
            catch (PolicyException error) when (error.Reason is PolicyErrorReason.NoModel or PolicyErrorReason.RunNotFound && _options.WaitForModel)
            {
                if (whyNever is not null)
                {
                    throw new PolicyException(PolicyErrorReason.NoModel, $"The {_source.Name} will never exist: {whyNever}.", error);
                }

                (var isKnown, whyNever) = await AskForRunAsync(cancellationToken).ConfigureAwait(false);
                if (error.Reason == PolicyErrorReason.RunNotFound && !isKnown)
                {
                    throw;
                }

                if (whyNever is not null)
                {
                    // The run may have published its model and ended since the download was refused.
                    continue;
                }

                LogWaiting(error.Message);
                _backoff = FirstBackoff;
                await DelayAsync(_options.Interval, cancellationToken).ConfigureAwait(false);
            }
            catch (PolicyException error) when (error.Reason == PolicyErrorReason.Damaged && ++damaged < DamagedDownloads)
            {
                LogFailed(error.Message);
                await BackOffAsync(cancellationToken).ConfigureAwait(false);
            }
            catch (PolicyException error) when (error.IsTransient && _options.WaitForModel)
            {
                LogFailed(error.Message);
                await BackOffAsync(cancellationToken).ConfigureAwait(false);
            }
        }
    }

    /// <summary>
    /// Whether the service knows the run, or may know it when it answers again, and why the run will never have a model. An
    /// inference-server knows a run only from its files, which a run that has not started does not have, and no states of runs.
    /// </summary>
    private async Task<(bool IsKnown, string? WhyNever)> AskForRunAsync(CancellationToken cancellationToken)
    {
        try
        {
            return (true, await _source.WhyNeverAsync(cancellationToken).ConfigureAwait(false));
        }
        catch (PolicyException error)
        {
            return (error.IsTransient, null);
        }
    }

    private async Task FollowAsync(Policy policy, string digest, CancellationToken cancellationToken)
    {
        _backoff = FirstBackoff;
        try
        {
            while (true)
            {
                policy.DisposeRetired();
                if (policy.LastError is null)
                {
                    await DelayAsync(_options.Interval, cancellationToken).ConfigureAwait(false);
                }
                else
                {
                    await BackOffAsync(cancellationToken).ConfigureAwait(false);
                }

                digest = await LookAsync(policy, digest, cancellationToken).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException)
        {
            policy.DisposeRetired();
        }
    }

    /// <summary>Loads the model if it is another one. Gives the digest of the model that the policy has now.</summary>
    private async Task<string> LookAsync(Policy policy, string digest, CancellationToken cancellationToken)
    {
        try
        {
            if (await _source.DigestAsync(cancellationToken).ConfigureAwait(false) != digest)
            {
                var model = await LoadAsync(cancellationToken).ConfigureAwait(false);
                var newer = model.Model;
                var isTaken = policy.Offer(model);
                LogLoaded(newer.Digest, newer.Timesteps);
                digest = newer.Digest;
                if (isTaken)
                {
                    Announce(policy, newer);
                }
            }

            policy.LastError = null;
            _backoff = FirstBackoff;
        }
        catch (PolicyException error)
        {
            policy.LastError = error;
            LogFailed(error.Message);
        }
        catch (Exception error) when (error is not OperationCanceledException)
        {
            // Whatever it is: it is logged, and the game keeps the model that it has.
            policy.LastError = new PolicyException(PolicyErrorReason.Unknown, $"{_source.Name} cannot be loaded: {error.Message}", error);
            LogFailed(policy.LastError.Message);
        }

        return digest;
    }

    /// <summary>A handler that throws has failed itself; the model is loaded all the same.</summary>
    private void Announce(Policy policy, PolicyModel model)
    {
        try
        {
            policy.Announce(model);
        }
        catch (Exception error)
        {
            LogHandlerFailed(error);
        }
    }

    private async Task<LoadedModel> LoadAsync(CancellationToken cancellationToken)
    {
        var file = await _source.DownloadAsync(cancellationToken).ConfigureAwait(false);
        return LoadedModel.Load(file, _options);
    }

    private async Task BackOffAsync(CancellationToken cancellationToken)
    {
        var delay = _backoff < _options.MaxBackoff ? _backoff : _options.MaxBackoff;
        _backoff = delay + delay;
        await DelayAsync(delay, cancellationToken).ConfigureAwait(false);
    }

    private Task DelayAsync(TimeSpan delay, CancellationToken cancellationToken) =>
#if NET
        Task.Delay(delay, _options.TimeProvider, cancellationToken);
#else
        _options.TimeProvider.Delay(delay, cancellationToken);
#endif

    [LoggerMessage(1, LogLevel.Information, "Waiting for a model: {Reason}")]
    private partial void LogWaiting(string reason);

    [LoggerMessage(2, LogLevel.Warning, "{Reason}")]
    private partial void LogFailed(string reason);

    [LoggerMessage(3, LogLevel.Information, "Loaded the model {Digest} of {Timesteps} steps")]
    private partial void LogLoaded(string digest, long timesteps);

    [LoggerMessage(4, LogLevel.Error, "A handler of ModelReady has failed")]
    private partial void LogHandlerFailed(Exception error);
}
