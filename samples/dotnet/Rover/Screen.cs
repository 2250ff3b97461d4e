using System.Text;
using AISandbox.Simulation;

/// <summary>Draws the rover's world as text, two characters a metre wide and one a metre high, over what it drew before.</summary>
public sealed class Screen(Rover rover)
{
    const int Columns = (int)(2 * Rover.Size), Lines = (int)Rover.Size;
    static readonly string[] Arrows = ["→", "↗", "↑", "↖", "←", "↙", "↓", "↘"];

    /// <summary>For <see cref="PlayOptions.OnStep"/>.</summary>
    public void Draw(EnvironmentRunner runner)
    {
        if (runner.Steps == 0)
            Console.Clear();
        Console.SetCursorPosition(0, 0);
        Console.Write(Text(runner));
    }

    /// <summary>The world and the numbers of the episode.</summary>
    public string Text(EnvironmentRunner runner)
    {
        var text = new StringBuilder().Append('+').Append('-', Columns).Append("+\n");
        for (var line = Lines - 1; line >= 0; line--)
        {
            text.Append('|');
            for (var column = 0; column < Columns; column++)
                text.Append(Cell(column, line));
            text.Append("|\n");
        }
        var (result, metrics) = (runner.Result, runner.Result.Metrics);
        return text.Append('+').Append('-', Columns).Append("+\n")
            .Append($"step {runner.Steps,3}   collected {metrics["collected"]}   bumps {metrics["bumps"]}   reward {result.Reward,6:0.00}   \n")
            .ToString();
    }

    string Cell(int column, int line)
    {
        if (IsAt(rover.X, rover.Y))
            return Arrows[(int)Math.Round(rover.Heading / (Math.Tau / 8) + 8) % 8];
        if (IsAt(rover.Sample.X, rover.Sample.Y))
            return "*";
        var (x, y) = ((column + 0.5) / 2, line + 0.5);
        return rover.Rocks.Any(rock => Math.Pow(rock.X - x, 2) + Math.Pow(rock.Y - y, 2) < rock.Radius * rock.Radius) ? "#" : " ";

        bool IsAt(double x, double y) => column == (int)(2 * x) && line == (int)y;
    }
}
