using System;
using System.Linq;

namespace AISandbox.Internal;

/// <summary>The mask of one action: one byte, 0 or 1, for each choice of each dimension (of a MultiBinary: 0, then 1).</summary>
internal sealed class MaskLayout
{
    private readonly int[] _counts;

    public MaskLayout(Leaf action, int size)
    {
        Size = size;
        var choices = action.Counts ?? (action.Shape.Length == 0 ? [(long)(action.High - action.Low) + 1] : Enumerable.Repeat(2L, (int)action.Size).ToArray());
        _counts = size == 0 ? [] : choices.Select(count => checked((int)count)).ToArray();
        if (_counts.Sum(count => (long)count) != size)
        {
            throw new PolicyException(
                PolicyErrorReason.NotAPolicy, $"The policy has masks of {size} values, and its actions have {choices.Sum()} choices.");
        }
    }

    /// <summary>The number of values of a mask; 0 for a policy without masks.</summary>
    public int Size { get; }

    /// <summary>Throws, naming the mask, unless these are masks that each allow something; none at all is right too.</summary>
    /// <exception cref="ArgumentException">They are not.</exception>
    public void Check(ReadOnlySpan<byte> actionMasks, int count)
    {
        if (actionMasks.IsEmpty)
        {
            return;
        }

        if (Size == 0)
        {
            throw new ArgumentException("The policy takes no masks: it was not trained with them.", nameof(actionMasks));
        }

        if (actionMasks.Length != (long)count * Size)
        {
            throw new ArgumentException(
                $"The masks have {actionMasks.Length} values; {count} observations need {count} x {Size}.", nameof(actionMasks));
        }

        for (var row = 0; row < count; row++)
        {
            CheckRow(actionMasks.Slice(row * Size, Size), row);
        }
    }

    private void CheckRow(ReadOnlySpan<byte> actionMask, int row)
    {
        for (var dimension = 0; dimension < _counts.Length; dimension++)
        {
            var allowed = false;
            foreach (var value in actionMask[.._counts[dimension]])
            {
                if (value > 1)
                {
                    throw new ArgumentException($"Mask {row} has the value {value}; each is 0 or 1.", nameof(actionMask));
                }

                allowed |= value == 1;
            }

            if (!allowed)
            {
                var what = _counts.Length == 1 ? "no action" : $"no value of dimension {dimension}";
                throw new ArgumentException($"Mask {row} allows {what}; at least one must be allowed.", nameof(actionMask));
            }

            actionMask = actionMask[_counts[dimension]..];
        }
    }
}
