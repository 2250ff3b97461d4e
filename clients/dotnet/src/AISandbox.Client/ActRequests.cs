using System;

namespace AISandbox.Client;

/// <summary>Requests with an observation.</summary>
internal static class ActRequests
{
    /// <summary>A request, with a mask unless that is empty. Throws <see cref="ArgumentException"/> for a mask of other bytes than 0 and 1.</summary>
    public static V1.ActRequest Make(ReadOnlySpan<float> observation, ReadOnlySpan<byte> actionMask = default)
    {
        var request = new V1.ActRequest();
        request.Observation.Capacity = observation.Length;
        foreach (var each in observation)
        {
            request.Observation.Add(each);
        }

        Masks.Write(request, actionMask);
        return request;
    }
}
