using Xunit;

namespace AISandbox.Simulation.Tests;

public class EnvironmentChecksTests
{
    private static int steps;

    [Fact]
    public void CartPole_keeps_the_contract() => EnvironmentChecks.Verify<CartPole>();

    [Fact]
    public void Rover_keeps_the_contract() => EnvironmentChecks.Verify<Rover>();

    [Fact]
    public void Checks_find_state_that_outlives_a_reset()
    {
        ScriptedEnvironment Create()
        {
            var count = 0;
            return Of(_ => { }, context =>
            {
                context.Observation.Write(count++, 0);
                return context.StepNumber == 9 ? StepResult.Terminated(0) : StepResult.Continue(0);
            });
        }
        AssertBroken("Set all state again in Reset", Create);
    }

    [Fact]
    public void Checks_find_state_that_is_shared()
    {
        static ScriptedEnvironment Create() => Of(_ => steps = 0, context =>
        {
            context.Observation.Write(steps++, 0);
            return context.StepNumber == 9 ? StepResult.Terminated(0) : StepResult.Continue(0);
        });
        AssertBroken("must not keep its state or its generator in static fields", Create);
    }

    [Fact]
    public void Checks_find_randomness_that_has_no_seed() => AssertBroken("Take all randomness from context.Random", () => Of(_ => { }, context =>
    {
        context.Observation.Write(Guid.NewGuid().GetHashCode(), 0);
        return StepResult.Continue(0);
    }));

    [Fact]
    public void Checks_find_observations_outside_their_bounds()
    {
        var spec = EnvironmentSpec.Create("Bounded").Observation(Space.Box(2).Between(-1, 1)).Action(Space.Discrete(2)).Build();
        AssertBroken("element [0] is 2, which is outside -1 .. 1", () => Of(_ => { }, context =>
        {
            context.Observation.Write(2f, 0);
            return StepResult.Continue(0);
        }, spec));
    }

    private static ScriptedEnvironment Of(
        ScriptedEnvironment.ResetFunction reset, ScriptedEnvironment.StepFunction step, EnvironmentSpec? spec = null) => new()
        {
            Spec = spec ?? ScriptedEnvironment.Default,
            OnReset = context =>
            {
                reset(context);
                context.Observation.Write(0f, 0f);
            },
            OnStep = step,
        };

    private static void AssertBroken(string advice, Func<IEnvironment> create) =>
        Assert.Contains(advice, Assert.Throws<EnvironmentCheckException>(() => EnvironmentChecks.Verify(create)).Message, StringComparison.Ordinal);
}
