using Xunit;

namespace AISandbox.Simulation.Tests;

/// <summary>What an environment can do wrong, and the sentence that its author reads.</summary>
public class EnvironmentFailureTests
{
    private static EnvironmentSpecBuilder Spec => EnvironmentSpec.Create("Broken").Action(Space.Discrete(3));

    public static TheoryData<string, object> Mistakes => new()
    {
        { "Step threw InvalidOperationException: the wheel came off", Stepping(_ => throw new InvalidOperationException("the wheel came off")) },
        { "the observation was not written", Stepping(_ => StepResult.Continue(0)) },
        { "the observation, element [1] ('right') is NaN: it was not written, or NaN was", Stepping(context =>
        {
            context.Observation.AsSpan<float>()[0] = 1;
            return StepResult.Continue(0);
        }) },
        { "the observation, element [0] ('left') is Infinity, which is not finite", Stepping(context =>
        {
            context.Observation.Write(1.0 / 0, 0);
            return StepResult.Continue(0);
        }) },
        { "the observation has 2 elements, 3 were written", Stepping(context =>
        {
            context.Observation.Write(1f, 2f, 3f);
            return StepResult.Continue(0);
        }) },
        { "use AsSpan<float>()", Stepping(context =>
        {
            context.Observation.AsSpan<double>()[0] = 1;
            return StepResult.Continue(0);
        }) },
        { "the reward is Infinity, which is not a finite float", Stepping(context =>
        {
            context.Observation.Write(1f, 2f);
            return StepResult.Continue(1e300);
        }) },
        { "the action is a Discrete, not a MultiBinary", Stepping(context => StepResult.Continue(context.Action.MultiBinary[0])) },
        { "the spec declares no masks", Stepping(context =>
        {
            context.Mask.Forbid(1);
            return StepResult.Continue(0);
        }) },
        { "metric 'goals': the spec declares no metrics", Stepping(context =>
        {
            context.Metrics["goals"] += 1;
            return StepResult.Continue(0);
        }) },
        { "the observation is a single value without keys", Stepping(context => StepResult.Continue(context.Observation["x"].Count)) },
        { "the action mask allows no action", Stepping(context =>
        {
            context.Observation.Write(0f);
            context.Mask.ForbidAll();
            return StepResult.Continue(0);
        }, Spec.Observation(Space.Box(1)).ActionMasks().Build()) },
        { "the observation, element [] is 7, which is outside 0 .. 3", Stepping(context =>
        {
            context.Observation.Write(7L);
            return StepResult.Continue(0);
        }, Spec.Observation(Space.Discrete(4)).Build()) },
        { "observation 'b' was not written", Stepping(context =>
        {
            context.Observation["a"].Write(1f);
            return StepResult.Continue(0);
        }, Spec.Observation("a", Space.Box(1)).Observation("b", Space.Box(ElementType.UInt8, 2)).Build()) },
        { "the observation is a Dict of 'a', 'b': name the entry", Stepping(context =>
        {
            context.Observation.Write(1f);
            return StepResult.Continue(0);
        }, Spec.Observation("a", Space.Box(1)).Observation("b", Space.Box(1)).Build()) },
        { "300 is not a whole number that byte holds", Stepping(context =>
        {
            context.Observation.Write(300L);
            return StepResult.Continue(0);
        }, Spec.Observation(Space.Box(ElementType.UInt8, 1)).Build()) },
        { "metric 'goals' is NaN, which is not finite", Stepping(context =>
        {
            context.Observation.Write(0f);
            context.Metrics["goals"] = double.NaN;
            return StepResult.Terminated(0);
        }, Spec.Observation(Space.Box(1)).Metrics("goals").Build()) },
    };

    [Theory]
    [MemberData(nameof(Mistakes))]
    public void Failure_names_environment_seed_step_and_element(string words, object environment)
    {
        using var runner = new EnvironmentRunner((ScriptedEnvironment)environment);
        runner.Reset(77);

        var failure = Assert.Throws<EnvironmentFailedException>(() => runner.Step(1));

        Assert.StartsWith("environment 0 of 1, seed 77, step 1: ", failure.Message, StringComparison.Ordinal);
        Assert.Contains(words, failure.Message, StringComparison.Ordinal);
        Assert.Equal((0, 77UL, 1L), (failure.Environment, failure.Seed, failure.Step));
    }

    [Fact]
    public void Failure_of_a_reset_is_told_as_one()
    {
        using var runner = new EnvironmentRunner(new ScriptedEnvironment { OnReset = _ => throw new IOException("no level") });

        var failure = Assert.Throws<EnvironmentFailedException>(() => runner.Reset(5));

        Assert.Contains("seed 5, at the reset: Reset threw IOException: no level", failure.Message, StringComparison.Ordinal);
        Assert.True(failure.Threw);
    }

    [Fact]
    public void Failure_is_told_when_the_spec_changes()
    {
        var environment = new ScriptedEnvironment();
        using var runner = new EnvironmentRunner(environment);
        runner.Reset();
        environment.Spec = Spec.Observation(Space.Box(3)).Build();

        Assert.Contains("Spec changed", Assert.Throws<EnvironmentFailedException>(() => runner.Reset()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Failure_leaves_a_recording_that_replays_it()
    {
        var folder = Directory.CreateTempSubdirectory().FullName;
        static StepResult Step(StepContext context)
        {
            context.Observation.Write(0f, context.StepNumber == 4 && context.Action.Discrete == 2 ? float.NaN : 0f);
            return StepResult.Continue(0);
        }
        var simulator = new Simulator(() => new ScriptedEnvironment { OnStep = Step }, new SimulatorOptions { FailedEpisodesDirectory = folder });
        using var session = simulator.CreateSession();
        session.Handle(Requests.Open(2));
        session.Handle(Requests.Reset(10, 11));
        for (var step = 0; step < 3; step++)
            session.Handle(Requests.Step(0, step));

        var failure = Assert.Throws<Grpc.Core.RpcException>(() => session.Handle(Requests.Step(0, 2)));

        Assert.Equal(Grpc.Core.StatusCode.DataLoss, failure.StatusCode);
        Assert.Contains("environment 1 of 2, seed 11, step 4: the observation, element [1] ('right') is NaN", failure.Status.Detail, StringComparison.Ordinal);
        var recording = EpisodeRecording.Load(Directory.GetFiles(folder).Single());
        Assert.Equal(("Scripted", 11UL, 4), (recording.Simulation, recording.Seed, recording.Steps));
        var again = Assert.Throws<EnvironmentFailedException>(() => recording.Replay(new ScriptedEnvironment { OnStep = Step }));
        Assert.Equal((11UL, 4L), (again.Seed, again.Step));
    }

    [Fact]
    public void Recording_names_a_file_that_is_none()
    {
        var path = Path.GetTempFileName();
        File.WriteAllText(path, "{}");
        Assert.Contains("is not a recording of an episode", Assert.Throws<RecordingException>(() => EpisodeRecording.Load(path)).Message, StringComparison.Ordinal);
    }

    private static ScriptedEnvironment Stepping(ScriptedEnvironment.StepFunction step, EnvironmentSpec? spec = null)
    {
        var environment = new ScriptedEnvironment { OnStep = step };
        if (spec is null)
            return environment;
        environment.Spec = spec;
        environment.OnReset = context =>
        {
            foreach (var leaf in spec.ObservationLeaves)
            {
                var writer = leaf.Key.Length > 0 ? context.Observation[leaf.Key] : default;
                if (leaf.Key.Length == 0)
                    context.Observation.Write(new long[leaf.Size]);
                else
                    writer.Write(new long[leaf.Size]);
            }
        };
        return environment;
    }
}
