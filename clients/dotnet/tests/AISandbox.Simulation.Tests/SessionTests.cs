using AISandbox.V1;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Testing;
using Xunit;

namespace AISandbox.Simulation.Tests;

public class SessionTests
{
    [Fact]
    public void Session_restarts_an_episode_in_the_step_that_ends_it()
    {
        static StepResult Step(StepContext context)
        {
            context.Observation.Write(context.StepNumber, 0);
            context.Metrics["steps"] = context.StepNumber;
            return context.Action.Discrete == 2 ? StepResult.Terminated(5) : StepResult.Continue(1);
        }
        var spec = EnvironmentSpec.Create("Ends").Observation(Space.Box(2)).Action(Space.Discrete(3)).Metrics("steps").MaxEpisodeSteps(3).Build();
        using var session = new Simulator(() => new ScriptedEnvironment { Spec = spec, OnStep = Step }).CreateSession();
        session.Handle(Requests.Open(2));
        session.Handle(Requests.Reset());

        var first = session.Handle(Requests.Step(0, 2)).Step;
        Assert.Equal([(byte)0, 1], first.Terminated.ToArray());
        Assert.Equal([(byte)0, 0], first.Truncated.ToArray());
        Assert.Equal([1f, 5f], first.Rewards.Floats());
        Assert.Equal([1f, 0, 0, 0], first.Observations[0].Floats());
        Assert.Equal([1f, 0], first.FinalObservations.Single().Floats());
        Assert.Equal((1U, 1.0), (first.EpisodeMetrics.Single().Environment, first.EpisodeMetrics[0].Values["steps"]));

        Assert.Empty(session.Handle(Requests.Step(0, 0)).Step.FinalObservations);
        var third = session.Handle(Requests.Step(0, 0)).Step;
        Assert.Equal([(byte)0, 0], third.Terminated.ToArray());
        Assert.Equal([(byte)1, 0], third.Truncated.ToArray());
        Assert.Equal([3f, 0], third.FinalObservations.Single().Floats());
    }

    [Theory]
    [InlineData(null, false, 0)]
    [InlineData(null, true, 3600)]
    [InlineData(0, true, 0)]
    [InlineData(600, false, 600)]
    public void Session_asks_to_be_waited_for_at_a_breakpoint(int? seconds, bool hasDebugger, double asked)
    {
        var options = new SimulatorOptions { ReplyTimeout = seconds is { } given ? TimeSpan.FromSeconds(given) : null, HasDebugger = () => hasDebugger };
        using var session = new Simulator(() => new ScriptedEnvironment(), options).CreateSession();
        Assert.Equal(asked, session.Handle(Requests.Open(1)).Open.ReplyTimeoutSeconds);
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(86_401)]
    public void Reply_timeout_that_no_trainer_accepts_is_refused(int seconds)
    {
        var options = new SimulatorOptions { ReplyTimeout = TimeSpan.FromSeconds(seconds) };
        var error = Assert.Throws<ArgumentException>(() => new Simulator(() => new ScriptedEnvironment(), options));
        Assert.StartsWith("ReplyTimeout: must be from 0 to a day, got ", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Session_frees_its_environments_when_it_is_disposed_of()
    {
        var made = new List<ScriptedEnvironment>();
        var simulator = new Simulator(() =>
        {
            made.Add(new ScriptedEnvironment());
            return made[^1];
        }, new SimulatorOptions { Capacity = 3 });
        var session = simulator.CreateSession();
        session.Handle(Requests.Open(2));
        Assert.Equal((2, 2U), (simulator.InUse, simulator.Describe().InUse));
        using (var other = simulator.CreateSession())
        {
            var refusal = Assert.Throws<RpcException>(() => other.Handle(Requests.Open(2)));
            Assert.Equal((StatusCode.ResourceExhausted, "2 environments were requested and 1 of 3 are free"), (refusal.StatusCode, refusal.Status.Detail));
        }
        session.Dispose();

        Assert.Equal(0, simulator.InUse);
        Assert.All(made, environment => Assert.True(environment.IsDisposed));
    }

    [Fact]
    public void Session_refuses_at_open_what_no_message_can_carry()
    {
        var spec = EnvironmentSpec.Create("Cameras").Observation("speed", Space.Box(1))
            .Observation("camera", Space.Box(ElementType.UInt8, 1000, 1000, 4)).Action(Space.Discrete(2)).Build();
        using var session = new Simulator(() => new ScriptedEnvironment { Spec = spec }).CreateSession();

        var refusal = Assert.Throws<RpcException>(() => session.Handle(Requests.Open(300)));

        Assert.Equal(StatusCode.InvalidArgument, refusal.StatusCode);
        Assert.Contains("observation 'camera' alone has 4000000 bytes", refusal.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public void Session_refuses_environments_whose_specs_differ()
    {
        var number = 0;
        EnvironmentSpec Spec() => EnvironmentSpec.Create("Differs").Observation(Space.Box(Math.Max(1, number++))).Action(Space.Discrete(2)).Build();
        using var session = new Simulator(() => new ScriptedEnvironment { Spec = Spec() }).CreateSession();

        var refusal = Assert.Throws<RpcException>(() => session.Handle(Requests.Open(2)));

        Assert.Contains("the spec of environment 1 differs from the one of environment 0", refusal.Status.Detail, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false, LogLevel.Information)]
    [InlineData(true, LogLevel.Debug)]
    public void Session_of_an_evaluation_is_logged_at_Debug(bool isEvaluation, LogLevel level)
    {
        var logs = new FakeLogCollector();
        var open = Requests.Open(2);
        open.Open.Evaluation = isEvaluation;
        using (var session = new Simulator(() => new CartPole(), logger: new FakeLogger(logs)).CreateSession())
            session.Handle(open);
        Assert.Equal([(level, "Session opened"), (level, "Session ended")], logs.GetSnapshot().Select(record => (record.Level, record.Message[..record.Message.IndexOf(':', StringComparison.Ordinal)])));
    }

    [Fact]
    public void Session_hands_parameters_to_episodes_and_refuses_what_is_not_declared()
    {
        var spec = EnvironmentSpec.Create("Taught").Observation(Space.Box(2)).Action(Space.Discrete(3)).MaxEpisodeSteps(2)
            .Parameter("distance", 10.0, 1, 30, "to the goal").Parameter("walls", 2L, 0, 8).Parameter("floor", "stone", "stone", "ice")
            .Parameter("wind", false).Build();
        Assert.Equal((1.0, 30.0, "to the goal", true), (spec.ToContract().Parameters[0].Minimum, spec.ToContract().Parameters[0].Maximum,
            spec.ToContract().Parameters[0].Description, spec.ToContract().Parameters[1].Whole));
        var seen = new List<(double, long, string, bool)>();
        ScriptedEnvironment Make() => new()
        {
            Spec = spec,
            OnReset = context =>
            {
                var given = context.Parameters;
                seen.Add((given.Number("distance"), given.Integer("walls"), given.Text("floor"), given.Flag("wind")));
                context.Observation.Write(0f, 0f);
            },
        };
        using var session = new Simulator(Make).CreateSession();
        session.Handle(Requests.Open(2));
        session.Handle(Requests.Reset());
        var reset = Requests.Reset(1, 2);
        reset.Reset.Parameters = new Struct { Fields = { ["walls"] = Value.ForNumber(3) } };
        reset.Reset.EnvironmentParameters[1] = new Struct { Fields = { ["wind"] = Value.ForBool(true) } };
        session.Handle(reset);
        session.Handle(Requests.Step(0, 0));
        var last = Requests.Step(0, 0);
        last.Step.NextParameters[0] = new Struct { Fields = { ["floor"] = Value.ForString("ice") } };
        session.Handle(last);

        Assert.Equal([(10, 2, "stone", false), (10, 2, "stone", false)], seen[..2]);
        Assert.Equal([(10, 3, "stone", false), (10, 2, "stone", true)], seen[2..4]);
        Assert.Equal([(10, 2, "ice", false), (10, 2, "stone", true)], seen[4..]);
        last.Step.NextParameters[0] = new Struct { Fields = { ["walls"] = Value.ForNumber(9) } };
        Assert.Equal((SimulatorErrorCode.InvalidArgument, "step.next_parameters[0]: 'walls' is 9, expected 0 .. 8"),
            (session.Handle(last).Error.Code, session.Handle(last).Error.Message));
        reset.Reset.Parameters.Fields["speed"] = Value.ForNumber(1);
        Assert.StartsWith("reset.parameters: 'speed' is unknown; there are 'distance'", session.Handle(reset).Error.Message, StringComparison.Ordinal);
        Assert.Equal(6, seen.Count);
    }

    [Fact]
    public void Session_hands_options_to_the_environments_and_refuses_unknown_ones()
    {
        var spec = EnvironmentSpec.Create("Levels").Observation(Space.Box(1)).Action(Space.Discrete(2)).Option("level", 1, 1, 9).Build();
        var simulator = new Simulator(spec, options => new ScriptedEnvironment
        {
            Spec = spec,
            OnReset = context => context.Observation.Write(context.Options.Integer("level") + 10 * options.Integer("level")),
        });
        using var session = simulator.CreateSession();
        var open = Requests.Open(1);
        open.Open.Options = Google.Protobuf.WellKnownTypes.Struct.Parser.ParseJson("""{"level": 4}""");
        session.Handle(open);
        Assert.Equal([44f], session.Handle(Requests.Reset()).Reset.Observations[0].Floats());

        using var other = simulator.CreateSession();
        open.Open.Options = Google.Protobuf.WellKnownTypes.Struct.Parser.ParseJson("""{"lvl": 4}""");
        var refusal = Assert.Throws<RpcException>(() => other.Handle(open));
        Assert.Equal((StatusCode.InvalidArgument, "open.options: 'lvl' is unknown; there are 'level'"), (refusal.StatusCode, refusal.Status.Detail));
    }

    [Fact]
    public async Task Step_allocates_nothing_while_no_episode_ends()
    {
        var options = new SimulatorOptions { LongRequestThreshold = TimeSpan.FromMinutes(1) }; // stays in this thread
        using var session = new Simulator(() => new CartPole(), options).CreateSession();
        session.Handle(Requests.Open(8));
        session.Handle(Requests.Reset(1, 2, 3, 4, 5, 6, 7, 8));
        SimulatorRequest[] pushes = [Requests.Step(1, 1, 1, 1, 1, 1, 1, 1), Requests.Step(0, 0, 0, 0, 0, 0, 0, 0)];
        long before = 0;
        for (var step = 0; step < 20; step++)
        {
            if (step == 10)
                before = GC.GetAllocatedBytesForCurrentThread();
            var reply = session.HandleAsync(pushes[step % 2]);
            if (!reply.IsCompletedSuccessfully)
                Assert.Fail("the step was taken in another thread");
            if ((await reply).Step.FinalObservations.Count > 0)
                Assert.Fail("an episode ended");
        }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void Environments_take_their_steps_at_the_same_time_if_they_say_so()
    {
        Assert.SkipUnless(System.Environment.ProcessorCount > 1, "one processor");
        using var both = new Barrier(2);
        var spec = EnvironmentSpec.Create("Parallel").Observation(Space.Box(2)).Action(Space.Discrete(3)).StepsInParallel().Build();
        StepResult Step(StepContext context)
        {
            if (!both.SignalAndWait(TimeSpan.FromSeconds(60)))
                throw new TimeoutException("the other environment was not stepped at the same time");
            if (context.Action.Discrete == 2)
                throw new InvalidOperationException("broken");
            context.Observation.Write(0f, 0f);
            return StepResult.Continue(1);
        }
        using var session = new Simulator(() => new ScriptedEnvironment { Spec = spec, OnStep = Step }).CreateSession();
        session.Handle(Requests.Open(2));
        session.Handle(Requests.Reset());
        for (var i = 0; i < 100; i++)
            Assert.Equal([1f, 1f], session.Handle(Requests.Step(0, 0)).Step.Rewards.Floats());

        var failure = Assert.Throws<RpcException>(() => session.Handle(Requests.Step(0, 2)));
        Assert.Equal(StatusCode.Internal, failure.StatusCode);
        Assert.Contains("environment 1 of 2", failure.Status.Detail, StringComparison.Ordinal);
    }

    /// <summary>In a thread of its own such an exception would end the process.</summary>
    [Theory]
    [InlineData(false, "at the reset: Spec threw IOException: no level")]
    [InlineData(true, "Null character in path")]
    public void Environments_in_parallel_may_fail_in_whatever_they_do(bool isOfTheRecorder, string words)
    {
        Assert.SkipUnless(System.Environment.ProcessorCount > 1, "one processor");
        using var all = new Barrier(2);
        var spec = EnvironmentSpec.Create("Parallel").Observation(Space.Box(2)).Action(Space.Discrete(3)).StepsInParallel().Build();
        var environments = new List<FailingEnvironment>();
        var options = new SimulatorOptions { FailedEpisodesDirectory = isOfTheRecorder ? "no\0folder" : null };
        var simulator = new Simulator(
            () =>
            {
                environments.Add(new FailingEnvironment(spec, all));
                return environments[^1];
            },
            options);
        using var session = simulator.CreateSession();
        session.Handle(Requests.Open(2));
        session.Handle(Requests.Reset(0, 1));
        environments.ForEach(environment => environment.Fails = true);

        var failure = Assert.Throws<RpcException>(() => session.Handle(Requests.Step(0, 0)));

        Assert.Equal(StatusCode.Internal, failure.StatusCode);
        Assert.Contains(words, failure.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public void Session_that_is_refused_refuses_no_other()
    {
        var simulator = new Simulator(() => new ScriptedEnvironment(), new SimulatorOptions { Capacity = 1 });
        using var stop = new CancellationTokenSource();
        var refused = new Thread(() =>
        {
            while (!stop.IsCancellationRequested)
                Assert.Throws<RpcException>(() => simulator.Reserve(2));
        });
        refused.Start();
        try
        {
            for (var i = 0; i < 20_000; i++)
            {
                simulator.Reserve(1);
                simulator.Release(1);
            }
        }
        finally
        {
            stop.Cancel();
            refused.Join();
        }
        Assert.Equal(0, simulator.InUse);
    }

    [Fact]
    public async Task Session_with_a_long_request_goes_on_in_a_thread_of_its_own()
    {
        var threads = new List<Thread>();
        StepResult Step(StepContext context)
        {
            threads.Add(Thread.CurrentThread);
            context.Observation.Write(0f, 0f);
            return StepResult.Continue(1);
        }
        var simulator = new Simulator(() => new ScriptedEnvironment { OnStep = Step }, new SimulatorOptions { LongRequestThreshold = TimeSpan.Zero });
        var session = simulator.CreateSession();
        await session.HandleAsync(Requests.Open(1));
        await session.HandleAsync(Requests.Reset());
        for (var i = 0; i < 3; i++)
            Assert.Equal(1f, (await session.HandleAsync(Requests.Step(0))).Step.Rewards.Floats().Single());
        Assert.Single(threads.Distinct());
        Assert.False(threads[0].IsThreadPoolThread);

        session.Dispose();
        Assert.True(threads[0].Join(TimeSpan.FromSeconds(60)));
        Assert.Equal(0, simulator.InUse);
    }

    /// <summary>Ends its episode in every step, at the same time as the other one, and has no spec for the next one if it fails.</summary>
    private sealed class FailingEnvironment(EnvironmentSpec spec, Barrier all) : IEnvironment
    {
        public bool Fails { get; set; }

        public EnvironmentSpec Spec => Fails ? throw new IOException("no level") : spec;

        public void Reset(ResetContext context) => context.Observation.Write(0f, 0f);

        public StepResult Step(StepContext context)
        {
            if (!all.SignalAndWait(TimeSpan.FromSeconds(60)))
                throw new TimeoutException("the other environment was not stepped at the same time");
            context.Observation.Write(0f, 0f);
            return StepResult.Terminated(1);
        }
    }
}
