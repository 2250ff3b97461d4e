/// <summary>The world that docs/simulators.md asks its reader for: a pole on a cart (Barto, Sutton, Anderson 1983).</summary>
public sealed class CartPole
{
    private const double Tau = 0.02, Gravity = 9.8, CartMass = 1.0, PoleMass = 0.1, HalfLength = 0.5, Force = 10.0;
    private Random random = new();
    private double x, speed, angle, turn;

    /// <summary>Position, speed, angle (radians), angular speed.</summary>
    public float[] State => [(float)x, (float)speed, (float)angle, (float)turn];

    public bool Fallen => Math.Abs(x) > 2.4 || Math.Abs(angle) > 12 * Math.PI / 180;

    public int Steps { get; private set; }

    public void Reset(ulong? seed)
    {
        if (seed is { } given)
            random = new Random(unchecked((int)(given ^ (given >> 32))));
        (x, speed, angle, turn) = (Near(), Near(), Near(), Near());
        Steps = 0;

        double Near() => random.NextDouble() * 0.1 - 0.05;
    }

    public void Step(int action)
    {
        var force = action == 1 ? Force : -Force;
        var (sin, cos) = Math.SinCos(angle);
        var total = CartMass + PoleMass;
        var pushed = (force + PoleMass * HalfLength * turn * turn * sin) / total;
        var turning = (Gravity * sin - cos * pushed) / (HalfLength * (4.0 / 3.0 - PoleMass * cos * cos / total));
        var speeding = pushed - PoleMass * HalfLength * turning * cos / total;
        (x, speed) = (x + Tau * speed, speed + Tau * speeding);
        (angle, turn) = (angle + Tau * turn, turn + Tau * turning);
        Steps++;
    }
}
