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
        return ActAsync(ActRequests.Make(observation.Span), model, stochastic, cancellationToken);
    }

    /// <summary>The action of a policy that was trained with action masks for one observation; what the mask forbids is never chosen.</summary>
    /// <param name="observation">As without a mask.</param>
    /// <param name="actionMask">
    /// Which actions are allowed: a byte, 0 or 1, for each choice of each dimension of the action space, as
    /// <c>context.Mask</c> of a simulation has them; of a MultiBinary two for each bit. Empty: all are.
    /// </param>
    /// <param name="model">Which model answers.</param>
    /// <param name="stochastic">Whether the action is sampled from the policy's distribution, or its mode.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <exception cref="ArgumentException">A byte of the mask is neither 0 nor 1.</exception>
    /// <exception cref="AISandboxException">
    /// The mask has another length or allows nothing, or the policy takes none; the field is <c>action_mask</c>.
    /// </exception>
    public Task<PolicyAction> ActAsync(
        ReadOnlyMemory<float> observation,
        ReadOnlyMemory<byte> actionMask,
        ModelSelector model = default,
        bool stochastic = false,
        CancellationToken cancellationToken = default)
    {
        return ActAsync(ActRequests.Make(observation.Span, actionMask.Span), model, stochastic, cancellationToken);
    }

    /// <summary>The action of a recurrent policy for one observation of an episode.</summary>
    /// <param name="observation">As of <see cref="ActAsync(ReadOnlyMemory{float}, ModelSelector, bool, CancellationToken)"/>.</param>
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
        (request.State, request.EpisodeStart) = (ByteString.CopyFrom(state.Span), state.IsEmpty);
        return ActAsync(request, model, stochastic, cancellationToken);
    }

    /// <summary>The policy's actions for many observations.</summary>
    /// <param name="observations">The observations one after another, each as for one.</param>
    /// <param name="count">How many there are.</param>
    /// <param name="model">Which model answers, one for all.</param>
    /// <param name="stochastic">Whether actions are sampled from the policy's distribution, or its modes.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <exception cref="ArgumentException">The number of numbers is not <paramref name="count"/> times that of an observation.</exception>
    public Task<ActionBatch> ActBatchAsync(
        ReadOnlyMemory<float> observations, int count, ModelSelector model = default, bool stochastic = false, CancellationToken cancellationToken = default) =>
        ActRowsAsync(observations, count, new V1.ActBatchRequest(), model, stochastic, cancellationToken);

    /// <summary>The actions of a policy that was trained with action masks for many observations.</summary>
    /// <param name="observations">The observations one after another, each as for one.</param>
    /// <param name="count">How many there are.</param>
    /// <param name="actionMasks">
    /// The masks one after another, one for each observation, each as of
    /// <see cref="ActAsync(ReadOnlyMemory{float}, ReadOnlyMemory{byte}, ModelSelector, bool, CancellationToken)"/>. Empty: all actions
    /// are allowed.
    /// </param>
    /// <param name="model">Which model answers, one for all.</param>
    /// <param name="stochastic">Whether actions are sampled from the policy's distribution, or its modes.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <exception cref="ArgumentException">
    /// The number of numbers is not <paramref name="count"/> times that of an observation, the masks are not as many, or a byte of them is
    /// neither 0 nor 1.
    /// </exception>
    /// <exception cref="AISandboxException">
    /// The masks have another length or one allows nothing, or the policy takes none; the field is <c>action_masks</c>.
    /// </exception>
    public Task<ActionBatch> ActBatchAsync(
        ReadOnlyMemory<float> observations,
        int count,
        ReadOnlyMemory<byte> actionMasks,
        ModelSelector model = default,
        bool stochastic = false,
        CancellationToken cancellationToken = default)
    {
        var request = new V1.ActBatchRequest { ActionMasks = Masks.ToTensor(actionMasks.Span, count) };
        return ActRowsAsync(observations, count, request, model, stochastic, cancellationToken);
    }

    /// <summary>The actions of a recurrent policy for an observation of each of many episodes.</summary>
    /// <param name="observations">The observations one after another, each as for one.</param>
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
        CancellationToken cancellationToken = default)
    {
        var request = new V1.ActBatchRequest();
        foreach (var state in states)
        {
            request.State.Add(ByteString.CopyFrom(state.Span));
            request.EpisodeStart.Add(state.IsEmpty);
        }

        return ActRowsAsync(observations, states.Count, request, model, stochastic, cancellationToken);
    }

    private Task<PolicyAction> ActAsync(V1.ActRequest request, ModelSelector model, bool stochastic, CancellationToken cancellationToken)
    {
        (request.RunId, request.Model, request.Stochastic) = (Name, model.ToString(), stochastic);
        return AISandboxTelemetry.ActDuration.Enabled
            ? MeasureAsync(request, cancellationToken)
            : _connection.CallAsync(Methods.Act, request, Name, cancellationToken);
    }

    private async Task<ActionBatch> ActRowsAsync(
        ReadOnlyMemory<float> observations,
        int count,
        V1.ActBatchRequest request,
        ModelSelector model,
        bool stochastic,
        CancellationToken cancellationToken)
    {
        // The space of a run never changes; it is asked for once.
        var space = _observationSpace ??= (await _connection.CallAsync(
            Methods.Describe, new V1.DescribeModelRequest { RunId = Name, Model = model.ToString() }, Name, cancellationToken)
            .ConfigureAwait(false)).ObservationSpace;
        (request.RunId, request.Model, request.Stochastic) = (Name, model.ToString(), stochastic);
        request.Observations.AddRange(BatchMessages.ToTensors(observations, count, space));
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
