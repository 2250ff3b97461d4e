using System;

namespace AISandbox.Simulation;

/// <summary>
/// Whatever acts in an environment: a policy, a person, a script, a recording. Every agent sees what a policy sees, at the same
/// time, with the same masks.
/// </summary>
public interface IAgent
{
    /// <summary>Looks at <c>context.Observation</c> and writes <c>context.Action</c>.</summary>
    void Act(AgentContext context);
}

/// <summary>The body of <see cref="Agents.From"/>.</summary>
public delegate void AgentFunction(AgentContext context);

/// <summary>What an agent gets: valid until it returns.</summary>
public readonly ref struct AgentContext
{
    private readonly EnvironmentRunner runner;

    internal AgentContext(EnvironmentRunner runner) => this.runner = runner;

    /// <summary>The spec of the environment.</summary>
    public EnvironmentSpec Spec => runner.Spec;

    /// <summary>What is observed.</summary>
    public ObservationReader Observation => runner.Observation;

    /// <summary>Which actions are allowed, if the spec declares masks.</summary>
    public ActionMask Mask => runner.Mask;

    /// <summary>The number of steps that the episode has had.</summary>
    public long Steps => runner.Steps;

    /// <summary>The action, to be written.</summary>
    public ValueWriter Action => runner.Action;
}

/// <summary>Makes agents.</summary>
public static class Agents
{
    /// <summary>An agent that is a method: a script, a person at the keyboard, a policy.</summary>
    public static IAgent From(AgentFunction act) => new FunctionAgent(act);

    /// <summary>An agent that takes each allowed action with the same probability.</summary>
    public static IAgent Random(ulong seed = 0) => new RandomAgent(seed);

    /// <summary>An agent that takes the actions of a recording, whatever it observes.</summary>
    public static IAgent Replay(EpisodeRecording recording) => new FunctionAgent(context =>
    {
        if (context.Steps >= recording.Steps)
            throw new RecordingException(
                $"the recording ends after {recording.Steps} steps, and the episode has not ended there: it is the recording of a part, of another seed, or of an environment that has changed");
        context.Action.Write(recording.Actions[context.Steps]);
    });

    private sealed class FunctionAgent(AgentFunction act) : IAgent
    {
        public void Act(AgentContext context) => act(context);
    }

    private sealed class RandomAgent(ulong seed) : IAgent
    {
        private readonly SeededRandom random = new(seed);

        public void Act(AgentContext context)
        {
            var leaf = context.Spec.ActionLeaf;
            Span<double> values = leaf.Size <= 64 ? stackalloc double[leaf.Size] : new double[leaf.Size];
            var mask = context.Spec.HasActionMasks ? context.Mask.AsSpan() : default;
            var first = 0;
            for (var i = 0; i < values.Length; i++)
            {
                var count = leaf.Kind switch { LeafKind.Discrete => leaf.Count, LeafKind.MultiDiscrete => leaf.Counts[i], _ => 2 };
                values[i] = leaf.Kind == LeafKind.Box
                    ? Between(leaf, i)
                    : leaf.Start + Choose(count, mask.IsEmpty ? mask : mask.Slice(first, (int)count));
                first += mask.IsEmpty ? 0 : (int)count;
            }
            context.Action.Write(values);
        }

        private double Between(Leaf leaf, int index)
        {
            var value = leaf.LowOf(index) + random.NextDouble() * (leaf.HighOf(index) - leaf.LowOf(index));
            if (ElementTypes.IsFloat(leaf.Type))
                return value;
            var (least, most) = ElementTypes.Range(leaf.Type);
            return Math.Round(Math.Clamp(value, Math.Max(least, -1e15), Math.Min(most, 1e15)));
        }

        private double Choose(long count, ReadOnlySpan<byte> mask)
        {
            if (mask.IsEmpty)
                return Math.Floor(random.NextDouble() * count);
            var allowed = 0;
            foreach (var flag in mask)
                allowed += flag;
            var wanted = random.Next(allowed);
            for (var i = 0; i < mask.Length; i++)
                if (mask[i] == 1 && wanted-- == 0)
                    return i;
            return 0;
        }
    }
}
