using System;
using System.IO;
using System.Threading;

namespace AISandbox.Simulation;

/// <summary>Writes the episodes that ended with a failure into a folder, the first few of a process.</summary>
internal sealed class FailureRecorder
{
    /// <summary>An environment that always fails must not fill the disk.</summary>
    private const int MostFiles = 20;

    private readonly string? folder;
    private int files;

    /// <param name="folder">Where the files are written; null: nowhere.</param>
    public FailureRecorder(string? folder) => this.folder = folder;

    public static FailureRecorder None { get; } = new(null);

    /// <summary>Records the episode of an environment; returns the file, null if there is none.</summary>
    public string? Write(EnvironmentRow row, string problem)
    {
        if (folder is null || row.Log.Overflowed || Interlocked.Increment(ref files) > MostFiles)
            return null;
        try
        {
            Directory.CreateDirectory(folder);
            var name = string.Concat(row.Spec.Name.Split(Path.GetInvalidFileNameChars()));
            var path = Path.Combine(folder, FormattableString.Invariant($"{name}-seed-{row.Seed}-step-{row.Steps}.json"));
            EpisodeRecording.Of(row, problem).Save(path);
            return path;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return null; // the failure itself is what matters
        }
    }
}
