using System;
using System.Collections.Generic;
using System.Linq;
using AISandbox.Internal;

namespace AISandbox;

/// <summary>
/// An observation that is filled by name: <c>observation["position"][0] = 1</c>. It keeps its numbers between calls. With a frame
/// stack it is the newest observation alone.
/// </summary>
public sealed class PolicyObservation
{
    private readonly Dictionary<string, (int Offset, int Size)> _places = new(StringComparer.Ordinal);
    private readonly float[] _values;

    internal PolicyObservation(Leaf[] leaves, int frames)
    {
        var offset = 0;
        foreach (var leaf in leaves)
        {
            var size = (int)(leaf.Size / frames);
            _places.Add(leaf.Key, (offset, size));
            offset += size;
        }

        _values = new float[offset];
    }

    /// <summary>The names, in the order in which their numbers lie; one empty name for a space that is no Dict.</summary>
    public IReadOnlyCollection<string> Keys => _places.Keys;

    /// <summary>All numbers, leaf after leaf.</summary>
    public Span<float> Values => _values;

    /// <summary>The numbers of one entry of a Dict, in C order; "" for a space that is no Dict.</summary>
    /// <exception cref="ArgumentException">The observation space has no such entry.</exception>
    public Span<float> this[string key]
    {
        get
        {
            if (key is null || !_places.TryGetValue(key, out var place))
            {
                var known = string.Join(", ", _places.Keys.Select(each => $"'{each}'"));
                throw new ArgumentException($"The observation space has no entry '{key}'; it has {known}.", nameof(key));
            }

            return _values.AsSpan(place.Offset, place.Size);
        }
    }

    /// <summary>Copies an image, or other bytes, into an entry.</summary>
    /// <exception cref="ArgumentException">The observation space has no such entry, or one of another length.</exception>
    public void Set(string key, ReadOnlySpan<byte> values)
    {
        var target = this[key];
        if (target.Length != values.Length)
        {
            throw new ArgumentException($"'{key}' has {target.Length} numbers, not {values.Length}.", nameof(values));
        }

        for (var i = 0; i < values.Length; i++)
        {
            target[i] = values[i];
        }
    }
}
