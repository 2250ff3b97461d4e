using System.Collections.Generic;

namespace AISandbox.Simulation;

/// <summary>What an episode came to, so far.</summary>
/// <param name="Seed">Its seed.</param>
/// <param name="Steps">The number of its steps.</param>
/// <param name="Reward">The sum of its rewards.</param>
/// <param name="Terminated">It reached a final state.</param>
/// <param name="Truncated">It was cut.</param>
/// <param name="Metrics">The numbers that the spec declares.</param>
public sealed record EpisodeResult(
    ulong Seed, long Steps, double Reward, bool Terminated, bool Truncated, IReadOnlyDictionary<string, double> Metrics);
