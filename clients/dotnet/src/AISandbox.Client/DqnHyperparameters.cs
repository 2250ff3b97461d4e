namespace AISandbox.Client;

/// <summary>Deep Q Network, for Discrete actions only, with the keywords of its class in stable-baselines3. What is null keeps its default.</summary>
public sealed record DqnHyperparameters : Hyperparameters
{
    /// <summary>Transitions the replay buffer holds. A whole number from 1 to 100,000,000. Default: 50000.</summary>
    public long? BufferSize { get; init; }

    /// <summary>Transitions in a gradient step. A whole number from 1 to 10,000,000. Default: 32.</summary>
    public int? BatchSize { get; init; }

    /// <summary>
    /// Environment steps before the first gradient step. A whole number from 0 to 1,000,000,000,000. Default: 100.
    /// </summary>
    public long? LearningStarts { get; init; }

    /// <summary>Steps of each environment between trainings. Default: 4.</summary>
    public TrainFrequency? TrainFreq { get; init; }

    /// <summary>
    /// In each training; -1: as many as transitions were gathered. A whole number from -1 to 1,000,000. Default: 1.
    /// </summary>
    public int? GradientSteps { get; init; }

    /// <summary>Length of the returns that are learned from. A whole number from 1 to 10,000. Default: 1.</summary>
    public int? NSteps { get; init; }

    /// <summary>
    /// Share of the new weights in an update of the target network. A number greater than 0 and at most 1. Default:
    /// 1.0.
    /// </summary>
    public double? Tau { get; init; }

    /// <summary>Environment steps between those updates. A whole number from 1 to 1,000,000,000,000. Default: 10000.</summary>
    public long? TargetUpdateInterval { get; init; }

    /// <summary>
    /// Fraction of the run in which the exploration rate decreases. A number greater than 0 and at most 1. Default:
    /// 0.1.
    /// </summary>
    public double? ExplorationFraction { get; init; }

    /// <summary>Share of random actions at the start. A number of at least 0 and at most 1. Default: 1.0.</summary>
    public double? ExplorationInitialEps { get; init; }

    /// <summary>Share of random actions after that part. A number of at least 0 and at most 1. Default: 0.05.</summary>
    public double? ExplorationFinalEps { get; init; }

    /// <summary>Half the memory; needs handle_timeout_termination=false. Default: false.</summary>
    public bool? OptimizeMemoryUsage { get; init; }

    /// <summary>False: a time limit counts as an end of the episode. Default: true.</summary>
    public bool? HandleTimeoutTermination { get; init; }

    internal override V1.Algorithm Algorithm => V1.Algorithm.Dqn;

    private protected override void WriteOwn(HyperparameterText text)
    {
        text.Add("buffer_size", BufferSize);
        text.Add("batch_size", BatchSize);
        text.Add("learning_starts", LearningStarts);
        text.Add("train_freq", TrainFreq);
        text.Add("gradient_steps", GradientSteps);
        text.Add("n_steps", NSteps);
        text.Add("tau", Tau);
        text.Add("target_update_interval", TargetUpdateInterval);
        text.Add("exploration_fraction", ExplorationFraction);
        text.Add("exploration_initial_eps", ExplorationInitialEps);
        text.Add("exploration_final_eps", ExplorationFinalEps);
        text.Add("optimize_memory_usage", OptimizeMemoryUsage);
        text.Add("replay_buffer_kwargs", HandleTimeoutTermination is { } handle ? $"dict(handle_timeout_termination={(handle ? "True" : "False")})" : null);
    }
}
