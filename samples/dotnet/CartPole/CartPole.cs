using AISandbox.Simulation;

/// <summary>A pole on a cart, to be kept upright by pushing the cart (Barto, Sutton, Anderson 1983).</summary>
public sealed class CartPole : IEnvironment
{
    public enum Push { Left, Right }

    const double Gravity = 9.8, CartMass = 1.0, PoleMass = 0.1, HalfLength = 0.5, Force = 10.0, Tau = 0.02;
    double x, speed, angle, turn;

    public EnvironmentSpec Spec { get; } = EnvironmentSpec.Create("CartPole")
        .Observation(Space.Box(4).Named("position", "speed", "angle", "turn"))
        .Action<Push>()
        .MaxEpisodeSteps(500)
        .SecondsPerStep(Tau)
        .Build();

    public void Reset(ResetContext context)
    {
        var random = context.Random;
        double Near() => random.NextDouble() * 0.1 - 0.05;
        (x, speed, angle, turn) = (Near(), Near(), Near(), Near());
        context.Observation.Write(x, speed, angle, turn);
    }

    public StepResult Step(StepContext context)
    {
        var force = context.Action.As<Push>() == Push.Right ? Force : -Force;
        var (sin, cos) = Math.SinCos(angle);
        var pushed = (force + PoleMass * HalfLength * turn * turn * sin) / (CartMass + PoleMass);
        var turning = (Gravity * sin - cos * pushed) / (HalfLength * (4.0 / 3 - PoleMass * cos * cos / (CartMass + PoleMass)));
        var speeding = pushed - PoleMass * HalfLength * turning * cos / (CartMass + PoleMass);
        (x, speed) = (x + Tau * speed, speed + Tau * speeding);
        (angle, turn) = (angle + Tau * turn, turn + Tau * turning);
        context.Observation.Write(x, speed, angle, turn);
        var fallen = Math.Abs(x) > 2.4 || Math.Abs(angle) > 12 * Math.PI / 180;
        return fallen ? StepResult.Terminated(reward: 1) : StepResult.Continue(reward: 1);
    }
}
