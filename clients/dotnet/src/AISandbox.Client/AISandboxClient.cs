using System;
using System.Collections.Generic;
using System.Runtime.CompilerServices;
using System.Threading;
using System.Threading.Tasks;
using Grpc.Core;
using Grpc.Health.V1;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Options;

namespace AISandbox.Client;

/// <summary>
/// A client of the AISandbox RL Training Service. Safe for use by several threads at once; make one for a process. Its
/// calls throw <see cref="AISandboxException"/>, or <see cref="OperationCanceledException"/> with the caller's token.
/// </summary>
public sealed class AISandboxClient : IDisposable
{
    private readonly Connection _connection;
    private readonly Health.HealthClient _health;

    /// <summary>A client of the service at <paramref name="address"/>. It connects with its first call.</summary>
    /// <param name="address">See <see cref="AISandboxClientOptions.Address"/>.</param>
    public AISandboxClient(string address)
        : this(new AISandboxClientOptions { Address = address })
    {
    }

    /// <summary>A client with options. It connects with its first call.</summary>
    /// <param name="options">Are not changed afterwards.</param>
    /// <param name="loggers">Makes the logger for retries and reconnects; null: none.</param>
    /// <param name="time">The clock; null: the system's.</param>
    /// <exception cref="OptionsValidationException">An option is wrong; the message names it.</exception>
    public AISandboxClient(AISandboxClientOptions options, ILoggerFactory? loggers = null, TimeProvider? time = null)
    {
        if (options is null)
        {
            throw new ArgumentNullException(nameof(options));
        }

        AISandboxClientOptionsValidator.Check(options);
        _connection = new Connection(options, loggers ?? NullLoggerFactory.Instance, time ?? TimeProvider.System);
        _health = new Health.HealthClient(_connection.Invoker);
    }

    /// <summary>
    /// The generated client on the same channel, for calls that this package has no method for: without retries, deadlines
    /// and translated errors.
    /// </summary>
    public V1.PolicyTrainerService.PolicyTrainerServiceClient Contract => _connection.Service;

    /// <summary>The same for the calls that an inference-server answers; see <see cref="AISandboxClientOptions.InferenceAddress"/>.</summary>
    public V1.PolicyTrainerService.PolicyTrainerServiceClient InferenceContract => _connection.Inference;

    /// <summary>
    /// Makes calls on the same channel, for the generated clients of the contract's other services: without retries, deadlines and translated errors.
    /// </summary>
    public CallInvoker CallInvoker => _connection.Invoker;

    /// <summary>Starts a run and returns at once; the run continues without this client. Retries start one run.</summary>
    /// <param name="training">What to train.</param>
    /// <param name="cancellationToken">Ends the call; there may then be a run.</param>
    public async Task<TrainingRunHandle> StartAsync(Training training, CancellationToken cancellationToken = default)
    {
        if (training is null)
        {
            throw new ArgumentNullException(nameof(training));
        }

        var request = training.ToRequest();
        var method = training.Hyperparameters.Algorithm switch
        {
            V1.Algorithm.Ppo => Methods.StartPpo, // the calls of these three are those of older services too
            V1.Algorithm.A2C => Methods.StartA2c,
            V1.Algorithm.Dqn => Methods.StartDqn,
            _ => Methods.Start,
        };
        var name = await _connection.CallAsync(method, request, training.Experiment, cancellationToken).ConfigureAwait(false);
        return new TrainingRunHandle(_connection, name);
    }

    /// <summary>A run by its name, for example one that another process has started. Makes no call.</summary>
    /// <param name="name">As of <see cref="TrainingRunHandle.Name"/>.</param>
    public TrainingRunHandle GetRun(string name) =>
        string.IsNullOrEmpty(name) ? throw new ArgumentException("must not be empty", nameof(name)) : new TrainingRunHandle(_connection, name);

    /// <summary>The runs, newest first. Pages are fetched as the enumeration reaches them.</summary>
    /// <param name="experiment">Only runs of this experiment; null: of all.</param>
    /// <param name="phases">Only runs in one of these phases; null: in any.</param>
    /// <param name="cancellationToken">Ends the enumeration.</param>
    public async IAsyncEnumerable<TrainingStatus> ListAsync(
        string? experiment = null, IEnumerable<TrainingPhase>? phases = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        var request = new V1.ListTrainingRunsRequest { ExperimentId = experiment ?? "" };
        foreach (var phase in phases ?? Array.Empty<TrainingPhase>())
        {
            request.Phases.Add((V1.Phase)phase);
        }

        do
        {
            var page = await _connection.CallAsync(Methods.List, request.Clone(), null, cancellationToken).ConfigureAwait(false);
            foreach (var run in page.Runs)
            {
                yield return TrainingStatus.From(run);
            }

            request.PageToken = page.NextPageToken;
        }
        while (request.PageToken.Length > 0);
    }

    /// <summary>Whether the service says that it is serving. Not repeated after an error.</summary>
    /// <param name="cancellationToken">Ends the call.</param>
    public async Task<bool> IsServingAsync(CancellationToken cancellationToken = default)
    {
        var deadline = _connection.Time.GetUtcNow().UtcDateTime + _connection.Options.Timeout;
        try
        {
            var response = await _health.CheckAsync(new HealthCheckRequest(), deadline: deadline, cancellationToken: cancellationToken)
                .ResponseAsync.ConfigureAwait(false);
            return response.Status == HealthCheckResponse.Types.ServingStatus.Serving;
        }
        catch (RpcException error)
        {
            throw Errors.Translate(error, _connection.Options.Address, cancellationToken);
        }
    }

    /// <summary>Closes the connections. Watches and streams of this client end with <see cref="ObjectDisposedException"/>.</summary>
    public void Dispose() => _connection.Dispose();
}
