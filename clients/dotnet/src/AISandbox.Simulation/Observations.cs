using System;
using System.Linq;

namespace AISandbox.Simulation;

/// <summary>The observations of several environments: for each leaf one array, with a row for each environment.</summary>
internal sealed class ObservationBuffers
{
    private readonly bool[] written;

    public ObservationBuffers(EnvironmentSpec spec, int environments)
    {
        Spec = spec;
        Leaves = spec.ObservationLeaves;
        Data = Array.ConvertAll(Leaves, leaf => new byte[checked((long)leaf.RowBytes * environments)]);
        written = new bool[Leaves.Length * environments];
        Whats = Array.ConvertAll(Leaves, leaf => leaf.Key.Length == 0 ? "the observation" : $"observation '{leaf.Key}'");
    }

    public EnvironmentSpec Spec { get; }

    public Leaf[] Leaves { get; }

    /// <summary>For each leaf the bytes of all rows.</summary>
    public byte[][] Data { get; }

    /// <summary>For each leaf its name in messages.</summary>
    public string[] Whats { get; }

    public Span<byte> Row(int leaf, int environment) =>
        Data[leaf].AsSpan(environment * Leaves[leaf].RowBytes, Leaves[leaf].RowBytes);

    /// <summary>Makes the rows of an environment ones that were not written.</summary>
    public void Clear(int environment)
    {
        for (var i = 0; i < Leaves.Length; i++)
        {
            Leaves[i].Clear(Row(i, environment));
            Written(i, environment)[0] = false;
        }
    }

    /// <summary>What is wrong with the observation of an environment, in words; null if nothing is.</summary>
    public string? Problem(int environment)
    {
        for (var i = 0; i < Leaves.Length; i++)
        {
            if (!Written(i, environment)[0])
                return $"{Whats[i]} was not written";
            if (Leaves[i].Problem(Row(i, environment)) is { } problem)
                return $"{Whats[i]}, {problem}";
        }
        return null;
    }

    /// <summary>Whether a leaf was written since Clear, as one element.</summary>
    public Span<bool> Written(int leaf, int environment) => written.AsSpan(environment * Leaves.Length + leaf, 1);

    public int IndexOf(string key)
    {
        for (var i = 0; i < Leaves.Length; i++)
            if (Leaves[i].Key == key)
                return i;
        throw new ArgumentException(Spec.IsDict
            ? $"the observation has no entry '{key}'; there are {Keys}"
            : $"the observation is a single value without keys, not a Dict with '{key}'");
    }

    public void CheckSingle()
    {
        if (Spec.IsDict)
            throw new InvalidOperationException($"the observation is a Dict of {Keys}: name the entry, Observation[\"{Leaves[0].Key}\"]");
    }

    private string Keys => string.Join(", ", Leaves.Select(leaf => $"'{leaf.Key}'"));
}

/// <summary>
/// The observation of one environment, to be written: with the methods of <see cref="ValueWriter"/> if it is a single value,
/// entry by entry if it is a Dict. Before every step each element is one that is found if it was not written.
/// </summary>
public readonly ref struct ObservationWriter
{
    private readonly ObservationBuffers buffers;
    private readonly int environment;

    internal ObservationWriter(ObservationBuffers buffers, int environment) => (this.buffers, this.environment) = (buffers, environment);

    /// <summary>An entry of a Dict. Throws <see cref="ArgumentException"/> if there is none of that name.</summary>
    public ValueWriter this[string key] => At(buffers.IndexOf(key));

    /// <summary>See <see cref="ValueWriter.Write(ReadOnlySpan{float})"/>.</summary>
    public void Write(params ReadOnlySpan<float> values) => Single.Write(values);

    /// <summary>See <see cref="ValueWriter.Write(ReadOnlySpan{double})"/>.</summary>
    public void Write(params ReadOnlySpan<double> values) => Single.Write(values);

    /// <summary>See <see cref="ValueWriter.Write(ReadOnlySpan{long})"/>.</summary>
    public void Write(params ReadOnlySpan<long> values) => Single.Write(values);

    /// <summary>See <see cref="ValueWriter.Write{TEnum}(TEnum)"/>.</summary>
    public void Write<TEnum>(TEnum value) where TEnum : unmanaged, Enum => Single.Write(value);

    /// <summary>See <see cref="ValueWriter.AsSpan{T}"/>.</summary>
    public Span<T> AsSpan<T>() where T : unmanaged => Single.AsSpan<T>();

    private ValueWriter Single
    {
        get
        {
            buffers.CheckSingle();
            return At(0);
        }
    }

    private ValueWriter At(int leaf) =>
        new(buffers.Leaves[leaf], buffers.Row(leaf, environment), buffers.Written(leaf, environment), buffers.Whats[leaf]);
}

/// <summary>The observation of one environment, to be read: as a single value, or entry by entry if it is a Dict.</summary>
public readonly ref struct ObservationReader
{
    private readonly ObservationBuffers buffers;
    private readonly int environment;

    internal ObservationReader(ObservationBuffers buffers, int environment) => (this.buffers, this.environment) = (buffers, environment);

    /// <summary>The number of elements, over all entries of a Dict.</summary>
    public int Count
    {
        get
        {
            var count = 0;
            foreach (var leaf in buffers.Leaves)
                count += leaf.Size;
            return count;
        }
    }

    /// <summary>An entry of a Dict. Throws <see cref="ArgumentException"/> if there is none of that name.</summary>
    public ValueReader this[string key] => At(buffers.IndexOf(key));

    /// <summary>One element of a single value in C order, as double.</summary>
    public double this[int index] => Single[index];

    /// <summary>The numbers of a box of type float.</summary>
    public ReadOnlySpan<float> Box => Single.Box;

    /// <summary>See <see cref="ValueReader.AsSpan{T}()"/>.</summary>
    public ReadOnlySpan<T> AsSpan<T>() where T : unmanaged => Single.AsSpan<T>();

    /// <summary>
    /// Copies all elements as float, entry after entry in C order: what a policy takes, in this process or by the service.
    /// Throws <see cref="ArgumentException"/> if the destination has another length than <see cref="Count"/>.
    /// </summary>
    public void CopyTo(Span<float> destination)
    {
        if (destination.Length != Count)
            throw new ArgumentException($"the observation has {Count} elements, and the destination has room for {destination.Length}");
        var first = 0;
        for (var i = 0; i < buffers.Leaves.Length; i++)
        {
            var leaf = buffers.Leaves[i];
            leaf.CopyTo(buffers.Row(i, environment), destination.Slice(first, leaf.Size));
            first += leaf.Size;
        }
    }

    /// <summary>The observation as the tensors of a call of Act: one for each leaf, a batch of one.</summary>
    public V1.Tensor[] ToTensors()
    {
        var tensors = new V1.Tensor[buffers.Leaves.Length];
        for (var i = 0; i < tensors.Length; i++)
            tensors[i] = Tensors.Copy(buffers.Leaves[i], 1, buffers.Row(i, environment));
        return tensors;
    }

    private ValueReader Single
    {
        get
        {
            buffers.CheckSingle();
            return At(0);
        }
    }

    private ValueReader At(int leaf) => new(buffers.Leaves[leaf], buffers.Row(leaf, environment), buffers.Whats[leaf]);
}
