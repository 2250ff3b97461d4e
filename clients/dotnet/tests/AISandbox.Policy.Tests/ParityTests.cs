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
            policy.Act(published.Observations[i], action);
            Equal(published.Modes[i], action);
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Policy_of_the_onnx_file_alone_gives_the_same_actions_for_a_batch(string name)
    {
        var published = Published.Get(name);
        using var policy = Policy.Load(System.IO.File.ReadAllBytes(published.OnnxFile));
        var actions = new float[published.Modes.Length * policy.ActionSize];

        policy.ActBatch(published.Observations.SelectMany(row => row).ToArray(), actions);

        Equal(published.Modes.SelectMany(row => row).ToArray(), actions);
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
            ([1, 1, 1], "1 of 8 have 8"),
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
