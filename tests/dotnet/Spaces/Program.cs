// A simulator whose spaces are named by its first argument: every kind that the contract has.
using AISandbox.Simulation;
using AISandbox.Simulation.AspNetCore;

if (args[0] == "broken")
    return await SimulatorHost.RunAsync(Broken.Declared, options => new Broken(options.Text("mistake")), args[1..]);
return await SimulatorHost.RunAsync(() => new World(args[0]), args[1..], options => options.Simulator.Capacity = 300);

/// <summary>Makes a mistake in the fifth step of its second environment.</summary>
sealed class Broken(string mistake) : IEnvironment
{
    private static int made;
    private readonly int number = Interlocked.Increment(ref made) % 2;
    private bool hasChanged;

    public static EnvironmentSpec Declared { get; } =
        Create(2).Option("mistake", "none", "none", "NaN", "too little", "too much", "another spec").Build();

    public EnvironmentSpec Spec => hasChanged ? Create(3).Build() : Declared;

    public void Reset(ResetContext context) => context.Observation.Write(0f, 0f);

    public StepResult Step(StepContext context)
    {
        var mistaken = number == 0 && context.StepNumber == 5 ? mistake : "none";
        if (mistaken == "too much")
            context.Observation.Write(1f, 2f, 3f);
        else if (mistaken != "too little")
            context.Observation.Write(1f, mistaken == "NaN" ? float.NaN : 2f);
        hasChanged = mistaken == "another spec";
        return hasChanged ? StepResult.Terminated(1) : StepResult.Continue(1);
    }

    private static EnvironmentSpecBuilder Create(int numbers) =>
        EnvironmentSpec.Create("Broken").Observation(Space.Box(numbers)).Action(Space.Discrete(2)).MaxEpisodeSteps(50);
}

/// <summary>A world whose state is one number; what is observed and done has the spaces of its kind.</summary>
sealed class World : IEnvironment
{
    private readonly string kind;
    private double state;

    public World(string kind) => (this.kind, Spec) = (kind, SpecOf(kind));

    public EnvironmentSpec Spec { get; }

    public void Reset(ResetContext context)
    {
        state = context.Random.NextDouble() * 0.5;
        Observe(context.Observation);
        Allow(context.Mask);
    }

    public StepResult Step(StepContext context)
    {
        var sum = 0.0;
        for (var i = 0; i < context.Action.Count; i++)
            sum += context.Action[i];
        state = Math.Clamp(state + 0.01 * sum + 0.05 * context.Random.NextDouble(), 0, 1);
        Observe(context.Observation);
        Allow(context.Mask);
        if (kind == "dict")
            context.Metrics["sum"] += sum;
        return state >= 1 ? StepResult.Terminated(-1) : StepResult.Continue(state);
    }

    private static EnvironmentSpec SpecOf(string kind)
    {
        var spec = EnvironmentSpec.Create(kind, "1").MaxEpisodeSteps(25).SecondsPerStep(0.1);
        return (kind switch
        {
            "box" => spec.Observation(Space.Box(3).Between(-1, 2).Named("a", "b", "c")).Action(Space.Box(2).Between([-1, 0], [1, 2])),
            "scalar" => spec.Observation(Space.Box()).Action(Space.Box(ElementType.Float64).Between(-1, 1)),
            "discrete" => spec.Observation(Space.Discrete(5, -2)).Action(Space.Discrete(4, 3)).ActionMasks(),
            "multi_discrete" => spec.Observation(Space.MultiDiscrete(3, 4)).Action(Space.MultiDiscrete(2, 3)).ActionMasks(),
            "multi_binary" => spec.Observation(Space.MultiBinary(3)).Action(Space.MultiBinary(2)).ActionMasks(),
            "image" => spec.Observation(Space.Box(ElementType.UInt8, 40, 40, 3).Between(0, 255)).Action(Space.Discrete(2)),
            "integers" => spec.Observation(Space.Box(ElementType.Int16, 2).Between(-5, 5)).Action(Space.Discrete(2)),
            "dict" => spec.Observation("pose", Space.Box(2)).Observation("gear", Space.Discrete(3)).Observation("keys", Space.MultiBinary(2))
                .Action(Space.Discrete(3)).Metrics("sum").StepsInParallel(),
            _ => throw new ArgumentException($"no spaces are called {kind}"),
        }).Build();
    }

    private void Observe(ObservationWriter observation)
    {
        switch (kind)
        {
            case "box":
                observation.Write(state, -state, 2 * state);
                break;
            case "scalar":
                observation.Write(state);
                break;
            case "discrete":
                observation.Write((long)(state * 4.9) - 2);
                break;
            case "multi_discrete":
                observation.Write((long)(state * 2.9), (long)(state * 3.9));
                break;
            case "multi_binary":
                observation.Write(state > 0.2 ? 1L : 0L, state > 0.4 ? 1L : 0L, state > 0.6 ? 1L : 0L);
                break;
            case "image":
                observation.AsSpan<byte>().Fill((byte)(state * 255));
                break;
            case "integers":
                observation.Write((long)(state * 5), (long)(-state * 5));
                break;
            default:
                observation["pose"].Write(state, 1 - state);
                observation["gear"].Write((long)(state * 2.9));
                observation["keys"].AsSpan<sbyte>()[0] = (sbyte)(state > 0.5 ? 1 : 0);
                observation["keys"].AsSpan<sbyte>()[1] = 1;
                break;
        }
    }

    private void Allow(ActionMask mask)
    {
        if (kind == "discrete" && state > 0.3)
            mask.Forbid(6);
        if (kind == "multi_discrete" && state > 0.3)
            mask.Forbid(dimension: 1, value: 2);
        if (kind == "multi_binary" && state > 0.3)
            mask.Forbid(dimension: 0, value: 1);
    }
}
