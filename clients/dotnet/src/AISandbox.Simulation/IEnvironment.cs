namespace AISandbox.Simulation;

/// <summary>
/// One environment: a world in which a policy observes and acts, episode by episode.
/// </summary>
/// <remarks>
/// <para>An interface, because engines own the base class. One object is one environment; a training has several, and
/// calls each from one thread at a time. An environment that is <see cref="System.IDisposable"/> is disposed of when its
/// session ends.</para>
/// <para>All randomness of an episode comes from <c>context.Random</c> (or a generator that is made of
/// <c>context.Seed</c> in <see cref="Reset"/>), and all state is set again in <see cref="Reset"/>: then the same seed and the same
/// actions give the same episode, and a failure can be replayed.</para>
/// </remarks>
public interface IEnvironment
{
    /// <summary>What is observed and what can be done: made once, with <see cref="EnvironmentSpec.Create"/>.</summary>
    EnvironmentSpec Spec { get; }

    /// <summary>Starts an episode, whatever state the environment is in, and writes its first observation.</summary>
    void Reset(ResetContext context);

    /// <summary>
    /// Takes one step: reads the action, moves the world, writes every element of the observation, and returns the reward
    /// and whether the episode ended. The next call after an end is <see cref="Reset"/>.
    /// </summary>
    StepResult Step(StepContext context);
}
