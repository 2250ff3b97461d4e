using System;
using System.Linq;
using AISandbox.Internal;
using AISandbox.V1;
using Xunit;

namespace AISandbox.PolicyTests;

public class SamplingTests
{
    private const int Draws = 100_000;

    [Theory]
    [InlineData(NoiseKind.Normal, 0, 1)]
    [InlineData(NoiseKind.Gumbel, 0.5772, 1.2825)]
    [InlineData(NoiseKind.Logistic, 0, 1.8138)]
    public void Noise_has_the_mean_and_the_deviation_of_its_distribution(NoiseKind kind, double mean, double deviation)
    {
        var noise = new float[Draws];
        new NoiseSource(3).Fill(noise, kind, 4, 0);

        var found = noise.Average();
        Assert.All(noise, value => Assert.True(float.IsFinite(value)));
        Assert.Equal(mean, found, 0.03);
        Assert.Equal(deviation, Math.Sqrt(noise.Average(value => (value - found) * (value - found))), 0.03);
    }

    [Fact]
    public void Epsilon_greedy_noise_is_certain_at_one_random_place_with_probability_epsilon()
    {
        var noise = new float[4 * Draws];
        new NoiseSource(3).Fill(noise, NoiseKind.EpsilonGreedy, 4, 0.25);

        var places = noise.Chunk(4).Select(row => row.Select((value, i) => (value, i)).Where(each => each.value != 0).ToArray()).ToArray();
        Assert.All(places, row => Assert.True(row.Length <= 1 && row.All(each => each.value == 1e30f)));
        Assert.Equal(0.25, places.Count(row => row.Length == 1) / (double)Draws, 0.01);
        for (var place = 0; place < 4; place++)
        {
            Assert.Equal(0.0625, places.Count(row => row.Length == 1 && row[0].i == place) / (double)Draws, 0.01);
        }
    }

    [Fact]
    public void Same_seed_gives_the_same_actions_and_another_one_gives_others()
    {
        var published = Published.Get("PPO-vector-box");

        float[] Play(int? seed, bool stochastic)
        {
            using var policy = Policy.Load(published.Folder, new PolicyOptions { Seed = seed, Stochastic = stochastic });
            var action = new float[policy.ActionSize];
            return Enumerable.Range(0, 20).SelectMany(_ =>
            {
                policy.Act(published.Observations[0], action);
                return action.ToArray();
            }).ToArray();
        }

        Assert.Equal(Play(7, true), Play(7, true));
        Assert.NotEqual(Play(7, true), Play(8, true));
        Assert.NotEqual(Play(null, true), Play(null, true));
        Assert.Equal(Play(7, false), Play(8, false));
    }

    [Theory]
    [InlineData("PPO-vector-discrete")]
    [InlineData("PPO-vector-multi_discrete")]
    [InlineData("PPO-vector-multi_binary")]
    [InlineData("PPO-vector-box")]
    public void Sampled_actions_vary_and_the_mode_comes_back_after_them(string name)
    {
        var published = Published.Get(name);
        using var policy = Policy.Load(published.Folder, new PolicyOptions { Seed = 1 });
        var action = new float[policy.ActionSize];
        var seen = Enumerable.Range(0, 300).Select(i =>
        {
            policy.Act(published.Observations[i % published.Observations.Length], action, stochastic: true);
            return (i % published.Observations.Length, string.Join(' ', action));
        }).Distinct().Count();
        Assert.True(seen > published.Observations.Length, "sampling gives the same action for an observation each time");

        policy.Act(published.Observations[0], action);
        ParityTests.Equal(published.Modes[0], action);
    }
}
