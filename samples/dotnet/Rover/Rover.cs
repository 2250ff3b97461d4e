using AISandbox.Simulation;

/// <summary>A rover that collects samples between rocks. It sees its own motion, where the next sample is, and how far it is to the next obstacle.</summary>
public sealed class Rover : IEnvironment
{
    public readonly record struct Rock(double X, double Y, double Radius);

    public const double Size = 16, Radius = 0.4;
    const double Tau = 0.1, MaxSpeed = 2, MaxTurn = 2, Sight = 6, Reach = 0.6;
    const int Rays = 12, Limit = 500;
    readonly List<Rock> rocks = [];
    readonly double[] free = new double[Rays];
    double speed, turn;

    public EnvironmentSpec Spec { get; } = EnvironmentSpec.Create("Rover")
        .Observation("motion", Space.Box(2).Named("speed", "turn"))
        .Observation("sample", Space.Box(3).Named("ahead", "left", "distance"))
        .Observation("lidar", Space.Box(Rays).Between(0, 1)) // counterclockwise from ahead: 0 at the rover, 1 where nothing is in sight
        .Action(Space.Box(2).Between(-1, 1).Named("throttle", "steering"))
        .Option("rocks", 6, minimum: 0, maximum: 12)
        .Metrics("collected", "bumps", "metres")
        .MaxEpisodeSteps(Limit)
        .SecondsPerStep(Tau)
        .Build();

    // What is drawn.
    public double X { get; private set; }

    public double Y { get; private set; }

    public double Heading { get; private set; }

    public (double X, double Y) Sample { get; private set; }

    public IReadOnlyList<Rock> Rocks => rocks;

    public void Reset(ResetContext context)
    {
        var random = context.Random;
        (X, Y, Heading, speed, turn) = (Size / 2, Size / 2, random.NextDouble() * Math.Tau, 0, 0);
        rocks.Clear();
        while (rocks.Count < context.Options.Integer("rocks"))
        {
            var radius = 0.6 + 0.6 * random.NextDouble();
            var (x, y) = Place(random, 2.5 + radius);
            rocks.Add(new Rock(x, y, radius));
        }
        Sample = Place(random, 2);
        Observe(context.Observation);
    }

    public StepResult Step(StepContext context)
    {
        var (throttle, steering) = (context.Action.Box[0], context.Action.Box[1]);
        var before = Distance(Sample.X, Sample.Y);
        // Both follow the controls with a lag.
        speed += 3 * Tau * (MaxSpeed * throttle - speed);
        turn += 5 * Tau * (MaxTurn * steering - turn);
        Heading = Math.IEEERemainder(Heading + Tau * turn, Math.Tau);
        var (x, y) = (X + Tau * speed * Math.Cos(Heading), Y + Tau * speed * Math.Sin(Heading));
        var bumped = !IsFree(x, y, Radius);
        if (bumped)
            speed = 0;
        else
            (X, Y) = (x, y);

        var after = Distance(Sample.X, Sample.Y);
        var collected = after < Reach;
        if (collected)
            Sample = Place(context.Random, 2);
        context.Metrics["metres"] += Math.Abs(speed) * Tau;
        context.Metrics["collected"] += collected ? 1 : 0;
        context.Metrics["bumps"] += bumped ? 1 : 0;
        Observe(context.Observation);
        // No final state: the spec's limit truncates the episode.
        return StepResult.Continue(0.1 * (before - after) + (collected ? 1 : 0) - (bumped ? 0.05 : 0));
    }

    void Observe(ObservationWriter observation)
    {
        observation["motion"].Write(speed / MaxSpeed, turn / MaxTurn);
        var (distance, bearing) = (Distance(Sample.X, Sample.Y), Math.Atan2(Sample.Y - Y, Sample.X - X) - Heading);
        observation["sample"].Write(Math.Cos(bearing), Math.Sin(bearing), distance / Size);
        for (var ray = 0; ray < Rays; ray++)
            free[ray] = Free(Heading + ray * Math.Tau / Rays) / Sight;
        observation["lidar"].Write(free);
    }

    /// <summary>How far the way is free in a direction, at most Sight.</summary>
    double Free(double direction)
    {
        var (cos, sin) = (Math.Cos(direction), Math.Sin(direction));
        var free = Sight;
        if (cos != 0)
            free = Math.Min(free, ((cos > 0 ? Size : 0) - X) / cos);
        if (sin != 0)
            free = Math.Min(free, ((sin > 0 ? Size : 0) - Y) / sin);
        foreach (var rock in rocks)
        {
            var (along, across) = ((rock.X - X) * cos + (rock.Y - Y) * sin, (rock.Y - Y) * cos - (rock.X - X) * sin);
            if (along > 0 && Math.Abs(across) < rock.Radius)
                free = Math.Min(free, along - Math.Sqrt(rock.Radius * rock.Radius - across * across));
        }
        return Math.Max(free, 0);
    }

    /// <summary>A place with room for the rover, at least so far from it.</summary>
    (double X, double Y) Place(Random random, double far)
    {
        while (true)
        {
            var (x, y) = (1 + random.NextDouble() * (Size - 2), 1 + random.NextDouble() * (Size - 2));
            if (Distance(x, y) >= far && IsFree(x, y, 2 * Radius))
                return (x, y);
        }
    }

    bool IsFree(double x, double y, double room) =>
        x >= room && x <= Size - room && y >= room && y <= Size - room
        && rocks.TrueForAll(rock => Math.Sqrt(Square(rock.X - x) + Square(rock.Y - y)) >= rock.Radius + room);

    double Distance(double x, double y) => Math.Sqrt(Square(x - X) + Square(y - Y));

    static double Square(double value) => value * value;
}
