using System;
using System.Threading;
using System.Threading.Tasks;
using AISandbox.Client;
using AISandbox.Internal;
using AISandbox.V1;

namespace AISandbox;

/// <summary>
/// A trained policy in this process. <see cref="Load(string, PolicyOptions?)"/> takes a file; <c>FollowAsync</c> takes the models of a
/// run, and each newer one as it is published.
/// </summary>
/// <remarks>
/// Thread-safe; one call at a time acts. An action takes microseconds and allocates nothing, also when a new model has been loaded: it is
/// made ready in the background and used from the next call on (a recurrent policy, or one with a frame stack: from the next episode on).
/// </remarks>
public sealed class Policy : IDisposable, IAsyncDisposable
{
    private static readonly bool[] Starts = [true];
    private static readonly bool[] Continues = [false];

    private readonly object _gate = new();
    private readonly NoiseSource _noise;
    private readonly bool _stochastic;
    private readonly CancellationTokenSource _stop = new();
    private LoadedModel _current;
    private LoadedModel? _next;
    private LoadedModel? _retired;
    private FrameStack? _frames;
    private float[] _state = [];
    private Task _following = Task.CompletedTask;
    private bool _isInEpisode;
    private bool _hasState;

    // The model that has given the states which a caller of ActInEpisodes keeps.
    private LoadedModel? _statesOf;
    private bool _isDisposed;

    internal Policy(LoadedModel model, PolicyOptions options)
    {
        _current = model;
        _noise = new NoiseSource(options.Seed);
        _stochastic = options.Stochastic;
    }

    /// <summary>
    /// Raised when a newer model is ready, in the background: the next call that acts uses it (a recurrent policy, or one with a frame stack: the next
    /// episode).
    /// </summary>
    public event EventHandler<PolicyModelEventArgs>? ModelReady;

    /// <summary>The model that acts.</summary>
    public PolicyModel Model => Volatile.Read(ref _current).Model;

    /// <summary>
    /// Why the last attempt to get a newer model failed; null if it succeeded. The policy acts with the model that it has.
    /// </summary>
    public PolicyException? LastError { get; internal set; }

    /// <summary>How many numbers an observation has, over all leaves of its space (with a frame stack: all frames).</summary>
    public int ObservationSize => _current.ObservationSize;

    /// <summary>
    /// With a frame stack, how many numbers the newest observation alone has; otherwise <see cref="ObservationSize"/>.
    /// </summary>
    public int FrameSize => _current.ObservationSize / _current.Frames;

    /// <summary>How many numbers an action has; one for a Discrete space.</summary>
    public int ActionSize => _current.ActionSize;

    /// <summary>
    /// How many numbers the state of one episode has; 0: the policy is not recurrent. See <see cref="StartEpisode"/>.
    /// </summary>
    public int StateSize => _current.StateSize;

    /// <summary>How many numbers the noise of one action has.</summary>
    public int NoiseSize => _current.NoiseSize;

    /// <summary>How many values the mask of one action has, each 0 or 1; 0 for a policy that was not trained with masks.</summary>
    public int MaskSize => _current.Mask.Size;

    /// <summary>
    /// Loads a policy from an ONNX file of the service, or from the folder of a published model, and replays its golden examples.
    /// </summary>
    /// <exception cref="PolicyException">It cannot be read, is damaged or no policy, or there is no native ONNX Runtime.</exception>
    public static Policy Load(string path, PolicyOptions? options = null)
    {
        if (string.IsNullOrEmpty(path))
        {
            throw new ArgumentException("The path of a policy must not be empty.", nameof(path));
        }

        options ??= new PolicyOptions();
        return new Policy(LoadedModel.Load(ModelFile.Read(path), options), options);
    }

    /// <summary>Loads a policy from the bytes of an ONNX file of the service, and replays its golden examples.</summary>
    /// <exception cref="PolicyException">It is damaged or no policy, or there is no native ONNX Runtime.</exception>
    public static Policy Load(byte[] onnx, PolicyOptions? options = null)
    {
        Guard.NotNull(onnx, nameof(onnx));
        options ??= new PolicyOptions();
        return new Policy(LoadedModel.Load(new ModelFile(onnx, "the file"), options), options);
    }

    /// <summary>
    /// Downloads a model of a run, verifies its digest, replays its golden examples, and does the same for each newer one until
    /// the policy is disposed of. Waits for the first model (see <see cref="PolicyFollowOptions.WaitForModel"/>).
    /// </summary>
    /// <param name="client">The client; it must not be disposed of before the policy.</param>
    /// <param name="run">The id of the run.</param>
    /// <param name="model">Which model: "best", "latest", "final", "step:20000" or "sha256:…".</param>
    /// <param name="options">How to follow; null: the defaults.</param>
    /// <param name="cancellationToken">Ends the wait for the first model.</param>
    /// <exception cref="PolicyException">
    /// There is no such run; the run is done and has no such model; the service refuses the caller; there is no native ONNX Runtime.
    /// </exception>
    public static Task<Policy> FollowAsync(
        AISandboxClient client,
        string run,
        string model = "best",
        PolicyFollowOptions? options = null,
        CancellationToken cancellationToken = default)
    {
        Guard.NotNull(client, nameof(client));
        return FollowAsync(client.InferenceContract, client.Contract, run, model, options, cancellationToken);
    }

    /// <summary>As the other one, with the generated client of the service.</summary>
    /// <param name="client">The generated client; its channel must not be disposed of before the policy.</param>
    /// <param name="run">The id of the run.</param>
    /// <param name="model">Which model: "best", "latest", "final", "step:20000" or "sha256:…".</param>
    /// <param name="options">How to follow; null: the defaults.</param>
    /// <param name="cancellationToken">Ends the wait for the first model.</param>
    /// <exception cref="PolicyException">
    /// There is no such run; the run is done and has no such model; the service refuses the caller; there is no native ONNX Runtime.
    /// </exception>
    public static Task<Policy> FollowAsync(
        PolicyTrainerService.PolicyTrainerServiceClient client,
        string run,
        string model = "best",
        PolicyFollowOptions? options = null,
        CancellationToken cancellationToken = default)
    {
        Guard.NotNull(client, nameof(client));
        return FollowAsync(client, client, run, model, options, cancellationToken);
    }

    /// <summary>
    /// Acts on one observation: its numbers are the elements of the leaves of the observation space in C order, one leaf after another
    /// (as in the call Act). With a frame stack, the newest observation alone is enough: the ones before are remembered
    /// since <see cref="StartEpisode"/>, and so is what a recurrent policy has observed. A Discrete action is one whole number.
    /// </summary>
    /// <exception cref="ArgumentException">A length is wrong, or a number is not finite or none of its space.</exception>
    public void Act(ReadOnlySpan<float> observation, Span<float> action) => Act(observation, action, _stochastic);

    /// <summary>As <see cref="Act(ReadOnlySpan{float}, Span{float})"/>; samples the action, or takes the mode.</summary>
    /// <exception cref="ArgumentException">A length is wrong, or a number is not finite or none of its space.</exception>
    public void Act(ReadOnlySpan<float> observation, Span<float> action, bool stochastic)
    {
        lock (_gate)
        {
            ActOnce(observation, default, action, stochastic ? _noise : null, default);
        }
    }

    /// <summary>
    /// As <see cref="Act(ReadOnlySpan{float}, Span{float})"/>, of the actions that a mask allows: <see cref="MaskSize"/> values, 0 or 1, one
    /// for each choice of each dimension, as a simulator gives them (<c>context.Mask.AsSpan()</c>). An empty mask allows all.
    /// </summary>
    /// <exception cref="ArgumentException">
    /// A length is wrong, a number is not finite or none of its space, or the mask allows nothing, or the policy takes none.
    /// </exception>
    public void Act(ReadOnlySpan<float> observation, ReadOnlySpan<byte> actionMask, Span<float> action) =>
        Act(observation, actionMask, action, _stochastic);

    /// <summary>As the one without <paramref name="stochastic"/>; samples the action, or takes the mode.</summary>
    /// <exception cref="ArgumentException">
    /// A length is wrong, a number is not finite or none of its space, or the mask allows nothing, or the policy takes none.
    /// </exception>
    public void Act(ReadOnlySpan<float> observation, ReadOnlySpan<byte> actionMask, Span<float> action, bool stochastic)
    {
        lock (_gate)
        {
            ActOnce(observation, actionMask, action, stochastic ? _noise : null, default);
        }
    }

    /// <summary>
    /// As <see cref="Act(ReadOnlySpan{float}, Span{float})"/>, with given noise: <see cref="NoiseSize"/> numbers of the distribution that
    /// NoiseKind of the contract names. The same noise gives the same action everywhere.
    /// </summary>
    /// <exception cref="ArgumentException">A length is wrong, or a number is not finite or none of its space.</exception>
    public void ActWithNoise(ReadOnlySpan<float> observation, ReadOnlySpan<float> noise, Span<float> action) =>
        ActWithNoise(observation, noise, default, action);

    /// <summary>As <see cref="ActWithNoise(ReadOnlySpan{float}, ReadOnlySpan{float}, Span{float})"/>, of the actions that a mask allows.</summary>
    /// <exception cref="ArgumentException">
    /// A length is wrong, a number is not finite or none of its space, or the mask allows nothing, or the policy takes none.
    /// </exception>
    public void ActWithNoise(ReadOnlySpan<float> observation, ReadOnlySpan<float> noise, ReadOnlySpan<byte> actionMask, Span<float> action)
    {
        lock (_gate)
        {
            if (noise.Length != _current.NoiseSize)
            {
                throw new ArgumentException($"The noise has {noise.Length} numbers, and the policy takes {_current.NoiseSize}.", nameof(noise));
            }

            ActOnce(observation, actionMask, action, null, noise);
        }
    }

    /// <summary>As <see cref="Act(ReadOnlySpan{float}, Span{float})"/>, on a named observation.</summary>
    /// <exception cref="ArgumentException">A length is wrong, or a number is not finite or none of its space.</exception>
    public void Act(PolicyObservation observation, Span<float> action)
    {
        Guard.NotNull(observation, nameof(observation));
        Act(observation.Values, action);
    }

    /// <summary>Acts on one observation with the number of a Discrete action.</summary>
    /// <exception cref="ArgumentException">A length is wrong, or a number is not finite or none of its space.</exception>
    /// <exception cref="InvalidOperationException">The actions are not of a Discrete space.</exception>
    public int ActDiscrete(ReadOnlySpan<float> observation) => ActDiscrete(observation, default);

    /// <summary>As <see cref="ActDiscrete(ReadOnlySpan{float})"/>, of the actions that a mask allows.</summary>
    /// <exception cref="ArgumentException">
    /// A length is wrong, a number is not finite or none of its space, or the mask allows nothing, or the policy takes none.
    /// </exception>
    /// <exception cref="InvalidOperationException">The actions are not of a Discrete space.</exception>
    public int ActDiscrete(ReadOnlySpan<float> observation, ReadOnlySpan<byte> actionMask)
    {
        if (Model.Description.ActionSpace.KindCase != Space.KindOneofCase.Discrete)
        {
            throw new InvalidOperationException(
                $"The actions are of a {Model.Description.ActionSpace.KindCase} space with {ActionSize} numbers; use Act.");
        }

        Span<float> action = stackalloc float[1];
        Act(observation, actionMask, action);
        return (int)action[0];
    }

    /// <summary>
    /// Acts on many observations at once, one row after another. With a frame stack each row has all frames, oldest first.
    /// </summary>
    /// <exception cref="ArgumentException">A length is wrong, or a number is not finite or none of its space.</exception>
    /// <exception cref="InvalidOperationException">The policy is recurrent: use <c>ActInEpisodes</c>.</exception>
    public void ActBatch(ReadOnlySpan<float> observations, Span<float> actions) => ActBatch(observations, actions, _stochastic);

    /// <summary>As <see cref="ActBatch(ReadOnlySpan{float}, Span{float})"/>; samples the actions, or takes the modes.</summary>
    /// <exception cref="ArgumentException">A length is wrong, or a number is not finite or none of its space.</exception>
    public void ActBatch(ReadOnlySpan<float> observations, Span<float> actions, bool stochastic) =>
        ActBatch(observations, default, actions, stochastic);

    /// <summary>As <see cref="ActBatch(ReadOnlySpan{float}, Span{float})"/>, with one mask after another, one for each observation.</summary>
    /// <exception cref="ArgumentException">
    /// A length is wrong, a number is not finite or none of its space, or a mask allows nothing, or the policy takes none.
    /// </exception>
    public void ActBatch(ReadOnlySpan<float> observations, ReadOnlySpan<byte> actionMasks, Span<float> actions) =>
        ActBatch(observations, actionMasks, actions, _stochastic);

    /// <summary>As the one without <paramref name="stochastic"/>; samples the actions, or takes the modes.</summary>
    /// <exception cref="ArgumentException">
    /// A length is wrong, a number is not finite or none of its space, or a mask allows nothing, or the policy takes none.
    /// </exception>
    public void ActBatch(ReadOnlySpan<float> observations, ReadOnlySpan<byte> actionMasks, Span<float> actions, bool stochastic)
    {
        lock (_gate)
        {
            TakeNext();
            if (_current.StateSize > 0)
            {
                throw new InvalidOperationException(
                    $"The policy is recurrent: use ActInEpisodes, with the states of the episodes, {_current.StateSize} numbers each.");
            }

            var count = Count(observations, actions);
            _current.Act(observations, actionMasks, actions, count, stochastic ? _noise : null, default, default, default);
        }
    }

    /// <summary>Acts on an observation of each of many episodes at once, with a recurrent policy.</summary>
    /// <param name="observations">One row after another.</param>
    /// <param name="states">
    /// <see cref="StateSize"/> numbers for each episode, which the caller keeps: those that the call before has left there. They
    /// are replaced by the ones for the next observation.
    /// </param>
    /// <param name="episodeStarts">Whether the observation is the first of its episode; its state is then not read.</param>
    /// <param name="actions">Room for one action after another.</param>
    /// <remarks>A newer model is used from the first call on in which every episode starts: states belong to the model that gave them.</remarks>
    /// <exception cref="ArgumentException">A length is wrong, or a number is not finite or none of its space.</exception>
    /// <exception cref="InvalidOperationException">
    /// The policy is not recurrent, or an episode goes on after <see cref="StartEpisode"/> or <c>Act</c> has taken a newer model.
    /// </exception>
    public void ActInEpisodes(
        ReadOnlySpan<float> observations, Span<float> states, ReadOnlySpan<bool> episodeStarts, Span<float> actions) =>
        ActInEpisodes(observations, states, episodeStarts, actions, _stochastic);

    /// <summary>As the one without <paramref name="stochastic"/>; samples the actions, or takes the modes.</summary>
    /// <exception cref="ArgumentException">A length is wrong, or a number is not finite or none of its space.</exception>
    /// <exception cref="InvalidOperationException">
    /// The policy is not recurrent, or an episode goes on after <see cref="StartEpisode"/> or <c>Act</c> has taken a newer model.
    /// </exception>
    public void ActInEpisodes(
        ReadOnlySpan<float> observations, Span<float> states, ReadOnlySpan<bool> episodeStarts, Span<float> actions, bool stochastic)
    {
        lock (_gate)
        {
            ThrowIfDisposed();
            if (episodeStarts.IndexOf(false) < 0)
            {
                TakeNext();
            }

            if (_current.StateSize == 0)
            {
                throw new InvalidOperationException("The policy is not recurrent: use ActBatch.");
            }

            if (episodeStarts.IndexOf(false) >= 0 && _statesOf is not null && !ReferenceEquals(_statesOf, _current))
            {
                throw new InvalidOperationException(
                    "The states are those of the model before: StartEpisode or Act has taken a newer one. Begin all episodes again.");
            }

            var count = Count(observations, actions);
            if (states.Length != count * _current.StateSize)
            {
                throw new ArgumentException(
                    $"The states have {states.Length} numbers, and those of {count} episodes have {count * _current.StateSize}.", nameof(states));
            }

            if (episodeStarts.Length != count)
            {
                throw new ArgumentException($"episodeStarts has {episodeStarts.Length} entries for {count} observations.", nameof(episodeStarts));
            }

            if (!Numbers.AreFinite(states))
            {
                for (var i = 0; i < count; i++)
                {
                    if (!episodeStarts[i] && !Numbers.AreFinite(states.Slice(i * _current.StateSize, _current.StateSize)))
                    {
                        throw new ArgumentException($"The state of episode {i} has numbers that are not finite.", nameof(states));
                    }
                }
            }

            _current.Act(observations, default, actions, count, stochastic ? _noise : null, default, states, episodeStarts);
            _statesOf = _current;
        }
    }

    /// <summary>
    /// Tells that a new episode begins: a recurrent policy, or one with a frame stack, forgets the observations before, and a newer model is used
    /// from now on. Otherwise it changes nothing. The first call that acts begins an episode by itself.
    /// </summary>
    public void StartEpisode()
    {
        lock (_gate)
        {
            ThrowIfDisposed();
            _isInEpisode = false;
            _hasState = false;
            _frames?.Clear();
            TakeNext();
        }
    }

    /// <summary>An observation to be filled by the names of a Dict, and used again and again.</summary>
    public PolicyObservation CreateObservation() => new(_current.Leaves, _current.Frames);

    /// <summary>Stops following and frees the memory.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            if (_isDisposed)
            {
                return;
            }

            _isDisposed = true;
            _current.Dispose();
        }

        _stop.Cancel();
        Interlocked.Exchange(ref _next, null)?.Dispose();
        DisposeRetired();
    }

    /// <summary>Stops following, waits for its end and frees the memory.</summary>
    public async ValueTask DisposeAsync()
    {
        Dispose();
        await _following.ConfigureAwait(false);
        _stop.Dispose();
    }

    /// <summary>Begins to follow, in the background.</summary>
    internal void Follow(Func<CancellationToken, Task> follow) => _following = Task.Run(() => follow(_stop.Token), CancellationToken.None);

    /// <summary>Hands in a newer model, which is used as soon as that is possible; false: the policy is disposed.</summary>
    /// <exception cref="PolicyException">It has other spaces.</exception>
    internal bool Offer(LoadedModel model)
    {
        int[] batchSizes;
        lock (_gate)
        {
            if (_isDisposed)
            {
                model.Dispose();
                return false;
            }

            if (!model.HasSpacesOf(_current))
            {
                model.Dispose();
                throw new PolicyException(
                    PolicyErrorReason.OtherSpaces,
                    "The newer model has another observation or action space than the one before: the run was deleted and started again. Follow it anew.");
            }

            batchSizes = _current.BatchSizes();
        }

        model.Prepare(batchSizes);
        Interlocked.Exchange(ref _next, model)?.Dispose();
        if (Volatile.Read(ref _isDisposed))
        {
            Interlocked.Exchange(ref _next, null)?.Dispose();
            return false;
        }

        return true;
    }

    /// <summary>Raises <see cref="ModelReady"/>. Throws what a handler throws.</summary>
    internal void Announce(PolicyModel model) => ModelReady?.Invoke(this, new PolicyModelEventArgs(model));

    /// <summary>Frees the models that are no longer in use: not in the call that replaces them, which must not wait.</summary>
    internal void DisposeRetired()
    {
        var retired = Interlocked.Exchange(ref _retired, null);
        while (retired is not null)
        {
            retired.Dispose();
            retired = retired.NextRetired;
        }
    }

    private static Task<Policy> FollowAsync(
        PolicyTrainerService.PolicyTrainerServiceClient models,
        PolicyTrainerService.PolicyTrainerServiceClient runs,
        string run,
        string model,
        PolicyFollowOptions? options,
        CancellationToken cancellationToken)
    {
        if (string.IsNullOrEmpty(run))
        {
            throw new ArgumentException("The id of a run must not be empty.", nameof(run));
        }

        options ??= new PolicyFollowOptions();
        options.Validate();
        var source = new GrpcModelSource(models, runs, run, model, options.Timeout);
        return Follower.StartAsync(source, options, cancellationToken);
    }

    private void ActOnce(
        ReadOnlySpan<float> observation, ReadOnlySpan<byte> mask, Span<float> action, NoiseSource? source, ReadOnlySpan<float> noise)
    {
        TakeNext();
        var model = _current;
        var isFrame = model.Frames > 1 && observation.Length * model.Frames == model.ObservationSize;
        if (!isFrame && observation.Length != model.ObservationSize)
        {
            throw new ArgumentException($"The observation has {observation.Length} numbers, and the policy takes {Describe()}.", nameof(observation));
        }

        if (action.Length != model.ActionSize)
        {
            throw new ArgumentException($"The action has room for {action.Length} numbers, and an action has {model.ActionSize}.", nameof(action));
        }

        Numbers.CheckFinite(observation, model.Leaves, isFrame ? model.Frames : 1);
        model.Mask.Check(mask, 1);
        if (isFrame)
        {
            _frames ??= new FrameStack(model.Leaves, model.Frames);
            _isInEpisode = true;
            _frames.Push(observation);
            observation = _frames.Stacked;
        }

        if (model.StateSize == 0)
        {
            model.Act(observation, mask, action, 1, source, noise, default, default);
            return;
        }

        if (_state.Length != model.StateSize)
        {
            _state = new float[model.StateSize];
        }

        model.Act(observation, mask, action, 1, source, noise, _state, _hasState ? Continues : Starts);
        _hasState = true;
        _isInEpisode = true;
    }

    /// <summary>Checks observations and the room for actions; gives how many there are.</summary>
    private int Count(ReadOnlySpan<float> observations, ReadOnlySpan<float> actions)
    {
        var count = observations.Length / _current.ObservationSize;
        if (count == 0 || count * _current.ObservationSize != observations.Length)
        {
            throw new ArgumentException(
                $"The observations have {observations.Length} numbers, and {_current.ObservationSize} of them are one observation: {Describe()}.",
                nameof(observations));
        }

        if (actions.Length != count * _current.ActionSize)
        {
            throw new ArgumentException(
                $"The actions have room for {actions.Length} numbers, and {count} actions have {count * _current.ActionSize}.", nameof(actions));
        }

        Numbers.CheckFinite(observations, _current.Leaves, 1);
        return count;
    }

    private void TakeNext()
    {
        ThrowIfDisposed();
        if (Volatile.Read(ref _next) is null || _isInEpisode || Interlocked.Exchange(ref _next, null) is not { } next)
        {
            return;
        }

        _current.NextRetired = _retired;
        _retired = _current;
        Volatile.Write(ref _current, next);
    }

    private string Describe()
    {
        var parts = new System.Text.StringBuilder();
        foreach (var leaf in _current.Leaves)
        {
            parts.Append(parts.Length == 0 ? string.Empty : ", ").Append(leaf.Size).Append(leaf.Key.Length == 0 ? string.Empty : $" of '{leaf.Key}'");
        }

        var frames = _current.Frames > 1 ? $" for {_current.Frames} stacked observations, or {FrameSize} for the newest one" : string.Empty;
        return $"{_current.ObservationSize} ({parts}{frames})";
    }

    private void ThrowIfDisposed() => Guard.NotDisposed(_isDisposed, this);
}
