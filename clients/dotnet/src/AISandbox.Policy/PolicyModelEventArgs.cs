using System;

namespace AISandbox;

/// <summary>A newer model of a followed policy.</summary>
public sealed class PolicyModelEventArgs : EventArgs
{
    internal PolicyModelEventArgs(PolicyModel model) => Model = model;

    /// <summary>The newer model.</summary>
    public PolicyModel Model { get; }
}
