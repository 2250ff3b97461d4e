using System;
using System.Linq;
using Xunit;

namespace AISandbox.PolicyTests;

/// <summary>In this process a policy gives the actions of the service, for every space and algorithm.</summary>
public class ParityTests
{
    public static TheoryData<string> Names() => Published.Names();

    [Theory]
    [MemberData(nameof(Names))]
    public void Policy_gives_the_actions_of_the_service(string name)
    {
        var published = Published.Get(name);
        using var policy = Policy.Load(published.Folder);
        var action = new float[policy.ActionSize];

        for (var i = 0; i < published.Observations.Length; i++)
        {
            policy.ActWithNoise(published.Observations[i], published.Noise[i], action);
            Equal(published.Samples[i], action);
        }

        policy.StartEpisode(); // with memory the samples were those of one episode, and the modes are those of another
        for (var i = 0; i < published.Observations.Length; i++)
        {
            policy.Act(published.Observations[i], action);
            Equal(published.Modes[i], action);
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Policy_with_memory_acts_in_many_episodes_at_once(string name)
    {
        var published = Published.Get(name);
        using var policy = Policy.Load(published.Folder);
        var count = published.Observations.Length;
        var rows = published.Observations.SelectMany(row => row).ToArray();
        var actions = new float[count * policy.ActionSize];
        var states = Enumerable.Repeat(float.NaN, count * policy.StateSize).ToArray();
        var starts = Enumerable.Repeat(true, count).ToArray();
        Assert.Equal(name.StartsWith("RecurrentPPO", StringComparison.Ordinal), policy.StateSize > 0);
        if (policy.StateSize == 0)
        {
            Assert.Throws<InvalidOperationException>(() => policy.ActInEpisodes(rows, states, starts, actions));
            return;
        }

        policy.ActInEpisodes(rows, states, starts, actions);
        Equal(published.Firsts.SelectMany(row => row).ToArray(), actions);

        // The first of these episodes goes on, and another one begins beside it.
        var state = states.AsSpan(0, policy.StateSize).ToArray();
        var two = new float[2 * policy.ActionSize];
        for (var i = 1; i < count; i++)
        {
            float[] both = [.. state, .. Enumerable.Repeat(float.NaN, policy.StateSize)];
            policy.ActInEpisodes([.. published.Observations[i], .. published.Observations[0]], both, [false, true], two);
            Equal(published.Modes[i], two[..policy.ActionSize]);
            Equal(published.Modes[0], two[policy.ActionSize..]);
            state = both[..policy.StateSize];
        }

        Assert.Throws<InvalidOperationException>(() => policy.ActBatch(rows, actions));
        Assert.Contains("not finite", Assert.Throws<ArgumentException>(
            () => policy.ActInEpisodes(rows, Enumerable.Repeat(float.NaN, states.Length).ToArray(), new bool[count], actions)).Message);
        Assert.Contains("those of", Assert.Throws<ArgumentException>(() => policy.ActInEpisodes(rows, new float[1], starts, actions)).Message);
        Assert.Contains("entries", Assert.Throws<ArgumentException>(() => policy.ActInEpisodes(rows, states, [true], actions)).Message);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Policy_of_the_onnx_file_alone_gives_the_same_actions_for_a_batch(string name)
    {
        var published = Published.Get(name);
        using var policy = Policy.Load(System.IO.File.ReadAllBytes(published.OnnxFile));
        var actions = new float[published.Modes.Length * policy.ActionSize];
        var rows = published.Observations.SelectMany(row => row).ToArray();

        if (policy.StateSize == 0)
        {
            policy.ActBatch(rows, actions);
        }
        else
        {
            var starts = Enumerable.Repeat(true, published.Modes.Length).ToArray();
            policy.ActInEpisodes(rows, new float[starts.Length * policy.StateSize], starts, actions);
        }

        Equal(published.Firsts.SelectMany(row => row).ToArray(), actions);
        Assert.True(policy.Model.IsVerified);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Policy_with_masks_gives_the_actions_of_the_service(string name)
    {
        var published = Published.Get(name);
        using var policy = Policy.Load(published.Folder);
        var action = new float[policy.ActionSize];
        Assert.Equal(published.Masks.Length > 0 ? published.Masks[0].Length : 0, policy.MaskSize);

        for (var i = 0; i < published.Masks.Length; i++)
        {
            policy.ActWithNoise(published.Observations[i], published.Noise[i], published.Masks[i], action);
            Equal(published.MaskedSamples[i], action);
            policy.Act(published.Observations[i], published.Masks[i], action);
            Equal(published.Masked[i], action);
            policy.Act(published.Observations[i], action);
            Equal(published.Modes[i], action);
        }

        if (policy.MaskSize == 0)
        {
            var error = Assert.Throws<ArgumentException>(() => policy.Act(published.Observations[0], new byte[] { 1 }, action));
            Assert.Contains("takes no masks", error.Message);
            return;
        }

        var actions = new float[published.Masked.Length * policy.ActionSize];
        policy.ActBatch(published.Observations.SelectMany(row => row).ToArray(), published.Masks.SelectMany(row => row).ToArray(), actions);
        Equal(published.Masked.SelectMany(row => row).ToArray(), actions);
    }

    [Fact]
    public void Policy_refuses_masks_that_are_none()
    {
        var name = Published.Names().Select(row => row.Data).FirstOrDefault(each => each.StartsWith("MaskablePPO-vector-multi_discrete", StringComparison.Ordinal));
        var published = Published.Get(name ?? string.Empty);
        using var policy = Policy.Load(published.Folder);
        foreach (var (mask, message) in new (byte[], string)[]
        {
            ([1, 1, 1], "1 observations need 1 x 8"),
            ([1, 1, 1, 1, 2, 1, 1, 1], "Mask 0 has the value 2"),
            ([1, 1, 1, 0, 1, 1, 1, 1], "allows no value of dimension 1"),
        })
        {
            var error = Assert.Throws<ArgumentException>(() => policy.Act(published.Observations[0], mask, new float[policy.ActionSize]));
            Assert.Contains(message, error.Message);
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Policy_stacks_the_observations_of_an_episode_as_the_training_did(string name)
    {
        var published = Published.Get(name);
        using var policy = Policy.Load(published.Folder);
        var action = new float[policy.ActionSize];

        for (var episode = 0; episode < 2; episode++)
        {
            policy.StartEpisode();
            for (var i = 0; i < published.Frames.Length; i++)
            {
                policy.Act(published.Frames[i], action);
                Equal(published.Stacked[i], action);
            }
        }

        Assert.Equal(published.Frames.Length > 0, policy.FrameSize < policy.ObservationSize);
    }

    internal static void Equal(float[] expected, float[] actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (var i = 0; i < expected.Length; i++)
        {
            Assert.True(
                Math.Abs(expected[i] - actual[i]) <= 1e-5 * Math.Max(1, Math.Abs(expected[i])),
                $"number {i} is {actual[i]:R} instead of {expected[i]:R}");
        }
    }
}
