using System;
using System.Linq;
using Xunit;

namespace AISandbox.PolicyTests;

public class AllocationTests
{
    [Theory]
    [InlineData("PPO-vector-box", false)]
    [InlineData("PPO-vector-box", true)]
    [InlineData("PPO-dict-discrete", true)]
    [InlineData("PPO-dict_image-box", false)]
    [InlineData("DQN-vector-discrete", true)]
    public void Action_allocates_nothing(string name, bool stochastic)
    {
        var published = Published.Get(name);
        using var policy = Policy.Load(published.Folder);
        var observation = published.Observations[0];
        var action = new float[policy.ActionSize];
        var observations = Enumerable.Repeat(observation, 64).SelectMany(row => row).ToArray();
        var actions = new float[64 * policy.ActionSize];

        Assert.Equal(0, Allocated(() => policy.Act(observation, action, stochastic)));
        Assert.Equal(0, Allocated(() => policy.ActBatch(observations, actions, stochastic)));
    }

    [Fact]
    public void Action_with_a_frame_stack_allocates_nothing()
    {
        var published = Published.Get("PPO-image_last-discrete-stacked");
        using var policy = Policy.Load(published.Folder);
        var action = new float[policy.ActionSize];

        Assert.Equal(0, Allocated(() => policy.Act(published.Frames[0], action)));
        Assert.Equal(0, Allocated(policy.StartEpisode));
    }

    [Fact]
    public void Named_observation_allocates_nothing()
    {
        var published = Published.Get("PPO-dict_image-box");
        using var policy = Policy.Load(published.Folder);
        var observation = policy.CreateObservation();
        var pixels = new byte[observation["eye"].Length];
        var action = new float[policy.ActionSize];

        void Fill()
        {
            observation.Set("eye", pixels);
            observation["where"][0] = 0.5f;
            observation["gear"].Clear();
            policy.Act(observation, action);
        }

        Assert.Equal(0, Allocated(Fill));
    }

    private static long Allocated(Action act)
    {
        // The first calls make the memory of a batch, and compile.
        Allocated(act, 3);
        // A collection that another test causes counts what is left of this thread's allocation context.
        return Enumerable.Range(0, 5).Min(_ => Allocated(act, 100));
    }

    private static long Allocated(Action act, int times)
    {
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < times; i++)
        {
            act();
        }

        return GC.GetAllocatedBytesForCurrentThread() - before;
    }
}
