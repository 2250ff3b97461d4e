namespace AISandbox.Simulation.Tests;

public enum Move { Up, Down, Left, Right }

/// <summary>
/// A square of fields; the way to the corner at the lower right is looked for. The mask forbids the moves that leave the square.
/// Counts the forbidden moves that it is given, of all worlds with the same <see cref="Counter"/>.
/// </summary>
public sealed class GridWorld(GridWorld.Counter counter) : IEnvironment
{
    private const int Size = 5;
    private int row, column;

    /// <summary>Forbidden moves so far, and the largest distance that an episode has begun at.</summary>
    public sealed class Counter
    {
        private long farthest;
        private long forbidden;

        public long Forbidden => Interlocked.Read(ref forbidden);

        public long Farthest => Interlocked.Read(ref farthest);

        internal void Count() => Interlocked.Increment(ref forbidden);

        internal void Begin(long distance)
        {
            lock (this)
                farthest = Math.Max(farthest, distance);
        }
    }

    public EnvironmentSpec Spec { get; } = EnvironmentSpec.Create("GridWorld")
        .Observation(Space.Box(2).Between(0, 1).Named("row", "column"))
        .Action<Move>().ActionMasks()
        .MaxEpisodeSteps(12)
        .Parameter("distance", 2 * (Size - 1), minimum: 1, maximum: 2 * (Size - 1), description: "moves to the corner")
        .Build();

    public void Reset(ResetContext context)
    {
        var distance = (int)context.Parameters.Integer("distance");
        counter.Begin(distance);
        var up = context.Random.Next(Math.Max(0, distance - Size + 1), Math.Min(distance, Size - 1) + 1);
        (row, column) = (Size - 1 - up, Size - 1 - (distance - up));
        Show(context.Observation, context.Mask);
    }

    public StepResult Step(StepContext context)
    {
        var (rows, columns) = context.Action.As<Move>() switch
        {
            Move.Up => (-1, 0),
            Move.Down => (1, 0),
            Move.Left => (0, -1),
            _ => (0, 1),
        };
        if (IsInside(row + rows, column + columns))
            (row, column) = (row + rows, column + columns);
        else
            counter.Count();
        Show(context.Observation, context.Mask);
        return row == Size - 1 && column == Size - 1 ? StepResult.Terminated(1) : StepResult.Continue(-0.01);
    }

    private static bool IsInside(int row, int column) => row is >= 0 and < Size && column is >= 0 and < Size;

    private void Show(ObservationWriter observation, ActionMask mask)
    {
        observation.Write(row / (Size - 1.0), column / (Size - 1.0));
        if (row == 0)
            mask.Forbid(Move.Up);
        if (row == Size - 1)
            mask.Forbid(Move.Down);
        if (column == 0)
            mask.Forbid(Move.Left);
        if (column == Size - 1)
            mask.Forbid(Move.Right);
    }
}
