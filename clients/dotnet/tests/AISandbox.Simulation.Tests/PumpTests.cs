using AISandbox.V1;
using Grpc.Core;
using Microsoft.Extensions.Logging.Testing;
using Xunit;

namespace AISandbox.Simulation.Tests;

/// <summary>An engine with a thread of its own, in which all of its objects live.</summary>
public sealed class PumpTests
{
    private static readonly SimulatorOptions Pumped = new() { UsePump = true, FailedEpisodesDirectory = null };

    private static Task<SimulatorReply> Reply(Task<SimulatorReply> reply) => reply.WaitAsync(PoolServiceDouble.Long, TestContext.Current.CancellationToken);

    [Fact]
    public async Task Environments_of_an_attached_simulator_run_only_in_the_thread_that_pumps()
    {
        await using var service = await PoolServiceDouble.StartAsync();
        using var stop = new CancellationTokenSource();
        Simulator? simulator = null;
        using var made = new ManualResetEventSlim();
        var engine = new Thread(() =>
        {
            var world = new World();
            simulator = new Simulator(() => new Body(world), Pumped);
            made.Set();
            while (!stop.IsCancellationRequested || simulator.InUse > 0)
                if (simulator.Pump(TimeSpan.FromMilliseconds(5)))
                    world.Tick();
        });
        engine.Start();
        made.Wait(TestContext.Current.CancellationToken);
        var attached = simulator!.AttachAsync(service.Address, "bodies", "here", 2, stop.Token);
        var place = await service.NextAsync();
        for (var session = 0; session < 2; session++)
        {
            await place.OpenAsync();
            // The observation is what the engine made of the action in two ticks: neither more nor fewer.
            var first = await place.ExchangeAsync(Requests.Step(1, 2));
            Assert.Equal([2f, 0, 4f, 0], first.Step.Observations[0].Floats());
            var second = await place.ExchangeAsync(Requests.Step(1, 0));
            Assert.Equal([4f, 0, 4f, 0], second.Step.Observations[0].Floats());
            await place.EndSessionAsync();
            Assert.Equal(0, (await place.ReceiveAsync())!.SessionEnded.Code);
        }
        await place.OpenAsync();
        await place.SendAsync(Requests.Step(9, 9)); // refused by the space
        Assert.Equal(SimulatorErrorCode.InvalidArgument, (await place.ReceiveAsync())!.Reply.Error.Code);
        stop.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => attached.WaitAsync(PoolServiceDouble.Long, TestContext.Current.CancellationToken));
        Assert.True(engine.Join(PoolServiceDouble.Long));
        Assert.Equal(0, simulator.InUse);
    }

    [Fact]
    public async Task Step_goes_on_after_each_tick_and_its_reset_too()
    {
        var ticks = new List<string>();
        var simulator = new Simulator(() => new ScriptedEnvironment
        {
            OnReset = context =>
            {
                ticks.Add($"reset {context.Tick}");
                if (context.Tick < 1)
                    context.WaitForTick();
                else
                    context.Observation.Write(0f, 0f);
            },
            OnStep = context =>
            {
                ticks.Add($"step {context.StepNumber} {context.Tick} {context.Action.Discrete}");
                context.Observation.Write(7f, 7f);
                return context.Tick < 2 ? StepResult.NextTick : StepResult.Terminated(5);
            },
        }, Pumped);
        using var session = simulator.CreateSession();
        var opened = session.HandleAsync(Requests.Open(1)).AsTask();
        Assert.False(simulator.Pump());
        await Reply(opened);
        var reset = session.HandleAsync(Requests.Reset()).AsTask();
        Assert.True(simulator.Pump());
        Assert.False(reset.IsCompleted);
        Assert.False(simulator.Pump());
        await Reply(reset);
        var step = session.HandleAsync(Requests.Step(2)).AsTask();
        Assert.True(simulator.Pump()); // 0
        Assert.True(simulator.Pump()); // 1
        Assert.True(simulator.Pump()); // 2, and the reset of the next episode
        Assert.False(step.IsCompleted);
        Assert.False(simulator.Pump());
        var reply = (await Reply(step)).Step;
        Assert.Equal([7f, 7f], reply.FinalObservations[0].Floats());
        Assert.Equal([0f, 0f], reply.Observations[0].Floats());
        Assert.Equal(["reset 0", "reset 1", "step 1 0 2", "step 1 1 2", "step 1 2 2", "reset 0", "reset 1"], ticks);
    }

    [Fact]
    public async Task Failure_ends_the_session_and_not_the_pump()
    {
        var simulator = new Simulator(() => new ScriptedEnvironment
        {
            OnStep = context => context.Tick == 0 ? StepResult.NextTick : throw new InvalidOperationException("the wheel came off"),
        }, Pumped);
        var session = simulator.CreateSession();
        await Handle(Requests.Open(1));
        await Handle(Requests.Reset());
        var step = session.HandleAsync(Requests.Step(0)).AsTask();
        Assert.True(simulator.Pump());
        Assert.False(simulator.Pump());
        var failure = await Assert.ThrowsAsync<RpcException>(() => Reply(step));
        Assert.Contains("step 1: Step threw InvalidOperationException: the wheel came off", failure.Status.Detail, StringComparison.Ordinal);
        session.Dispose();
        Assert.Equal(1, simulator.InUse); // freed where it was made
        Assert.False(simulator.Pump());
        Assert.Equal(0, simulator.InUse);

        async Task Handle(SimulatorRequest request)
        {
            var reply = session.HandleAsync(request).AsTask();
            simulator.Pump();
            await Reply(reply);
        }
    }

    [Fact]
    public async Task Request_that_waits_for_a_pump_that_is_not_called_is_told()
    {
        var logs = new FakeLogCollector();
        var simulator = new Simulator(
            () => new ScriptedEnvironment(), new SimulatorOptions { UsePump = true, PumpPatience = TimeSpan.FromMilliseconds(20) }, new FakeLogger(logs));
        using var session = simulator.CreateSession();
        var opened = session.HandleAsync(Requests.Open(1)).AsTask();
        while (!logs.GetSnapshot().Any(record => record.Message.Contains("because Pump was not called", StringComparison.Ordinal)))
            await Task.Delay(5, TestContext.Current.CancellationToken);
        Assert.False(opened.IsCompleted);
        simulator.Pump();
        await opened.WaitAsync(PoolServiceDouble.Long, TestContext.Current.CancellationToken);
        Assert.Contains("Pump is called again", logs.GetSnapshot().Select(record => record.Message));
    }

    [Fact]
    public void Earlier_names_of_options_are_the_same_options()
    {
#pragma warning disable CS0618
        var options = new SimulatorOptions { Pumped = true, FailedEpisodes = "a", LongRequest = TimeSpan.FromSeconds(1) };
        Assert.Equal((options.UsePump, options.FailedEpisodesDirectory, options.LongRequestThreshold), (options.Pumped, options.FailedEpisodes, options.LongRequest));
#pragma warning restore CS0618
        Assert.Equal((true, "a", TimeSpan.FromSeconds(1)), (options.UsePump, options.FailedEpisodesDirectory, options.LongRequestThreshold));
    }

    [Fact]
    public async Task Ticks_and_pump_need_a_simulator_that_is_pumped()
    {
        Assert.Contains("UsePump", Assert.Throws<InvalidOperationException>(() => new Simulator(() => new ScriptedEnvironment()).Pump()).Message, StringComparison.Ordinal);
        using var runner = new EnvironmentRunner(new ScriptedEnvironment { OnStep = _ => StepResult.NextTick });
        runner.Reset();
        Assert.Contains("Step returned NextTick, and there are no ticks here", Assert.Throws<EnvironmentFailedException>(() => runner.Step(1)).Message, StringComparison.Ordinal);
        Simulator? again = null;
        again = new Simulator(() =>
        {
            again?.Pump();
            return new ScriptedEnvironment();
        }, Pumped);
        using var session = again.CreateSession();
        var opened = session.HandleAsync(Requests.Open(1)).AsTask();
        again.Pump();
        Assert.Contains("Pump is running", (await Assert.ThrowsAsync<RpcException>(() => Reply(opened))).Message, StringComparison.Ordinal);
    }

    /// <summary>What an engine has: bodies that it moves, in its thread.</summary>
    private sealed class World
    {
        private readonly Thread thread = Thread.CurrentThread;

        public List<Body> Bodies { get; } = [];

        public void Tick() => Bodies.ForEach(body => body.Position += body.Speed);

        public void AssertThread()
        {
            if (Thread.CurrentThread != thread)
                throw new InvalidOperationException("this is not the thread of the engine");
        }
    }

    private sealed class Body : IEnvironment, IDisposable
    {
        private readonly World world;

        public Body(World world)
        {
            (this.world = world).AssertThread();
            world.Bodies.Add(this);
        }

        public float Position { get; set; }

        public float Speed { get; private set; }

        public EnvironmentSpec Spec => ScriptedEnvironment.Default;

        public void Reset(ResetContext context)
        {
            world.AssertThread();
            (Position, Speed) = (0, 0);
            context.Observation.Write(0f, 0f);
        }

        public StepResult Step(StepContext context)
        {
            world.AssertThread();
            if (context.Tick == 0)
                Speed = context.Action.Discrete;
            if (context.Tick < 2)
                return StepResult.NextTick;
            Speed = 0;
            context.Observation.Write(Position, 0f);
            return StepResult.Continue(1);
        }

        public void Dispose()
        {
            world.AssertThread();
            world.Bodies.Remove(this);
        }
    }
}
