using System;
using System.Linq;
using Xunit;

namespace AISandbox.PolicyTests;

/// <summary>What is wrong with an observation is said in a sentence, and the policy goes on.</summary>
public class ObservationTests
{
    [Fact]
    public void Observation_of_another_length_is_refused_with_the_entries()
    {
        var error = Refused("PPO-dict-box", policy => new float[policy.ObservationSize - 1]);
        Assert.Contains("The observation has 5 numbers, and the policy takes 6 (2 of 'buttons', 1 of 'mode', 3 of 'where')", error, StringComparison.Ordinal);
    }

    [Fact]
    public void Observation_that_is_not_finite_is_refused_with_its_place()
    {
        foreach (var value in new[] { float.NaN, float.PositiveInfinity, float.NegativeInfinity })
        {
            for (var place = 3; place < 6; place++)
            {
                var error = Refused("PPO-dict-box", policy => With(new float[policy.ObservationSize], place, value));
                Assert.Contains($"Number {place} (of 'where') is", error, StringComparison.Ordinal);
                Assert.Contains("must be finite", error, StringComparison.Ordinal);
            }
        }
    }

    [Theory]
    [InlineData(2, 2f, "Number 2 (of 'mode') is 2, and must be a whole number from -1 to 1")]
    [InlineData(2, 0.5f, "Number 2 (of 'mode') is 0.5, and must be a whole number from -1 to 1")]
    [InlineData(1, -1f, "Number 1 (of 'buttons') is -1, and must be a whole number from 0 to 1")]
    public void Number_that_its_discrete_space_does_not_have_is_refused(int place, float value, string expected)
    {
        var error = Refused("PPO-dict-box", policy => With(new float[policy.ObservationSize], place, value));
        Assert.Contains(expected, error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("PPO-multi_discrete-box", 1, 2f, "from 0 to 1")]
    [InlineData("PPO-image_last-box", 7, 256f, "from 0 to 255")]
    [InlineData("PPO-image_last-box", 7, 0.5f, "from 0 to 255")]
    [InlineData("PPO-discrete-box", 0, 1f, "from 2 to 6")]
    public void Number_outside_its_space_is_refused_with_the_range(string name, int place, float value, string expected)
    {
        var published = Published.Get(name);
        Assert.Contains(expected, Refused(name, _ => With([.. published.Observations[0]], place, value)), StringComparison.Ordinal);
    }

    [Fact]
    public void Action_of_another_length_is_refused()
    {
        var published = Published.Get("PPO-vector-box");
        using var policy = Policy.Load(published.Folder);
        var error = Assert.Throws<ArgumentException>(() => policy.Act(published.Observations[0], new float[2]));
        Assert.Contains("room for 2 numbers, and an action has 3", error.Message, StringComparison.Ordinal);
        error = Assert.Throws<ArgumentException>(() => policy.ActBatch(new float[6], new float[5]));
        Assert.Contains("2 actions have 6", error.Message, StringComparison.Ordinal);
        error = Assert.Throws<ArgumentException>(() => policy.ActBatch(new float[4], new float[3]));
        Assert.Contains("3 of them are one observation", error.Message, StringComparison.Ordinal);
        error = Assert.Throws<ArgumentException>(() => policy.ActWithNoise(new float[3], new float[1], new float[3]));
        Assert.Contains("the policy takes 3", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Refused_batch_names_the_observation()
    {
        using var policy = Policy.Load(Published.Get("PPO-vector-box").Folder);
        var error = Assert.Throws<ArgumentException>(() => policy.ActBatch(With(new float[9], 7, float.NaN), new float[9]));
        Assert.Contains("Number 1 of observation 2 is NaN", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Discrete_action_is_one_number_and_other_spaces_have_none()
    {
        var published = Published.Get("PPO-vector-discrete");
        using var policy = Policy.Load(published.Folder);
        Assert.Equal(published.Modes.Select(row => (int)row[0]), published.Observations.Select(row => policy.ActDiscrete(row)));

        using var other = Policy.Load(Published.Get("PPO-vector-box").Folder);
        Assert.Contains("Box", Assert.Throws<InvalidOperationException>(() => other.ActDiscrete(new float[3])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Named_observation_acts_as_its_numbers()
    {
        var published = Published.Get("PPO-dict-box");
        using var policy = Policy.Load(published.Folder);
        var observation = policy.CreateObservation();
        Assert.Equal(["buttons", "mode", "where"], observation.Keys);
        var action = new float[policy.ActionSize];

        observation.Set("buttons", published.Observations[0].Take(2).Select(value => (byte)value).ToArray());
        observation["mode"][0] = published.Observations[0][2];
        published.Observations[0].AsSpan(3).CopyTo(observation["where"]);
        policy.Act(observation, action);

        ParityTests.Equal(published.Modes[0], action);
        Assert.Contains("'buttons', 'mode', 'where'", Assert.Throws<ArgumentException>(() => observation["speed"].Clear()).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => observation.Set("buttons", new byte[3]));
    }

    [Fact]
    public void Disposed_policy_says_so()
    {
        var policy = Policy.Load(Published.Get("PPO-vector-box").Folder);
        policy.Dispose();
        policy.Dispose();
        Assert.Throws<ObjectDisposedException>(() => policy.Act(new float[3], new float[3]));
    }

    private static float[] With(float[] values, int place, float value)
    {
        values[place] = value;
        return values;
    }

    /// <summary>The message for an observation; the policy acts as before afterwards.</summary>
    private static string Refused(string name, Func<Policy, float[]> make)
    {
        var published = Published.Get(name);
        using var policy = Policy.Load(published.Folder);
        var action = new float[policy.ActionSize];
        var error = Assert.Throws<ArgumentException>(() => policy.Act(make(policy), action));
        policy.Act(published.Observations[0], action);
        ParityTests.Equal(published.Modes[0], action);
        return error.Message;
    }
}
