using System;
using Microsoft.Extensions.Logging;
using Microsoft.ML.OnnxRuntime;

namespace AISandbox;

/// <summary>How a policy acts in this process.</summary>
public class PolicyOptions
{
    /// <summary>
    /// Whether <see cref="Policy.Act(ReadOnlySpan{float}, Span{float})"/> samples actions from the policy's distribution
    /// (for DQN: explores with the exploration rate of the training). The default is the mode of the distribution.
    /// </summary>
    public bool Stochastic { get; set; }

    /// <summary>
    /// The seed of the noise of sampled actions: the same seed and calls give the same actions. The default, null, is another
    /// one each time.
    /// </summary>
    public int? Seed { get; set; }

    /// <summary>
    /// The digest that the file must have, "sha256:" and 64 hexadecimal digits; a game that ships a policy knows it. The
    /// default, null, accepts any file whose golden examples give the tested actions.
    /// </summary>
    public string? FileDigest { get; set; }

    /// <summary>
    /// Called with the options of the ONNX Runtime session before it is made: to add an execution provider, for example. The
    /// default runs on one thread of the CPU, which is the fastest for small networks.
    /// </summary>
    public Action<SessionOptions>? ConfigureSession { get; set; }
}

/// <summary>How a policy of a run is followed.</summary>
public sealed class PolicyFollowOptions : PolicyOptions
{
    /// <summary>How often the service is asked for a new model; the default is 2 seconds.</summary>
    public TimeSpan Interval { get; set; } = TimeSpan.FromSeconds(2);

    /// <summary>
    /// How long to wait between attempts while the service does not answer, at most; the default is 30 seconds. The first
    /// attempts follow each other faster.
    /// </summary>
    public TimeSpan MaxBackoff { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// How long the service may be silent in a call before the call is given up and repeated; the default is 30 seconds.
    /// </summary>
    public TimeSpan Timeout { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// Whether <c>FollowAsync</c> waits while the run has no such model yet, or the service does not answer. The default
    /// is true; with false these are a <see cref="PolicyException"/>.
    /// </summary>
    public bool WaitForModel { get; set; } = true;

    /// <summary>Where it is said that the service does not answer, or that a model was loaded; the default is nowhere.</summary>
    public ILogger? Logger { get; set; }

    /// <summary>The clock; the default is the system's.</summary>
    public TimeProvider TimeProvider { get; set; } = TimeProvider.System;

    internal void Validate()
    {
        if (Interval <= TimeSpan.Zero)
        {
            throw new ArgumentOutOfRangeException(nameof(Interval), Interval, "The interval must be longer than zero.");
        }

        if (MaxBackoff <= TimeSpan.Zero)
        {
            throw new ArgumentOutOfRangeException(nameof(MaxBackoff), MaxBackoff, "The longest wait must be longer than zero.");
        }

        if (Timeout <= TimeSpan.Zero)
        {
            throw new ArgumentOutOfRangeException(nameof(Timeout), Timeout, "The timeout must be longer than zero.");
        }
    }
}
