using Microsoft.Extensions.Time.Testing;
using Xunit;

namespace AISandbox.Simulation.Tests;

public class RunnerTests
{
    private static readonly IAgent Balancer = Agents.From(context =>
        context.Action.Write(context.Observation[2] + 0.5 * context.Observation[3] > 0 ? CartPole.Push.Right : CartPole.Push.Left));

    [Fact]
    public void Runner_plays_by_a_script_to_the_limit_of_steps()
    {
        using var runner = new EnvironmentRunner(new CartPole());
        var result = runner.Play(Balancer, seed: 3);
        Assert.Equal((3UL, 500L, 500.0, false, true), (result.Seed, result.Steps, result.Reward, result.Terminated, result.Truncated));
        Assert.True(runner.Play(Agents.Random(), seed: 3).Terminated);
    }

    [Fact]
    public void Rover_collects_samples_by_a_script_until_it_is_truncated()
    {
        using var runner = new EnvironmentRunner(new Rover());
        var (script, chance) = (runner.Play(Drivers.Script, seed: 3), runner.Play(Agents.Random(), seed: 3));
        Assert.Equal((500L, false, true), (script.Steps, script.Terminated, script.Truncated));
        Assert.True(script.Metrics["collected"] > chance.Metrics["collected"] + 3, $"{script.Metrics["collected"]} samples");
        Assert.True(script.Reward > chance.Reward);
    }

    [Fact]
    public void Recording_is_saved_and_played_again()
    {
        using var runner = new EnvironmentRunner(new CartPole());
        var played = runner.Play(Agents.Random(8), seed: 21);
        var path = Path.Combine(Directory.CreateTempSubdirectory().FullName, "episode.json");
        runner.Record().Save(path);

        var recording = EpisodeRecording.Load(path);

        using var file = System.Text.Json.JsonDocument.Parse(File.ReadAllText(path)); // `aisandbox record --replay` reads it too
        Assert.Equal(["format", "simulation", "seed", "options", "actions"], file.RootElement.EnumerateObject().Select(field => field.Name));
        Assert.Equal((1, 21, played.Steps), (file.RootElement.GetProperty("format").GetInt32(), file.RootElement.GetProperty("seed").GetInt32(), file.RootElement.GetProperty("actions").GetArrayLength()));
        Assert.Equal(played with { Metrics = recording.Replay(new CartPole()).Metrics }, recording.Replay(new CartPole()) with { Metrics = played.Metrics }, Same);
        Assert.Equal(played.Steps, runner.Play(Agents.Replay(recording), recording.Seed).Steps);
    }

    [Fact]
    public void Recording_tells_that_an_episode_is_not_reproduced()
    {
        using var runner = new EnvironmentRunner(new ScriptedEnvironment());
        runner.Reset(1);
        runner.Step(1);
        runner.Step(1);
        static StepResult EndAtOnce(StepContext context)
        {
            context.Observation.Write(0f, 0f);
            return StepResult.Terminated(0);
        }
        var error = Assert.Throws<RecordingException>(() => runner.Record().Replay(new ScriptedEnvironment { OnStep = EndAtOnce }));
        Assert.Contains("the episode ended after 1 of 2 recorded steps", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Recording_tells_that_an_episode_has_more_steps_than_it()
    {
        using var runner = new EnvironmentRunner(new CartPole());
        runner.Reset(1);
        runner.Step(1);
        var error = Assert.Throws<RecordingException>(() => runner.Play(Agents.Replay(runner.Record()), seed: 1));
        Assert.Contains("the recording ends after 1 steps, and the episode has not ended there", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Observation_is_copied_as_a_policy_takes_it()
    {
        using var runner = new EnvironmentRunner(new CameraAndGear());
        runner.Reset(1);
        var numbers = new float[runner.Observation.Count];
        runner.Observation.CopyTo(numbers);
        Assert.Equal([0.5f, -0.5f, 0, 255, 7, 3], numbers);
        var error = Assert.Throws<ArgumentException>(() => runner.Observation.CopyTo(new float[5]));
        Assert.Equal("the observation has 6 elements, and the destination has room for 5", error.Message);
    }

    private sealed class CameraAndGear : IEnvironment
    {
        public EnvironmentSpec Spec { get; } = EnvironmentSpec.Create("CameraAndGear")
            .Observation("position", Space.Box(2)).Observation("camera", Space.Box(ElementType.UInt8, 1, 3)).Observation("gear", Space.Discrete(4))
            .Action(Space.Discrete(2)).Build();

        public void Reset(ResetContext context)
        {
            context.Observation["gear"].Write(3L);
            context.Observation["camera"].Write(0L, 255L, 7L);
            context.Observation["position"].Write(0.5f, -0.5f);
        }

        public StepResult Step(StepContext context) => throw new NotSupportedException();
    }

    [Fact]
    public void Runner_names_what_is_wrong_with_a_call()
    {
        using var runner = new EnvironmentRunner(new CartPole());
        Assert.Contains("needs a reset", Assert.Throws<InvalidOperationException>(() => runner.Step(1)).Message, StringComparison.Ordinal);
        runner.Reset();
        Assert.Contains("was not written", Assert.Throws<ArgumentException>(() => runner.Step()).Message, StringComparison.Ordinal);
        Assert.Contains("is 2, which is outside 0 .. 1", Assert.Throws<ArgumentException>(() => runner.Step(2)).Message, StringComparison.Ordinal);
        runner.Play(Agents.Random());
        Assert.Contains("call Reset", Assert.Throws<InvalidOperationException>(() => runner.Step(1)).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidOptionException>(() => new EnvironmentRunner(new CartPole(), new Dictionary<string, object> { ["x"] = 1 }));
    }

    [Fact]
    public async Task Runner_keeps_the_pace_of_the_environment()
    {
        var clock = new FakeTimeProvider();
        using var runner = new EnvironmentRunner(new CartPole());
        var shown = 0;
        var options = new PlayOptions { Seed = 1, Time = clock, Speed = 2, OnStep = _ => shown++ };
        var playing = runner.PlayAsync(Balancer, options, TestContext.Current.CancellationToken);
        for (var step = 1; step <= 5; step++)
        {
            Assert.Equal(step, shown); // one was shown at the reset
            clock.Advance(TimeSpan.FromSeconds(0.009));
            Assert.Equal(step, shown);
            clock.Advance(TimeSpan.FromSeconds(0.001));
            while (shown == step)
                await Task.Yield();
        }
        while (!playing.IsCompleted)
        {
            clock.Advance(TimeSpan.FromSeconds(1));
            await Task.Yield();
        }
        Assert.Equal(500, (await playing).Steps);
    }

    [Fact]
    public async Task Runner_stops_when_it_is_cancelled()
    {
        using var stop = new CancellationTokenSource();
        using var runner = new EnvironmentRunner(new CartPole());
        var options = new PlayOptions { Speed = double.PositiveInfinity, OnStep = played => { if (played.Steps == 3) stop.Cancel(); } };
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => runner.PlayAsync(Balancer, options, stop.Token));
        Assert.Equal(3, runner.Steps);
    }

    private static bool Same(EpisodeResult one, EpisodeResult other) =>
        (one.Seed, one.Steps, one.Reward, one.Terminated) == (other.Seed, other.Steps, other.Reward, other.Terminated);
}
