using System;
using Google.Protobuf;

namespace AISandbox.Client;

/// <summary>Action masks of requests: a byte, 0 or 1, for each choice of each dimension of the actions.</summary>
internal static class Masks
{
    /// <summary>Writes a mask into a request; an empty one is none. Throws <see cref="ArgumentException"/> for other bytes.</summary>
    public static void Write(V1.ActRequest request, ReadOnlySpan<byte> actionMask)
    {
        Check(actionMask, nameof(actionMask));
        request.ActionMask.Capacity = actionMask.Length;
        foreach (var each in actionMask)
        {
            request.ActionMask.Add(each == 1);
        }
    }

    /// <summary>The masks of a batch, uint8 [count, size]; null for none. Throws <see cref="ArgumentException"/> for what are not so many.</summary>
    public static V1.Tensor? ToTensor(ReadOnlySpan<byte> actionMasks, int count)
    {
        if (actionMasks.IsEmpty)
        {
            return null;
        }

        Check(actionMasks, nameof(actionMasks));
        if (count < 1 || actionMasks.Length % count != 0)
        {
            throw new ArgumentException(
                $"action masks: must have {count} rows of as many values, one for each observation, got {actionMasks.Length} values", nameof(actionMasks));
        }

        return new V1.Tensor { Dtype = V1.DataType.Uint8, Shape = { count, actionMasks.Length / count }, Data = ByteString.CopyFrom(actionMasks) };
    }

    private static void Check(ReadOnlySpan<byte> values, string name)
    {
        for (var i = 0; i < values.Length; i++)
        {
            if (values[i] > 1)
            {
                throw new ArgumentException(FormattableString.Invariant($"action mask: value {i} is {values[i]}; each is 0 or 1"), name);
            }
        }
    }
}
