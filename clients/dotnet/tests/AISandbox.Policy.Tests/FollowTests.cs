using System;
using System.Collections.Concurrent;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using AISandbox.Client;
using Grpc.Core;
using Microsoft.Extensions.Logging;
using Xunit;

namespace AISandbox.PolicyTests;

/// <summary>A followed policy acts in every tick, whatever happens to the service.</summary>
public sealed class FollowTests : IAsyncLifetime
{
    private readonly FakeService _service = new();
    private readonly LogLines _log = new();

    private static Published First => Published.Get("PPO-vector-discrete");

    /// <summary>Of the same spaces as the first one, with other weights.</summary>
    private static Published Second => Published.Get("DQN-vector-discrete");

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    public ValueTask InitializeAsync()
    {
        _service.Answers.Model = First;
        return ValueTask.CompletedTask;
    }

    public ValueTask DisposeAsync() => _service.DisposeAsync();

    [Fact]
    public async Task Policy_is_that_of_the_service_and_changes_with_it()
    {
        await _service.StartAsync();
        await using var policy = await FollowAsync();
        Assert.Equal("sha256:of-" + First.Name, policy.Model.Digest);
        Assert.True(policy.Model.IsVerified);
        AssertActsAs(First, policy);
        var ready = new ConcurrentQueue<string>();
        policy.ModelReady += (_, args) => ready.Enqueue(args.Model.Digest);

        _service.Answers.Model = Second;

        await UntilActsAsync(Second, policy);
        await UntilAsync(() => !ready.IsEmpty); // the event is raised after the model is in use
        Assert.Equal(["sha256:of-" + Second.Name], ready);
        Assert.Null(policy.LastError);
    }

    [Fact]
    public async Task Policy_follows_by_the_client_of_the_package_too()
    {
        await _service.StartAsync();
        using var client = new AISandboxClient(_service.Address);
        await using var policy = await Policy.FollowAsync(client, "r", "latest", Options(), Cancelled);
        AssertActsAs(First, policy);
        _service.Answers.Model = Second;
        await UntilActsAsync(Second, policy);
    }

    [Fact]
    public async Task Policy_acts_in_every_tick_while_models_are_replaced()
    {
        await _service.StartAsync();
        await using var policy = await FollowAsync();
        var observation = First.Observations.Zip(First.Modes, Second.Modes).First(each => each.Second[0] != each.Third[0]).First;
        var row = Array.IndexOf(First.Observations, observation);
        var action = new float[1];
        var expected = new[] { First.Modes[row][0], Second.Modes[row][0] };
        for (var swap = 1; swap <= 6; swap++)
        {
            _service.Answers.Model = swap % 2 == 0 ? First : Second;
            do
            {
                policy.Act(observation, action);
                Assert.Contains(action[0], expected);
                Assert.False(Cancelled.IsCancellationRequested);
            }
            while (action[0] != expected[swap % 2]);
        }
    }

    [Fact]
    public async Task Policy_waits_for_a_service_that_is_not_there_yet_and_says_so()
    {
        var following = FollowAsync();
        await UntilAsync(() => _log.Lines.Any(line => line.Contains("The service does not answer when asked for model 'best' of run 'r'", StringComparison.Ordinal)));
        Assert.False(following.IsCompleted);

        await _service.StartAsync();

        await using var policy = await following.WaitAsync(Cancelled);
        AssertActsAs(First, policy);
    }

    [Fact]
    public async Task Policy_acts_while_the_service_is_away_and_follows_when_it_is_back()
    {
        await _service.StartAsync();
        await using var policy = await FollowAsync();

        await _service.StopAsync();
        await UntilAsync(() => policy.LastError is not null);
        Assert.True(policy.LastError!.IsTransient);
        AssertActsAs(First, policy);

        _service.Answers.Model = Second;
        await _service.StartAsync();
        await UntilActsAsync(Second, policy);
        await UntilAsync(() => policy.LastError is null);
    }

    [Fact]
    public async Task Policy_waits_for_the_first_model()
    {
        _service.Answers.Model = null;
        await _service.StartAsync();
        var following = FollowAsync();
        await UntilAsync(() => _log.Lines.Any(line => line.Contains("There is no model 'best' of run 'r' yet", StringComparison.Ordinal)));
        Assert.False(following.IsCompleted);

        _service.Answers.Model = First;

        await using var policy = await following.WaitAsync(Cancelled);
        AssertActsAs(First, policy);
    }

    [Fact]
    public async Task Run_that_failed_before_its_first_model_is_an_error_with_its_reason()
    {
        _service.Answers.Model = null;
        _service.Answers.Status = new()
        {
            Phase = V1.Phase.Failed,
            IsDone = true,
            Failure = new V1.Failure { Reason = "SimulatorUnreachable", Message = "nobody answers" },
        };
        await _service.StartAsync();
        var error = await Assert.ThrowsAsync<PolicyException>(() => FollowAsync());
        Assert.Equal(PolicyErrorReason.NoModel, error.Reason);
        Assert.Contains("will never exist: the run has failed (SimulatorUnreachable: nobody answers)", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Run_that_has_not_started_is_waited_for()
    {
        // So an inference-server answers until the trainer has made the run's folder.
        _service.Answers.Error = new RpcException(new Status(StatusCode.NotFound, "run r is unknown"));
        _service.Answers.Status = new() { Phase = V1.Phase.Pending };
        await _service.StartAsync();
        var following = FollowAsync();
        await UntilAsync(() => _service.Answers.Calls.Count(call => call == "GetModel") >= 3);
        Assert.False(following.IsCompleted);

        _service.Answers.Error = null;

        await using var policy = await following.WaitAsync(Cancelled);
        AssertActsAs(First, policy);
    }

    [Theory]
    [InlineData(StatusCode.FailedPrecondition)]
    [InlineData(StatusCode.NotFound)]
    public async Task Model_that_is_published_while_the_status_is_asked_for_is_used(StatusCode code)
    {
        _service.Answers.Error = new RpcException(new Status(code, "run r has published no model 'best' yet"));
        _service.Answers.Status = new() { Phase = V1.Phase.Succeeded, IsDone = true };
        _service.Answers.OnStatus = () => _service.Answers.Error = null;
        await _service.StartAsync();
        await using var policy = await FollowAsync();
        AssertActsAs(First, policy);
    }

    [Fact]
    public async Task Handler_of_a_newer_model_that_throws_has_failed_alone()
    {
        await _service.StartAsync();
        await using var policy = await FollowAsync();
        policy.ModelReady += (_, _) => throw new InvalidOperationException("broken handler");

        _service.Answers.Model = Second;

        await UntilActsAsync(Second, policy);
        await UntilAsync(() => _log.Lines.Contains("A handler of ModelReady has failed"));
        var looks = Looks();
        await UntilAsync(() => Looks() >= looks + 3);
        Assert.Equal(2, _service.Answers.Calls.Count(call => call == "GetModel"));
        Assert.Null(policy.LastError);

        int Looks() => _service.Answers.Calls.Count(call => call == "DescribeModel");
    }

    [Fact]
    public async Task Caller_that_does_not_wait_is_told_what_is_missing()
    {
        var options = Options();
        options.WaitForModel = false;
        var error = await Assert.ThrowsAsync<PolicyException>(() => Policy.FollowAsync(_service.Client(), "r", "best", options, Cancelled));
        Assert.Equal(PolicyErrorReason.Unavailable, error.Reason);

        _service.Answers.Model = null;
        await _service.StartAsync();
        // The channel's own backoff may still say that nothing listens.
        await UntilAsync(async () => (error = await Assert.ThrowsAsync<PolicyException>(
            () => Policy.FollowAsync(_service.Client(), "r", "best", options, Cancelled))).Reason == PolicyErrorReason.NoModel);
        Assert.Contains("There is no model 'best' of run 'r' yet", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(StatusCode.NotFound, PolicyErrorReason.RunNotFound)]
    [InlineData(StatusCode.PermissionDenied, PolicyErrorReason.Refused)]
    [InlineData(StatusCode.InvalidArgument, PolicyErrorReason.Refused)]
    public async Task Refusal_of_the_service_is_an_error_at_once(StatusCode code, PolicyErrorReason reason)
    {
        _service.Answers.Error = _service.Answers.StatusError = new RpcException(new Status(code, "the detail"));
        await _service.StartAsync();
        var error = await Assert.ThrowsAsync<PolicyException>(() => FollowAsync());
        Assert.Equal(reason, error.Reason);
        Assert.Contains("the detail", error.Message, StringComparison.Ordinal);
    }

    public static TheoryData<string> Damages() => ["flipped", "shorter", "longer", "swapped", "empty"];

    [Theory]
    [MemberData(nameof(Damages))]
    public async Task Model_damaged_on_the_way_is_not_used_and_asked_for_again(string kind)
    {
        await _service.StartAsync();
        await using var policy = await FollowAsync();

        _service.Answers.Damage = Damage(kind);
        _service.Answers.Model = Second;
        await UntilAsync(() => policy.LastError is not null);
        Assert.Equal(PolicyErrorReason.Damaged, policy.LastError!.Reason);
        AssertActsAs(First, policy);

        _service.Answers.Damage = null;
        await UntilActsAsync(Second, policy);
        await UntilAsync(() => policy.LastError is null);
    }

    [Fact]
    public async Task First_model_that_is_damaged_each_time_is_an_error()
    {
        _service.Answers.Damage = Damage("flipped");
        await _service.StartAsync();
        var error = await Assert.ThrowsAsync<PolicyException>(() => FollowAsync());
        Assert.Equal(PolicyErrorReason.Damaged, error.Reason);
        Assert.Equal(3, _service.Answers.Calls.Count(call => call == "GetModel"));
    }

    [Fact]
    public async Task Model_of_other_spaces_is_not_used()
    {
        await _service.StartAsync();
        await using var policy = await FollowAsync();
        _service.Answers.Model = Published.Get("PPO-dict-discrete");
        await UntilAsync(() => policy.LastError?.Reason == PolicyErrorReason.OtherSpaces);
        Assert.Contains("Follow it anew", policy.LastError!.Message, StringComparison.Ordinal);
        AssertActsAs(First, policy);
    }

    [Fact]
    public async Task Silent_service_is_noticed()
    {
        await _service.StartAsync();
        var options = Options();
        options.Timeout = TimeSpan.FromSeconds(1);
        await using var policy = await Policy.FollowAsync(_service.Client(), "r", "best", options, Cancelled);
        _service.Answers.IsSilent = true;
        await UntilAsync(() => policy.LastError is not null);
        Assert.Contains("The service was silent for 1 s", policy.LastError!.Message, StringComparison.Ordinal);
        _service.Answers.IsSilent = false;
        await UntilAsync(() => policy.LastError is null);
    }

    [Fact]
    public async Task With_a_frame_stack_a_newer_model_is_used_from_the_next_episode_on()
    {
        var first = Published.Get("PPO-vector-discrete-stacked");
        var second = Published.Get("DQN-vector-discrete-stacked");
        _service.Answers.Model = first;
        await _service.StartAsync();
        await using var policy = await FollowAsync();
        var ready = new TaskCompletionSource();
        policy.ModelReady += (_, _) => ready.TrySetResult();
        var action = new float[1];
        policy.StartEpisode();
        policy.Act(first.Frames[0], action);

        _service.Answers.Model = second;
        await ready.Task.WaitAsync(Cancelled);
        for (var i = 1; i < first.Frames.Length; i++)
        {
            policy.Act(first.Frames[i], action);
            ParityTests.Equal(first.Stacked[i], action);
        }

        policy.StartEpisode();
        for (var i = 0; i < second.Frames.Length; i++)
        {
            policy.Act(second.Frames[i], action);
            ParityTests.Equal(second.Stacked[i], action);
        }
    }

    [Fact]
    public async Task States_of_episodes_are_not_given_to_another_model()
    {
        var first = Published.Get("RecurrentPPO-vector-box-net_arch=[16]-lstm_hidden_size=12");
        var second = Published.Get("RecurrentPPO-vector-box-use_sde=True-net_arch=[16]-lstm_hidden_size=12");
        _service.Answers.Model = first;
        await _service.StartAsync();
        await using var policy = await FollowAsync();
        var ready = new TaskCompletionSource();
        policy.ModelReady += (_, _) => ready.TrySetResult();
        var action = new float[policy.ActionSize];
        var state = new float[policy.StateSize];
        policy.ActInEpisodes(first.Observations[0], state, [true], action);

        _service.Answers.Model = second;
        await ready.Task.WaitAsync(Cancelled);
        policy.ActInEpisodes(first.Observations[1], state, [false], action);
        policy.StartEpisode();

        Assert.Throws<InvalidOperationException>(() => policy.ActInEpisodes(first.Observations[2], state, [false], action));
        policy.ActInEpisodes(second.Observations[0], state, [true], action);
        ParityTests.Equal(second.Firsts[0], action);
    }

    [Fact]
    public async Task Wait_for_a_model_ends_with_the_callers_token()
    {
        using var stop = new CancellationTokenSource();
        var following = Policy.FollowAsync(_service.Client(), "r", "best", Options(), stop.Token);
        await UntilAsync(() => !_log.Lines.IsEmpty);
        await stop.CancelAsync();
        var error = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => following);
        Assert.Equal(stop.Token, error.CancellationToken);
    }

    [Fact]
    public async Task Disposed_policy_asks_no_more()
    {
        await _service.StartAsync();
        var policy = await FollowAsync();
        await UntilAsync(() => _service.Answers.Calls.Contains("DescribeModel"));
        await policy.DisposeAsync();
        var calls = _service.Answers.Calls.Count;
        _service.Answers.Model = Second;
        await using var other = await FollowAsync();
        await UntilAsync(() => _service.Answers.Calls.Count >= calls + 3);
        Assert.Equal(1, _service.Answers.Calls.Skip(calls).Count(call => call == "GetModel"));
    }

    [Fact]
    public async Task Wrong_arguments_are_refused_with_their_names()
    {
        Assert.Equal("client", (await Assert.ThrowsAsync<ArgumentNullException>(
            () => Policy.FollowAsync((V1.PolicyTrainerService.PolicyTrainerServiceClient)null!, "r", cancellationToken: Cancelled))).ParamName);
        Assert.Equal("run", (await Assert.ThrowsAsync<ArgumentException>(
            () => Policy.FollowAsync(_service.Client(), string.Empty, cancellationToken: Cancelled))).ParamName);
        Assert.Equal("Interval", (await Assert.ThrowsAsync<ArgumentOutOfRangeException>(
            () => Policy.FollowAsync(_service.Client(), "r", "best", new PolicyFollowOptions { Interval = TimeSpan.Zero }, Cancelled))).ParamName);
    }

    private static Func<byte[], byte[]> Damage(string kind) => kind switch
    {
        "flipped" => onnx => [.. onnx[..100], (byte)(onnx[100] ^ 1), .. onnx[101..]],
        "shorter" => onnx => onnx[..^1],
        "longer" => onnx => [.. onnx, 0],
        "swapped" => onnx => [.. System.IO.File.ReadAllBytes(Published.Get("PPO-vector-box").OnnxFile).Concat(new byte[onnx.Length]).Take(onnx.Length)],
        _ => _ => [],
    };

    private static void AssertActsAs(Published published, Policy policy)
    {
        var actions = new float[published.Modes.Length];
        policy.ActBatch(published.Observations.SelectMany(row => row).ToArray(), actions);
        ParityTests.Equal(published.Modes.SelectMany(row => row).ToArray(), actions);
    }

    private static Task UntilActsAsync(Published published, Policy policy) => UntilAsync(() =>
    {
        policy.ActDiscrete(published.Observations[0]);
        if (policy.Model.Digest != "sha256:of-" + published.Name)
        {
            return false;
        }

        AssertActsAs(published, policy);
        return true;
    });

    private static Task UntilAsync(Func<bool> condition) => UntilAsync(() => Task.FromResult(condition()));

    private static async Task UntilAsync(Func<Task<bool>> condition)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(Cancelled);
        limit.CancelAfter(TimeSpan.FromMinutes(2));
        while (!await condition())
        {
            await Task.Delay(5, limit.Token);
        }
    }

    private PolicyFollowOptions Options() => new()
    {
        Interval = TimeSpan.FromMilliseconds(20),
        MaxBackoff = TimeSpan.FromMilliseconds(100),
        Logger = _log,
    };

    private Task<Policy> FollowAsync() => Policy.FollowAsync(_service.Client(), "r", "best", Options(), Cancelled);

    private sealed class LogLines : ILogger
    {
        public ConcurrentQueue<string> Lines { get; } = new();

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            Lines.Enqueue(formatter(state, exception));
    }
}
