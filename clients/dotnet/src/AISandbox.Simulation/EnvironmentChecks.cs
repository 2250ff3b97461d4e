using System;
using System.Collections.Generic;
using System.Linq;

namespace AISandbox.Simulation;

/// <summary>The result of one check.</summary>
/// <param name="Name">The rule.</param>
/// <param name="Ok">It is kept.</param>
/// <param name="Message">What was seen; for a broken rule what to do.</param>
public sealed record CheckResult(string Name, bool Ok, string Message);

/// <summary>
/// Checks that an environment keeps the rules of <see cref="IEnvironment"/> and of environment.proto, in this process: a test of one
/// line, <c>EnvironmentChecks.Verify&lt;CartPole&gt;()</c>. What a server has to do besides is the package's own.
/// </summary>
public static class EnvironmentChecks
{
    private const int Steps = 3000;
    private const int Compared = 200;
    private const int EnoughEpisodes = 20;
    private const double Tolerance = 1e-5;

    /// <summary>Throws <see cref="EnvironmentCheckException"/> that lists the rules which are broken.</summary>
    public static void Verify<TEnvironment>() where TEnvironment : IEnvironment, new() => Verify(() => new TEnvironment());

    /// <summary>Throws <see cref="EnvironmentCheckException"/> that lists the rules which are broken.</summary>
    public static void Verify(Func<IEnvironment> create)
    {
        var broken = Run(create).Where(result => !result.Ok).ToList();
        if (broken.Count > 0)
            throw new EnvironmentCheckException(
                string.Join(Environment.NewLine, broken.Select(result => $"{result.Name}: {result.Message}")));
    }

    /// <summary>All checks; throws nothing for an environment that breaks rules.</summary>
    public static IReadOnlyList<CheckResult> Run(Func<IEnvironment> create)
    {
        var results = new List<CheckResult>();
        if (!Add(results, "episodes can be played", () => PlayEpisodes(create)))
            return results;
        Add(results, "observations are within their bounds", () => CompareBounds(create));
        Add(results, "the same seed and actions give the same episode in another environment", () => CompareEpisodes(create, again: false));
        Add(results, "a reset leaves nothing of the episode before it", () => CompareEpisodes(create, again: true));
        Add(results, "environments share no state", () => CompareNeighbours(create));
        Add(results, "different seeds give different episodes", () => CompareSeeds(create));
        return results;
    }

    private static bool Add(List<CheckResult> results, string name, Func<string> check)
    {
        CheckResult result;
        try
        {
            result = new CheckResult(name, true, check());
        }
        catch (SimulationException error)
        {
            result = new CheckResult(name, false, error.Message);
        }
        results.Add(result);
        return result.Ok;
    }

    private static string PlayEpisodes(Func<IEnvironment> create)
    {
        using var runner = new EnvironmentRunner(create());
        var agent = Agents.Random(5);
        var (steps, episodes) = (0, 0);
        while (steps < Steps && episodes < EnoughEpisodes)
        {
            runner.Reset((ulong)episodes);
            while (!runner.Ended && steps++ < Steps)
                runner.Step(agent);
            episodes++;
        }
        return $"{steps} steps, {episodes} episodes";
    }

    private static string CompareBounds(Func<IEnvironment> create)
    {
        using var runner = new EnvironmentRunner(create());
        var agent = Agents.Random(6);
        for (var step = 0; step < Steps; step++)
        {
            if (step == 0 || runner.Ended)
                runner.Reset();
            else
                runner.Step(agent);
            if (runner.OutOfBounds(Tolerance) is { } problem)
                throw new EnvironmentCheckException($"{problem}. Widen the bounds of the spec, or leave them out");
        }
        return $"in {Steps} steps";
    }

    private static string CompareEpisodes(Func<IEnvironment> create, bool again)
    {
        using var one = new EnvironmentRunner(create());
        using var other = new EnvironmentRunner(create());
        if (again)
            Trace(other, 99, 8);
        var (expected, actual) = (Trace(one, 7, 1), Trace(other, 7, 1));
        return Compare(
            expected, actual,
            again ? "Set all state again in Reset" : "Take all randomness from context.Random, or from a generator made of context.Seed");
    }

    private static string CompareNeighbours(Func<IEnvironment> create)
    {
        using var alone = new EnvironmentRunner(create());
        var expected = Trace(alone, 7, 1);
        using var one = new EnvironmentRunner(create());
        using var other = new EnvironmentRunner(create());
        var agent = Agents.Random(3);
        other.Reset(100);
        var actual = Trace(one, 7, 1, () =>
        {
            if (other.Ended)
                other.Reset();
            else
                other.Step(agent);
        });
        return Compare(expected, actual, "An environment must not keep its state or its generator in static fields");
    }

    private static string CompareSeeds(Func<IEnvironment> create)
    {
        using var runner = new EnvironmentRunner(create());
        var first = Trace(runner, 1, 1);
        var differs = Enumerable.Range(2, 5).Any(seed => !Trace(runner, (ulong)seed, 1).SequenceEqual(first));
        return differs ? "they do" : "they do not: the environment has no randomness";
    }

    /// <summary>What is seen in an episode of this seed with random actions: bytes of observations and results, as text.</summary>
    private static List<string> Trace(EnvironmentRunner runner, ulong seed, ulong agentSeed, Action? between = null)
    {
        var agent = Agents.Random(agentSeed);
        runner.Reset(seed);
        var trace = new List<string> { runner.State(default) };
        while (!runner.Ended && trace.Count < Compared)
        {
            between?.Invoke();
            trace.Add(runner.State(runner.Step(agent)));
        }
        return trace;
    }

    private static string Compare(List<string> expected, List<string> actual, string advice)
    {
        for (var step = 0; step < Math.Max(expected.Count, actual.Count); step++)
            if (step >= expected.Count || step >= actual.Count || expected[step] != actual[step])
                throw new EnvironmentCheckException($"there is a difference after {step} steps. {advice}");
        return $"{expected.Count - 1} steps are the same";
    }
}
