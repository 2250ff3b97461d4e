namespace AISandbox.Client;

/// <summary>Advantage Actor Critic, with the keywords of its class in stable-baselines3. What is null keeps its default.</summary>
public sealed record A2cHyperparameters : Hyperparameters
{
    /// <summary>Steps of each environment in a rollout. A whole number from 1 to 1,000,000. Default: 5.</summary>
    public int? NSteps { get; init; }

    /// <summary>Weight of the value network in the loss. A number of at least 0. Default: 0.5.</summary>
    public double? VfCoef { get; init; }

    /// <summary>Whether advantages are normalised in a rollout. Default: false.</summary>
    public bool? NormalizeAdvantage { get; init; }

    /// <summary>Use RMSprop instead of Adam. Default: true.</summary>
    public bool? UseRmsProp { get; init; }

    /// <summary>Epsilon of that RMSprop. A number greater than 0 and at most 1. Default: 1e-05.</summary>
    public double? RmsPropEps { get; init; }

    /// <summary>
    /// Trades bias (0) for variance (1) of the advantage (GAE). A number of at least 0 and at most 1. Default: 1.0.
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

    internal override V1.Algorithm Algorithm => V1.Algorithm.A2C;

    private protected override void WriteOwn(HyperparameterText text)
    {
        text.Add("n_steps", NSteps);
        text.Add("vf_coef", VfCoef);
        text.Add("normalize_advantage", NormalizeAdvantage);
        text.Add("use_rms_prop", UseRmsProp);
        text.Add("rms_prop_eps", RmsPropEps);
        text.Add("gae_lambda", GaeLambda);
        text.Add("ent_coef", EntCoef);
        text.Add("use_sde", UseSde);
        text.Add("sde_sample_freq", SdeSampleFreq);
    }
}
