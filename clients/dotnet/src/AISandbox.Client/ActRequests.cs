using System;

namespace AISandbox.Client;

/// <summary>Requests with an observation.</summary>
internal static class ActRequests
{
    public static V1.ActRequest Make(ReadOnlySpan<float> observation)
    {
        var request = new V1.ActRequest();
        request.Observation.Capacity = observation.Length;
        foreach (var each in observation)
        {
            request.Observation.Add(each);
        }

        return request;
    }
}
