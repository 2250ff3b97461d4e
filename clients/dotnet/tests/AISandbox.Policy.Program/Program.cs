using System;
using AISandbox;

try
{
    using var policy = Policy.Load(args[0], new PolicyOptions { Seed = 1 });
    var action = new float[policy.ActionSize];
    policy.Act(new float[policy.ObservationSize], action);
    policy.Act(new float[policy.ObservationSize], action, stochastic: true);
    Console.WriteLine("acted");
}
catch (PolicyException error)
{
    Console.WriteLine($"{error.Reason}: {error.Message}");
}
