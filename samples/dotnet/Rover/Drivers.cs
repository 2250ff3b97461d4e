using AISandbox.Simulation;

/// <summary>Those who drive the rover beside a policy: they see what it sees.</summary>
public static class Drivers
{
    /// <summary>A script: to the direction that is nearest to that of the sample, among those that are free. It gets stuck at a rock at times.</summary>
    public static IAgent Script { get; } = Agents.From(context =>
    {
        var (ahead, left) = (context.Observation["sample"][0], context.Observation["sample"][1]);
        var lidar = context.Observation["lidar"];
        var (best, direction) = (double.NegativeInfinity, 0.0);
        for (var ray = 0; ray < lidar.Count; ray++)
        {
            var angle = Math.IEEERemainder(ray * Math.Tau / lidar.Count, Math.Tau);
            // A ray between two that are close is too narrow for the rover.
            var free = Math.Min(lidar[ray], Math.Min(lidar[(ray + 1) % lidar.Count], lidar[(ray + lidar.Count - 1) % lidar.Count]));
            var score = Math.Cos(angle) * ahead + Math.Sin(angle) * left + 8 * Math.Min(free, 0.2);
            if (score > best)
                (best, direction) = (score, angle);
        }
        if (direction == 0) // between the rays too
            direction = Math.Clamp(Math.Atan2(left, ahead), -0.25, 0.25);
        context.Action.Write(Math.Max(Math.Cos(direction), 0) * Math.Clamp(6 * (lidar[0] - 0.08), 0, 1), Math.Clamp(1.5 * direction, -1, 1));
    });

    /// <summary>
    /// A person with the arrow keys. A terminal tells that a key was pressed, not that it was released: a key holds for three steps,
    /// and the terminal repeats it while it is down.
    /// </summary>
    public static IAgent Keyboard()
    {
        var (forward, turn, throttle, steering) = (0, 0, 0, 0);
        return Agents.From(context =>
        {
            while (Console.KeyAvailable)
                switch (Console.ReadKey(intercept: true).Key)
                {
                    case ConsoleKey.UpArrow:
                        (throttle, forward) = (1, 3);
                        break;
                    case ConsoleKey.DownArrow:
                        (throttle, forward) = (-1, 3);
                        break;
                    case ConsoleKey.LeftArrow:
                        (steering, turn) = (1, 3);
                        break;
                    case ConsoleKey.RightArrow:
                        (steering, turn) = (-1, 3);
                        break;
                }
            context.Action.Write(forward-- > 0 ? throttle : 0, turn-- > 0 ? 0.6 * steering : 0);
        });
    }
}
