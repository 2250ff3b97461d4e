namespace AISandbox.Simulation.Tests;

/// <summary>An environment whose methods are given; without them it observes the number of the step in each element.</summary>
internal sealed class ScriptedEnvironment : IEnvironment, IDisposable
{
    public static readonly EnvironmentSpec Default =
        EnvironmentSpec.Create("Scripted").Observation(Space.Box(2).Named("left", "right")).Action(Space.Discrete(3)).Build();

    public delegate void ResetFunction(ResetContext context);

    public delegate StepResult StepFunction(StepContext context);

    public EnvironmentSpec Spec { get; set; } = Default;

    public ResetFunction OnReset { get; set; } = context => context.Observation.Write(0f, 0f);

    public StepFunction OnStep { get; set; } = context =>
    {
        context.Observation.Write(context.StepNumber, context.StepNumber);
        return StepResult.Continue(1);
    };

    public bool IsDisposed { get; private set; }

    public void Reset(ResetContext context) => OnReset(context);

    public StepResult Step(StepContext context) => OnStep(context);

    public void Dispose() => IsDisposed = true;
}
