using System;
using System.Collections.Generic;
using System.Linq;

namespace AISandbox.Client;

/// <summary>How often an algorithm with a replay buffer trains.</summary>
public readonly struct TrainFrequency : IEquatable<TrainFrequency>
{
    private readonly int _count;
    private readonly bool _episodes;

    private TrainFrequency(int count, bool episodes) => (_count, _episodes) = (count, episodes);

    /// <summary>After so many steps of each environment.</summary>
    /// <param name="count">A whole number from 1 to 1,000,000.</param>
    public static TrainFrequency Steps(int count) => new(count, episodes: false);

    /// <summary>After so many episodes.</summary>
    /// <param name="count">A whole number from 1 to 1,000,000.</param>
    public static TrainFrequency Episodes(int count) => new(count, episodes: true);

    /// <summary>After so many steps of each environment.</summary>
    /// <param name="steps">A whole number from 1 to 1,000,000.</param>
    public static implicit operator TrainFrequency(int steps) => Steps(steps);

    /// <inheritdoc/>
    public override string ToString() => FormattableString.Invariant($"({_count}, '{(_episodes ? "episode" : "step")}')");

    /// <inheritdoc/>
    public bool Equals(TrainFrequency other) => _count == other._count && _episodes == other._episodes;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is TrainFrequency other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(_count, _episodes);

    /// <summary>Whether both are the same.</summary>
    public static bool operator ==(TrainFrequency left, TrainFrequency right) => left.Equals(right);

    /// <summary>Whether they differ.</summary>
    public static bool operator !=(TrainFrequency left, TrainFrequency right) => !left.Equals(right);
}

/// <summary>Running normalisation (VecNormalize of stable-baselines3); its statistics are part of every published model.</summary>
public sealed record Normalization
{
    /// <summary>Whether observations are normalised. Default: true.</summary>
    public bool? NormObs { get; init; }

    /// <summary>Whether rewards are normalised. Default: true.</summary>
    public bool? NormReward { get; init; }

    /// <summary>Normalised observations are clipped to this. A number greater than 0. Default: 10.</summary>
    public double? ClipObs { get; init; }

    /// <summary>Normalised rewards are clipped to this. A number greater than 0. Default: 10.</summary>
    public double? ClipReward { get; init; }

    /// <summary>The discount factor for the scale of rewards. Default: the algorithm's.</summary>
    public double? Gamma { get; init; }

    /// <summary>Is added to the variance. A number greater than 0 and at most 1. Default: 1e-8.</summary>
    public double? Epsilon { get; init; }

    internal string ToText()
    {
        var pairs = new (string Key, string? Value)[]
        {
            ("norm_obs", NormObs is { } obs ? HyperparameterText.Truth(obs) : null),
            ("norm_reward", NormReward is { } reward ? HyperparameterText.Truth(reward) : null),
            ("clip_obs", ClipObs is { } clipObs ? HyperparameterText.Number(clipObs) : null),
            ("clip_reward", ClipReward is { } clipReward ? HyperparameterText.Number(clipReward) : null),
            ("gamma", Gamma is { } gamma ? HyperparameterText.Number(gamma) : null),
            ("epsilon", Epsilon is { } epsilon ? HyperparameterText.Number(epsilon) : null),
        };
        return pairs.All(pair => pair.Value is null) ? "True" : HyperparameterText.Dict(pairs);
    }
}

/// <summary>The activation function between the layers of a network.</summary>
public enum Activation
{
    /// <summary>Hyperbolic tangent, the default of PPO and A2C.</summary>
    Tanh,

    /// <summary>Rectified linear unit, the default of the other algorithms.</summary>
    ReLU,

    /// <summary>Exponential linear unit.</summary>
    ELU,

    /// <summary>Gaussian error linear unit.</summary>
    GELU,

    /// <summary>Sigmoid linear unit.</summary>
    SiLU,
}

/// <summary>The networks of a policy: the most used of <c>policy_kwargs</c>. The others: <see cref="Hyperparameters.Text"/>.</summary>
public sealed record PolicyNetwork
{
    /// <summary>The widths of the hidden layers, of the policy's and the value's or critics' networks each.</summary>
    public IReadOnlyList<int>? Layers { get; init; }

    /// <summary>The widths of the policy's hidden layers, where those of the value or the critics differ; not for DQN and QRDQN.</summary>
    public IReadOnlyList<int>? PolicyLayers { get; init; }

    /// <summary>The widths of the value's hidden layers, where the policy's differ; for PPO and A2C.</summary>
    public IReadOnlyList<int>? ValueLayers { get; init; }

    /// <summary>The widths of the critics' hidden layers, where the policy's differ; for SAC, TD3, TQC and CrossQ.</summary>
    public IReadOnlyList<int>? CriticLayers { get; init; }

    /// <summary>The activation function.</summary>
    public Activation? Activation { get; init; }

    /// <summary>Whether weights are initialised orthogonally; for PPO and A2C. Default: true.</summary>
    public bool? OrthoInit { get; init; }

    /// <summary>The logarithm of the initial standard deviation of Box actions, from -20 to 2; not for DQN, QRDQN and TD3.</summary>
    public double? LogStdInit { get; init; }

    /// <summary>Whether the numbers of images are divided by 255. Default: true.</summary>
    public bool? NormalizeImages { get; init; }

    internal string ToText()
    {
        if (Layers is not null && (PolicyLayers ?? ValueLayers ?? CriticLayers) is not null)
        {
            throw new ArgumentException("PolicyNetwork.Layers: PolicyLayers, ValueLayers or CriticLayers are set too, and say something else");
        }

        if (ValueLayers is not null && CriticLayers is not null)
        {
            throw new ArgumentException("PolicyNetwork.CriticLayers: ValueLayers are set too; an algorithm has one of them");
        }

        var other = CriticLayers is null ? "vf" : "qf";
        var layers = Layers is not null ? HyperparameterText.List(Layers)
            : (PolicyLayers ?? ValueLayers ?? CriticLayers) is null ? null
            : HyperparameterText.Dict(new (string, string?)[]
            {
                ("pi", HyperparameterText.List(PolicyLayers ?? Array.Empty<int>())),
                (other, HyperparameterText.List(CriticLayers ?? ValueLayers ?? Array.Empty<int>())),
            });
        return HyperparameterText.Dict(new[]
        {
            ("net_arch", layers),
            ("activation_fn", Activation is { } activation ? $"nn.{activation}" : null),
            ("ortho_init", OrthoInit is { } ortho ? HyperparameterText.Truth(ortho) : null),
            ("log_std_init", LogStdInit is { } logStd ? HyperparameterText.Number(logStd) : null),
            ("normalize_images", NormalizeImages is { } images ? HyperparameterText.Truth(images) : null),
        });
    }
}
