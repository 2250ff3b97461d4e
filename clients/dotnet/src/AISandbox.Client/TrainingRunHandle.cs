using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;
using Google.Protobuf;

namespace AISandbox.Client;

/// <summary>
/// A run: follow it, steer it, act with its policy. Has a name and a client and nothing else, so it may be kept, shared and
/// made again with <see cref="AISandboxClient.GetRun"/>.
/// </summary>
public sealed partial class TrainingRunHandle
{
    private readonly Connection _connection;
    private V1.Space? _observationSpace;

    internal TrainingRunHandle(Connection connection, string name) => (_connection, Name) = (connection, name);

    /// <summary>The name of the run, which is that of its TrainingRun resource and of its folder.</summary>
    public string Name { get; }

    /// <summary>The status now.</summary>
    /// <param name="cancellationToken">Ends the call.</param>
    public Task<TrainingStatus> GetStatusAsync(CancellationToken cancellationToken = default) =>
        _connection.CallAsync(Methods.GetStatus, new V1.StatusRequest { RunId = Name }, Name, cancellationToken);

    /// <summary>Cancels the run, which is final; its checkpoints and models are kept.</summary>
    /// <param name="cancellationToken">Ends the call.</param>
    public Task<TrainingStatus> CancelAsync(CancellationToken cancellationToken = default) =>
        _connection.CallAsync(Methods.Cancel, new V1.CancelTrainingRequest { RunId = Name }, Name, cancellationToken);

    /// <summary>Saves a checkpoint and stops the run until it is resumed.</summary>
    /// <param name="cancellationToken">Ends the call.</param>
    public Task<TrainingStatus> SuspendAsync(CancellationToken cancellationToken = default) =>
        _connection.CallAsync(Methods.Suspend, new V1.SuspendTrainingRequest { RunId = Name }, Name, cancellationToken);

    /// <summary>Continues a suspended run from its newest checkpoint.</summary>
    /// <param name="cancellationToken">Ends the call.</param>
    public Task<TrainingStatus> ResumeAsync(CancellationToken cancellationToken = default) =>
        _connection.CallAsync(Methods.Resume, new V1.ResumeTrainingRequest { RunId = Name }, Name, cancellationToken);

    /// <summary>The policy's action for one observation.</summary>
    /// <param name="observation">
    /// One value of the observation space: the elements of its leaves in C order, one leaf after another; images as 0 to 255.
    /// </param>
    /// <param name="model">Which model answers.</param>
    /// <param name="stochastic">Whether the action is sampled from the policy's distribution, or its mode.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    public Task<PolicyAction> ActAsync(
        ReadOnlyMemory<float> observation, ModelSelector model = default, bool stochastic = false, CancellationToken cancellationToken = default)
    {
        var request = ActRequests.Make(observation.Span);
        (request.RunId, request.Model, request.Stochastic) = (Name, model.ToString(), stochastic);
        return AISandboxTelemetry.ActDuration.Enabled
            ? MeasureAsync(request, cancellationToken)
            : _connection.CallAsync(Methods.Act, request, Name, cancellationToken);
    }

    /// <summary>The action of a policy with memory for one observation of an episode.</summary>
    /// <param name="observation">As of <see cref="ActAsync"/>.</param>
    /// <param name="state">
    /// <see cref="PolicyAction.State"/> of the observation before in the same episode; empty for the first one. The model that gave
    /// it answers, also where <paramref name="model"/> names a newer one by now.
    /// </param>
    /// <param name="model">Which model answers from the first observation of an episode on.</param>
    /// <param name="stochastic">Whether the action is sampled from the policy's distribution, or its mode.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    public Task<PolicyAction> ActInEpisodeAsync(
        ReadOnlyMemory<float> observation,
        ReadOnlyMemory<byte> state,
        ModelSelector model = default,
        bool stochastic = false,
        CancellationToken cancellationToken = default)
    {
        var request = ActRequests.Make(observation.Span);
        (request.RunId, request.Model, request.Stochastic) = (Name, model.ToString(), stochastic);
        (request.State, request.EpisodeStart) = (ByteString.CopyFrom(state.Span), state.IsEmpty);
        return AISandboxTelemetry.ActDuration.Enabled
            ? MeasureAsync(request, cancellationToken)
            : _connection.CallAsync(Methods.Act, request, Name, cancellationToken);
    }

    /// <summary>The policy's actions for many observations.</summary>
    /// <param name="observations">The observations one after another, each as for <see cref="ActAsync"/>.</param>
    /// <param name="count">How many there are.</param>
    /// <param name="model">Which model answers, one for all.</param>
    /// <param name="stochastic">Whether actions are sampled from the policy's distribution, or its modes.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <exception cref="ArgumentException">The number of numbers is not <paramref name="count"/> times that of an observation.</exception>
    public Task<ActionBatch> ActBatchAsync(
        ReadOnlyMemory<float> observations, int count, ModelSelector model = default, bool stochastic = false, CancellationToken cancellationToken = default) =>
        ActRowsAsync(observations, count, null, model, stochastic, cancellationToken);

    /// <summary>The actions of a policy with memory for an observation of each of many episodes.</summary>
    /// <param name="observations">The observations one after another, each as for <see cref="ActAsync"/>.</param>
    /// <param name="states">
    /// One for each observation, as of <see cref="ActInEpisodeAsync"/>; see <see cref="ActionBatch.States"/>. All that are not empty
    /// must be of one model.
    /// </param>
    /// <param name="model">Which model answers, where all episodes begin.</param>
    /// <param name="stochastic">Whether actions are sampled from the policy's distribution, or its modes.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <exception cref="ArgumentException">The number of numbers is not that of the states times that of an observation.</exception>
    public Task<ActionBatch> ActBatchInEpisodesAsync(
        ReadOnlyMemory<float> observations,
        IReadOnlyList<ReadOnlyMemory<byte>> states,
        ModelSelector model = default,
        bool stochastic = false,
        CancellationToken cancellationToken = default) =>
        ActRowsAsync(observations, states.Count, states, model, stochastic, cancellationToken);

    private async Task<ActionBatch> ActRowsAsync(
        ReadOnlyMemory<float> observations,
        int count,
        IReadOnlyList<ReadOnlyMemory<byte>>? states,
        ModelSelector model,
        bool stochastic,
        CancellationToken cancellationToken)
    {
        // The space of a run never changes; it is asked for once.
        var space = _observationSpace ??= (await _connection.CallAsync(
            Methods.Describe, new V1.DescribeModelRequest { RunId = Name, Model = model.ToString() }, Name, cancellationToken)
            .ConfigureAwait(false)).ObservationSpace;
        var request = new V1.ActBatchRequest { RunId = Name, Model = model.ToString(), Stochastic = stochastic };
        request.Observations.AddRange(BatchMessages.ToTensors(observations, count, space));
        foreach (var state in states ?? Array.Empty<ReadOnlyMemory<byte>>())
        {
            request.State.Add(ByteString.CopyFrom(state.Span));
            request.EpisodeStart.Add(state.IsEmpty);
        }

        return await _connection.CallAsync(Methods.ActBatch, request, Name, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>
    /// Opens a stream of observations and actions, which costs less than a call for each. It connects with its first
    /// observation, and again after a loss.
    /// </summary>
    /// <param name="model">Which models answer.</param>
    /// <param name="stochastic">Whether actions are sampled from the policy's distribution, or its modes.</param>
    public ActStream OpenActStream(ModelSelector model = default, bool stochastic = false) =>
        new(_connection, new V1.ActRequest { RunId = Name, Model = model.ToString(), Stochastic = stochastic });

    private async Task<PolicyAction> MeasureAsync(V1.ActRequest request, CancellationToken cancellationToken)
    {
        var since = _connection.Time.GetTimestamp();
        var action = await _connection.CallAsync(Methods.Act, request, Name, cancellationToken).ConfigureAwait(false);
        AISandboxTelemetry.ActDuration.Record(_connection.Time.GetElapsedTime(since).TotalSeconds);
        return action;
    }
}
