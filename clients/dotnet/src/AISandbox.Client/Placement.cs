using System;
using System.Collections.Generic;
using System.Linq;

namespace AISandbox.Client;

/// <summary>
/// The machine of a trainer on Kubernetes; quantities, labels and tolerations are as Kubernetes has them. On one machine what it says is
/// checked and has no effect.
/// </summary>
public sealed record Placement
{
    /// <summary>
    /// What is reserved for the trainer: <c>["cpu"] = "2", ["memory"] = "4Gi"</c>. Null, with <see cref="Limits"/> null too: what the cluster's
    /// operator is configured with.
    /// </summary>
    public IReadOnlyDictionary<string, string>? Requests { get; init; }

    /// <summary>What the trainer may use at most: <c>["memory"] = "4Gi", ["nvidia.com/gpu"] = "1"</c>.</summary>
    public IReadOnlyDictionary<string, string>? Limits { get; init; }

    /// <summary>The queue of Kueue that the run waits in; null: none.</summary>
    public string? Queue { get; init; }

    /// <summary>The PriorityClass of the trainer's pod; null: the cluster's default.</summary>
    public string? PriorityClassName { get; init; }

    /// <summary>Labels of the Job and its pod.</summary>
    public IReadOnlyDictionary<string, string>? Labels { get; init; }

    /// <summary>Labels that a node must have.</summary>
    public IReadOnlyDictionary<string, string>? NodeSelector { get; init; }

    /// <summary>Taints of nodes that the trainer tolerates.</summary>
    public IReadOnlyList<Toleration>? Tolerations { get; init; }

    /// <summary>
    /// <c>spec.podTemplate</c> of a TrainingRun, in the form that Kubernetes has for it: texts, numbers, truth values, lists and dictionaries of
    /// them. A run that asks for more than the administrator allows fails with the reason NotAllowed.
    /// </summary>
    public IReadOnlyDictionary<string, object?>? PodTemplate { get; init; }

    internal V1.Placement ToMessage()
    {
        var message = new V1.Placement
        {
            Queue = Queue ?? "",
            PriorityClassName = PriorityClassName ?? "",
            PodTemplate = PodTemplate is null ? null : OptionValues.ToStruct("Placement.PodTemplate", PodTemplate),
        };
        foreach (var (field, values) in new[]
        {
            (message.Requests, Requests), (message.Limits, Limits), (message.Labels, Labels), (message.NodeSelector, NodeSelector),
        })
        {
            foreach (var (key, value) in values ?? Enumerable.Empty<KeyValuePair<string, string>>())
            {
                field.Add(key, value);
            }
        }

        message.Tolerations.AddRange((Tolerations ?? Array.Empty<Toleration>()).Select(each => each.ToMessage()));
        return message;
    }
}

/// <summary>Taints that a trainer tolerates, as of a pod.</summary>
public sealed record Toleration
{
    /// <summary>The key of the taint; null, with the operator <c>Exists</c>: every taint.</summary>
    public string? Key { get; init; }

    /// <summary><c>Exists</c> or <c>Equal</c>; null: <c>Equal</c>.</summary>
    public string? Operator { get; init; }

    /// <summary>The value of the taint.</summary>
    public string? Value { get; init; }

    /// <summary><c>NoSchedule</c>, <c>PreferNoSchedule</c> or <c>NoExecute</c>; null: every effect.</summary>
    public string? Effect { get; init; }

    /// <summary>How long the trainer stays on a node that gets a taint <c>NoExecute</c>, in whole seconds; null: without a limit.</summary>
    public TimeSpan? StaysFor { get; init; }

    internal V1.Toleration ToMessage()
    {
        var message = new V1.Toleration { Key = Key ?? "", Operator = Operator ?? "", Value = Value ?? "", Effect = Effect ?? "" };
        if (StaysFor is { } time)
        {
            message.TolerationSeconds = time.Ticks % TimeSpan.TicksPerSecond == 0
                ? time.Ticks / TimeSpan.TicksPerSecond
                : throw new ArgumentException($"Placement.Tolerations: StaysFor must be whole seconds, got {time}");
        }

        return message;
    }
}
