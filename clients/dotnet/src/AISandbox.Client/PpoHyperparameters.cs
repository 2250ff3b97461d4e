namespace AISandbox.Client;

/// <summary>Proximal Policy Optimization, with the keywords of its class in stable-baselines3. What is null keeps its default.</summary>
public sealed record PpoHyperparameters : Hyperparameters
{
    /// <summary>Steps of each environment in a rollout. A whole number from 1 to 1,000,000. Default: 2048.</summary>
    public int? NSteps { get; init; }

    /// <summary>Size of a minibatch. A whole number from 1 to 10,000,000. Default: 64.</summary>
    public int? BatchSize { get; init; }

    /// <summary>Passes over a rollout. A whole number from 1 to 1,000. Default: 10.</summary>
    public int? NEpochs { get; init; }

    /// <summary>Clipping range of the policy's probability ratio. A number greater than 0. Default: 0.2.</summary>
    public Schedule? ClipRange { get; init; }

    /// <summary>The same for the value network. None or a number greater than 0.</summary>
    public Schedule? ClipRangeVf { get; init; }

    /// <summary>Whether advantages are normalised in a minibatch. Default: true.</summary>
    public bool? NormalizeAdvantage { get; init; }

    /// <summary>Weight of the value network in the loss. A number of at least 0. Default: 0.5.</summary>
    public double? VfCoef { get; init; }

    /// <summary>Ends an update early beyond 1.5 times this. None or a number greater than 0.</summary>
    public double? TargetKl { get; init; }

    /// <summary>
    /// Trades bias (0) for variance (1) of the advantage (GAE). A number of at least 0 and at most 1. Default: 0.95.
    /// </summary>
    public double? GaeLambda { get; init; }

    /// <summary>Weight of the entropy in the loss. A number of at least 0. Default: 0.0.</summary>
    public double? EntCoef { get; init; }

    /// <summary>State-dependent exploration, for Box actions. Default: false.</summary>
    public bool? UseSde { get; init; }

    /// <summary>
    /// Steps between new noise for use_sde; -1: once a rollout. A whole number from -1 to 1,000,000. Default: -1.
    /// </summary>
    public int? SdeSampleFreq { get; init; }

    internal override V1.Algorithm Algorithm => V1.Algorithm.Ppo;

    private protected override void WriteOwn(HyperparameterText text)
    {
        text.Add("n_steps", NSteps);
        text.Add("batch_size", BatchSize);
        text.Add("n_epochs", NEpochs);
        text.Add("clip_range", ClipRange);
        text.Add("clip_range_vf", ClipRangeVf);
        text.Add("normalize_advantage", NormalizeAdvantage);
        text.Add("vf_coef", VfCoef);
        text.Add("target_kl", TargetKl);
        text.Add("gae_lambda", GaeLambda);
        text.Add("ent_coef", EntCoef);
        text.Add("use_sde", UseSde);
        text.Add("sde_sample_freq", SdeSampleFreq);
    }
}
