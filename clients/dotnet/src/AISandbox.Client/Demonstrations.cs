namespace AISandbox.Client;

/// <summary>
/// Recorded episodes that the policy learns to act like before its first step, by behaviour cloning, and after
/// <see cref="Training.StartFrom"/>. That takes no steps of <see cref="Training.TotalTimesteps"/>.
/// </summary>
public sealed record Demonstrations
{
    /// <summary>The file that <c>aisandbox record</c> has written, relative to the service's folder of models.</summary>
    public required string File { get; init; }

    /// <summary>How many times the policy goes through all episodes, 1 to 10,000; null: 10.</summary>
    public int? Epochs { get; init; }

    /// <summary>Steps of a minibatch, 1 to 1,000,000; null: 64.</summary>
    public int? BatchSize { get; init; }

    /// <summary>The learning rate of the cloning, more than 0 and at most 1; null: 0.001.</summary>
    public double? LearningRate { get; init; }

    internal V1.Demonstrations ToMessage()
    {
        var message = new V1.Demonstrations
        {
            File = File,
            Epochs = Training.ToPositive(Epochs, "Demonstrations.Epochs"),
            BatchSize = Training.ToPositive(BatchSize, "Demonstrations.BatchSize"),
        };
        if (LearningRate is { } rate)
        {
            message.LearningRate = rate;
        }

        return message;
    }
}
