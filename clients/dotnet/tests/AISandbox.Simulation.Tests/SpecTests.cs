using Xunit;

namespace AISandbox.Simulation.Tests;

public class SpecTests
{
    private enum Gap { A, B = 2 }

    private enum Gear { Reverse = -1, Neutral, First }

    [Fact]
    public void Spec_has_the_spaces_of_the_contract()
    {
        var spec = EnvironmentSpec.Create("World", "2")
            .Observation("camera", Space.Box(ElementType.UInt8, 4, 4, 3).Between(0, 255))
            .Observation("pose", Space.Box(2).Named("x", "y"))
            .Action<Gear>().ActionMasks().Metrics("goals").MaxEpisodeSteps(9).SecondsPerStep(0.5).Build().ToContract();

        Assert.Equal(["camera", "pose"], spec.ObservationSpace.Dict.Entries.Select(entry => entry.Key));
        Assert.Equal(V1.DataType.Uint8, spec.ObservationSpace.Dict.Entries[0].Space.Box.Dtype);
        Assert.Equal([4L, 4, 3], spec.ObservationSpace.Dict.Entries[0].Space.Box.Shape);
        Assert.Equal(["x", "y"], spec.ObservationSpace.Dict.Entries[1].Space.Box.Names);
        Assert.Equal((3L, -1L), (spec.ActionSpace.Discrete.N, spec.ActionSpace.Discrete.Start));
        Assert.Equal(["Reverse", "Neutral", "First"], spec.ActionSpace.Discrete.Names);
        Assert.Equal((true, 9UL, 0.5), (spec.ActionMasks, spec.MaxEpisodeSteps, spec.SecondsPerStep));
        Assert.Equal(["goals"], spec.Metrics);
    }

    public static TheoryData<string, Action> Mistakes => new()
    {
        { "every dimension is at least 1", () => Space.Box(2, 0) },
        { "more than 2 GiB", () => Space.Box(100_000, 100_000) },
        { "count is at least 1", () => Space.Discrete(0) },
        { "each is at least 1", () => Space.MultiDiscrete(2, 0) },
        { "at least 1 bit", () => Space.MultiBinary(0) },
        { "B is 2", () => Space.Discrete<Gap>() },
        { "low has 2 numbers, expected 1 or 3", () => Space.Box(3).Between([0, 0], [1]) },
        { "the lower bound 2 of element 0", () => Space.Box(1).Between(2, 1) },
        { "low is NaN", () => Space.Box(1).Between(double.NaN, 1) },
        { "only a box has bounds", () => Space.Discrete(2).Between(0, 1) },
        { "1 names, expected 2", () => Space.Box(2).Named("x") },
        { "name: must not be empty", () => EnvironmentSpec.Create(" ") },
        { "needs finite bounds", () => EnvironmentSpec.Create("a").Action(Space.Box(2)) },
        { "needs finite bounds", () => EnvironmentSpec.Create("a").Action(Space.Box(2).Between(-float.MaxValue, float.MaxValue)) },
        { "give each a key", () => EnvironmentSpec.Create("a").Observation(Space.Box(1)).Observation(Space.Box(1)) },
        { "'x' is there twice", () => EnvironmentSpec.Create("a").Observation("x", Space.Box(1)).Observation("x", Space.Box(1)) },
        { "observation: there is none", () => EnvironmentSpec.Create("a").Action(Space.Discrete(2)).Build() },
        { "action: there is none", () => EnvironmentSpec.Create("a").Observation(Space.Box(1)).Build() },
        { "only Discrete, MultiDiscrete and MultiBinary", () => EnvironmentSpec.Create("a").Observation(Space.Box(1)).Action(Space.Box(2).Between(0, 1)).ActionMasks().Build() },
        { "MaxEpisodeSteps", () => EnvironmentSpec.Create("a").MaxEpisodeSteps(0) },
        { "SecondsPerStep", () => EnvironmentSpec.Create("a").SecondsPerStep(double.NaN) },
        { "metric 'x'", () => EnvironmentSpec.Create("a").Metrics("x", "x") },
        { "the default of option 'level' is 10, expected 1 .. 9", () => EnvironmentSpec.Create("a").Option("level", 10, 1, 9) },
        { "option 'map'", () => EnvironmentSpec.Create("a").Option("map", "a").Option("map", true) },
    };

    [Theory]
    [MemberData(nameof(Mistakes))]
    public void Spec_names_the_rule_that_is_broken(string rule, Action make) =>
        Assert.Contains(rule, Assert.Throws<InvalidSpecException>(make).Message, StringComparison.Ordinal);

    [Fact]
    public void Mask_of_bits_has_two_values_for_each()
    {
        var bits = new ScriptedEnvironment
        {
            Spec = EnvironmentSpec.Create("Bits").Observation(Space.Box(1)).Action(Space.MultiBinary(3)).ActionMasks().Build(),
            OnReset = context =>
            {
                context.Observation.Write(0f);
                context.Mask.Forbid(dimension: 1, value: 1);
            },
            OnStep = context =>
            {
                context.Observation.Write(0f);
                context.Mask.Forbid(dimension: 2, value: 0);
                context.Mask.Forbid(dimension: 2, value: 1);
                return StepResult.Continue(0);
            },
        };
        using var runner = new EnvironmentRunner(bits);

        runner.Reset(1);
        Assert.Equal([1, 1, 1, 0, 1, 1], runner.Mask.AsSpan().ToArray());
        Assert.True(runner.Mask.IsAllowed(1, 0) && !runner.Mask.IsAllowed(1, 1));
        Assert.Throws<ArgumentException>(() => runner.Mask.Forbid(3, 0));
        Assert.Throws<ArgumentException>(() => runner.Mask.Forbid(0, 2));
        Assert.Throws<ArgumentException>(() => runner.Mask.Forbid(1L));
        Assert.Contains("allows no value of element [2]", Assert.Throws<EnvironmentFailedException>(() => runner.Step(Agents.Random(1))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Options_have_their_defaults_and_their_checks()
    {
        var spec = EnvironmentSpec.Create("a").Observation(Space.Box(1)).Action(Space.Discrete(2))
            .Option("level", 1, 1, 9).Option("gravity", 9.81).Option("map", "wood", "wood", "city").Option("wind", false).Build();
        SimulationOptions Read(string name, object value) => OptionDeclaration.Read(spec.Options, new Dictionary<string, object> { [name] = value });

        var options = Read("level", 3);
        Assert.Equal((3L, 9.81, "wood", false), (options.Integer("level"), options.Number("gravity"), options.Text("map"), options.Flag("wind")));
        Assert.Contains("declared as whole number", Assert.Throws<ArgumentException>(() => options.Text("level")).Message, StringComparison.Ordinal);
        foreach (var (name, value, rule) in new (string, object, string)[]
        {
            ("stage", 1, "'stage' is unknown; there are 'level', 'gravity', 'map', 'wind'"),
            ("level", 10, "'level' is 10, expected 1 .. 9"),
            ("level", 1.5, "whole number"),
            ("map", "sea", "expected one of 'wood', 'city'"),
            ("wind", "yes", "true or false"),
        })
        {
            Assert.Contains(rule, Assert.Throws<InvalidOptionException>(() => Read(name, value)).Message, StringComparison.Ordinal);
        }
    }
}
