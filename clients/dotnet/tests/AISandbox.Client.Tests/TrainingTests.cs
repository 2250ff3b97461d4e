using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Xunit;

namespace AISandbox.Client.Tests;

public class TrainingTests
{
    private static Dictionary<string, string> Text(Hyperparameters hyperparameters) =>
        new Training { Experiment = "e", TotalTimesteps = 1, Hyperparameters = hyperparameters }.ToRequest().Hyperparameters.ToDictionary(each => each.Key, each => each.Value);

    [Fact]
    public void Hyperparameters_are_written_as_the_service_reads_them_in_every_culture()
    {
        var culture = CultureInfo.CurrentCulture;
        CultureInfo.CurrentCulture = new CultureInfo("de-DE");
        try
        {
            var text = Text(new PpoHyperparameters
            {
                LearningRate = Schedule.Linear(0.00025),
                Gamma = 0.5,
                ClipRange = 0.1,
                NSteps = 1024,
                NormalizeAdvantage = false,
                Normalize = new Normalization { ClipObs = 5.5, NormReward = false },
                PolicyKwargs = new PolicyNetwork { PolicyLayers = [64, 32], ValueLayers = [64], Activation = Activation.ReLU, LogStdInit = -1.5 },
                Text = new Dictionary<string, string> { ["ent_coef"] = "1e-3" },
            });
            Assert.Equal(
                new Dictionary<string, string>
                {
                    ["learning_rate"] = "lin_0.00025",
                    ["gamma"] = "0.5",
                    ["clip_range"] = "0.1",
                    ["n_steps"] = "1024",
                    ["normalize_advantage"] = "False",
                    ["normalize"] = "dict(norm_reward=False, clip_obs=5.5)",
                    ["policy_kwargs"] = "dict(net_arch=dict(pi=[64, 32], vf=[64]), activation_fn=nn.ReLU, log_std_init=-1.5)",
                    ["ent_coef"] = "1e-3",
                },
                text);
            Assert.Equal("(4, 'episode')", Text(new DqnHyperparameters { TrainFreq = TrainFrequency.Episodes(4) })["train_freq"]);
        }
        finally
        {
            CultureInfo.CurrentCulture = culture;
        }
    }

    [Fact]
    public void Hyperparameter_that_is_set_twice_is_refused_by_name()
    {
        var twice = new PpoHyperparameters { Gamma = 0.9, Text = new Dictionary<string, string> { ["gamma"] = "0.8" } };
        Assert.Contains("gamma is also set by a property", Assert.Throws<ArgumentException>(() => Text(twice)).Message, StringComparison.Ordinal);
        var layers = new PpoHyperparameters { PolicyKwargs = new PolicyNetwork { Layers = [64], PolicyLayers = [32] } };
        Assert.Contains("PolicyNetwork.Layers", Assert.Throws<ArgumentException>(() => Text(layers)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Placement_has_what_kubernetes_has()
    {
        var placement = new Placement
        {
            Requests = new Dictionary<string, string> { ["cpu"] = "2" },
            Limits = new Dictionary<string, string> { ["nvidia.com/gpu"] = "1" },
            Queue = "training",
            PriorityClassName = "low",
            Labels = new Dictionary<string, string> { ["team"] = "a" },
            NodeSelector = new Dictionary<string, string> { ["zone"] = "b" },
            Tolerations = [new Toleration { Key = "spot", Operator = "Equal", Value = "yes", Effect = "NoExecute", StaysFor = TimeSpan.FromMinutes(1) }, new Toleration()],
            PodTemplate = new Dictionary<string, object?> { ["spec"] = new Dictionary<string, object?> { ["runtimeClassName"] = "gvisor" } },
        };
        var message = new Training { Experiment = "e", TotalTimesteps = 1, Placement = placement }.ToRequest().Placement;
        Assert.Equal(
            """{ "requests": { "cpu": "2" }, "limits": { "nvidia.com/gpu": "1" }, "queue": "training", "priorityClassName": "low", "labels": { "team": "a" }, "nodeSelector": { "zone": "b" }, "tolerations": [ { "key": "spot", "operator": "Equal", "value": "yes", "effect": "NoExecute", "tolerationSeconds": "60" }, { } ], "podTemplate": { "spec": { "runtimeClassName": "gvisor" } } }""",
            message.ToString());
        Assert.Null(new Training { Experiment = "e", TotalTimesteps = 1 }.ToRequest().Placement);
        var halves = placement with { Tolerations = [new Toleration { StaysFor = TimeSpan.FromSeconds(1.5) }] };
        Assert.Contains("StaysFor must be whole seconds", Assert.Throws<ArgumentException>(halves.ToMessage).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Starting_point_is_a_model_a_checkpoint_or_a_file()
    {
        var checkpoint = StartingPoint.Checkpoint("walker-1") with { Take = TakenParts.Optimizer | TakenParts.ReplayBuffer };
        var message = new Training { Experiment = "e", TotalTimesteps = 1, StartFrom = checkpoint }.ToRequest().StartFrom;
        Assert.Equal(new V1.StartFrom { Run = "walker-1", Checkpoint = "latest", Take = { V1.TakenPart.Optimizer, V1.TakenPart.ReplayBuffer } }, message);
        Assert.Equal(new V1.StartFrom { Run = "walker-1", Model = "best" }, StartingPoint.Model("walker-1", "best").ToMessage());
        Assert.Equal(new V1.StartFrom { Run = "walker-1" }, StartingPoint.Model("walker-1").ToMessage());
        Assert.Equal(new V1.StartFrom { Zip = "team/a.zip" }, StartingPoint.File("team/a.zip").ToMessage());
        Assert.Null(new Training { Experiment = "e", TotalTimesteps = 1 }.ToRequest().StartFrom);
        Assert.Contains("64 is no part", Assert.Throws<ArgumentException>((checkpoint with { Take = TakenParts.Optimizer | (TakenParts)64 }).ToMessage).Message, StringComparison.Ordinal);
        Assert.Contains("StartFrom.Selector: must be latest, step:N", Assert.Throws<ArgumentException>(() => StartingPoint.Checkpoint("walker-1", "")).Message, StringComparison.Ordinal);
        var status = TrainingStatus.From(new V1.StatusResponse { StartedFrom = new V1.Artifact { Path = "runs/walker-1/models/5", Timesteps = 5, Digest = "sha256:1" } });
        Assert.Equal(new TrainingArtifact("runs/walker-1/models/5", 5, "sha256:1", null), status.StartedFrom);
    }

    [Fact]
    public void Rules_that_end_a_run_early_are_sent_as_they_are_set()
    {
        var rules = new StopRules { EvaluationRewardMean = 475.5, TimesInARow = 2, TrainingTime = TimeSpan.FromMinutes(1.5) };
        var message = new Training { Experiment = "e", TotalTimesteps = 1, StopWhen = rules }.ToRequest().StopWhen;
        Assert.Equal(new V1.StopWhen { EvaluationRewardMean = 475.5, TimesInARow = 2, TrainingSeconds = 90 }, message);
        Assert.Equal(new V1.StopWhen { EpisodeRewardMean = -1, EvaluationsWithoutImprovement = 5 },
            new StopRules { EpisodeRewardMean = -1, EvaluationsWithoutImprovement = 5 }.ToMessage());
        Assert.Null(new Training { Experiment = "e", TotalTimesteps = 1 }.ToRequest().StopWhen);
        var status = TrainingStatus.From(new V1.StatusResponse { EarlyStop = new V1.EarlyStop { Reason = "RewardReached", Message = "m" } });
        Assert.Equal(new EarlyStop("RewardReached", "m"), status.EarlyStop);
        Assert.Null(TrainingStatus.From(new V1.StatusResponse()).EarlyStop);
    }

    [Fact]
    public void Lessons_are_sent_as_they_are_written()
    {
        var training = new Training
        {
            Experiment = "e",
            TotalTimesteps = 1,
            Lessons =
            [
                new Lesson
                {
                    Name = "near",
                    Parameters = new Dictionary<string, LessonValue>
                    {
                        ["distance"] = LessonValue.Uniform(1, 5),
                        ["wind"] = LessonValue.LogUniform(0.1, 10),
                        ["ground"] = LessonValue.Choice("ice", 2, true),
                    },
                    Until = new LessonEnd { Reward = 0, OverEpisodes = 50, Episodes = 7, Timesteps = 9 },
                },
                new Lesson { Name = "all", Parameters = new Dictionary<string, LessonValue> { ["distance"] = 30, ["ground"] = "ice", ["fog"] = false } },
            ],
        };
        Assert.Equal(
            [
                """{ "name": "near", "parameters": { "distance": { "uniform": [ 1, 5 ] }, "wind": { "log_uniform": [ 0.1, 10 ] }, "ground": { "choice": [ "ice", 2, true ] } }, "until": { "reward": 0, "overEpisodes": 50, "episodes": "7", "timesteps": "9" } }""",
                """{ "name": "all", "parameters": { "distance": 30, "ground": "ice", "fog": false } }""",
            ],
            training.ToRequest().Lessons.Select(lesson => lesson.ToString()));
        Assert.Empty(new Training { Experiment = "e", TotalTimesteps = 1 }.ToRequest().Lessons);
        Assert.Equal(LessonValue.Uniform(1, 2), LessonValue.Uniform(1, 2));
        Assert.NotEqual(LessonValue.Constant(1), LessonValue.Constant("1"));
        Assert.Throws<ArgumentException>(() => LessonValue.Choice(1, LessonValue.Uniform(1, 2)));
        var negative = new LessonEnd { OverEpisodes = -1 };
        Assert.Contains("Lesson.Until.OverEpisodes", Assert.Throws<ArgumentOutOfRangeException>(negative.ToMessage).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Demonstrations_are_a_file_and_how_it_is_learned_from()
    {
        var demonstrations = new Demonstrations { File = "team/car.parquet", Epochs = 20, BatchSize = 32, LearningRate = 1e-4 };
        var message = new Training { Experiment = "e", TotalTimesteps = 1, Demonstrations = demonstrations }.ToRequest().Demonstrations;
        Assert.Equal(new V1.Demonstrations { File = "team/car.parquet", Epochs = 20, BatchSize = 32, LearningRate = 1e-4 }, message);
        Assert.Equal(new V1.Demonstrations { File = "a" }, new Demonstrations { File = "a" }.ToMessage());
        Assert.Null(new Training { Experiment = "e", TotalTimesteps = 1 }.ToRequest().Demonstrations);
        foreach (var number in new[] { 0, -1 })
        {
            var epochs = new Demonstrations { File = "a", Epochs = number };
            Assert.Contains("Demonstrations.Epochs: must be more than 0", Assert.Throws<ArgumentOutOfRangeException>(epochs.ToMessage).Message, StringComparison.Ordinal);
            var batch = new Demonstrations { File = "a", BatchSize = number };
            Assert.Contains("Demonstrations.BatchSize: must be more than 0", Assert.Throws<ArgumentOutOfRangeException>(batch.ToMessage).Message, StringComparison.Ordinal);
        }

        var cloning = new V1.CloningProgress { Epoch = 2, Epochs = 10, Loss = 0.5, Episodes = 3, Steps = 400 };
        var status = TrainingStatus.From(new V1.StatusResponse { Cloning = cloning, Activity = V1.TrainerActivity.Cloning });
        Assert.Equal((new CloningProgress(2, 10, 0.5, 3, 400), TrainerActivity.Cloning), (status.Cloning, status.Activity));
        Assert.Null(TrainingStatus.From(new V1.StatusResponse()).Cloning);
    }

    [Fact]
    public void Number_of_0_is_refused_and_not_taken_for_the_default()
    {
        foreach (var (field, training) in new[]
        {
            ("CheckpointEveryTimesteps", new Training { Experiment = "e", TotalTimesteps = 1, CheckpointEveryTimesteps = 0 }),
            ("Evaluation.EveryTimesteps", new Training { Experiment = "e", TotalTimesteps = 1, Evaluation = new EvaluationPlan { EveryTimesteps = 0 } }),
            ("Environment.Environments", new Training { Experiment = "e", TotalTimesteps = 1, Environment = TrainingEnvironment.Simulator("a:1") with { Environments = 0 } }),
            ("Environment.Minimum", new Training { Experiment = "e", TotalTimesteps = 1, Environment = TrainingEnvironment.Pool("a") with { Minimum = 0 } }),
            ("StopWhen.TrainingTime", new Training { Experiment = "e", TotalTimesteps = 1, StopWhen = new StopRules { TrainingTime = TimeSpan.Zero } }),
        })
        {
            Assert.Contains($"{field}: must be more than 0, or null for the default", Assert.Throws<ArgumentOutOfRangeException>(training.ToRequest).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Status_has_every_activity_and_every_field_of_the_service()
    {
        foreach (var activity in System.Enum.GetValues<V1.TrainerActivity>())
        {
            var name = activity is V1.TrainerActivity.Unspecified ? nameof(TrainerActivity.Unknown) : activity.ToString();
            Assert.Equal(name, TrainingStatus.From(new V1.StatusResponse { Activity = activity }).Activity.ToString());
        }

        var renamed = new Dictionary<string, string> { ["RunId"] = "Run", ["Fps"] = "StepsPerSecond", ["ExperimentId"] = "Experiment" };
        renamed["EstimatedRemainingSeconds"] = "EstimatedRemaining";
        var own = typeof(TrainingStatus).GetProperties().Select(property => property.Name).ToHashSet(StringComparer.Ordinal);
        var missing = V1.StatusResponse.Descriptor.Fields.InDeclarationOrder().Select(field => field.PropertyName)
            .Select(name => renamed.GetValueOrDefault(name, name)).Where(name => !own.Contains(name));
        Assert.Equal(["Environment"], missing); // as requested, which the caller knows
    }

    [Fact]
    public void Masks_of_a_batch_are_a_row_for_each_observation()
    {
        var tensor = Masks.ToTensor([1, 0, 1, 1, 1, 0], 2);
        Assert.Equal(new V1.Tensor { Dtype = V1.DataType.Uint8, Shape = { 2, 3 }, Data = ByteString.CopyFrom(1, 0, 1, 1, 1, 0) }, tensor);
        Assert.Null(Masks.ToTensor([], 2));
        Assert.Contains("2 rows", Assert.Throws<ArgumentException>(() => Masks.ToTensor([1, 0, 1], 2)).Message, StringComparison.Ordinal);
        Assert.Contains("value 1 is 2; each is 0 or 1", Assert.Throws<ArgumentException>(() => Masks.ToTensor([1, 2], 1)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Status_has_the_lesson_and_the_owner()
    {
        var lesson = new V1.LessonProgress { Name = "near", Number = 1, Count = 3, Episodes = 20, Timesteps = 400 };
        var status = TrainingStatus.From(new V1.StatusResponse { Lesson = lesson, Owner = "ada" });
        Assert.Equal((new LessonProgress("near", 1, 3, 20, 400, null), "ada"), (status.Lesson, status.Owner));
        lesson.RewardMean = 0.5;
        Assert.Equal(0.5, TrainingStatus.From(new V1.StatusResponse { Lesson = lesson }).Lesson?.RewardMean);
        Assert.Equal((null, ""), (TrainingStatus.From(new V1.StatusResponse()).Lesson, TrainingStatus.From(new V1.StatusResponse()).Owner));
    }

    [Fact]
    public void Environment_has_a_list_of_addresses_and_plain_options()
    {
        var environment = TrainingEnvironment.Simulator("a:1", "dns:///b:2") with
        {
            Environments = 8,
            Options = new Dictionary<string, object?>
            {
                ["level"] = "hard",
                ["gravity"] = 9.81f,
                ["wind"] = true,
                ["seed"] = null,
                ["sizes"] = new[] { 1, 2 },
                ["inner"] = new Dictionary<string, object?> { ["x"] = 1m },
            },
        };
        var grpc = environment.ToMessage().Grpc;
        Assert.Equal("a:1,dns:///b:2", grpc.Address);
        Assert.Equal(8u, grpc.Environments);
        var options = grpc.Options.Fields;
        Assert.Equal("hard", options["level"].StringValue);
        Assert.Equal(9.81, options["gravity"].NumberValue, 5);
        Assert.True(options["wind"].BoolValue);
        Assert.Equal(Value.KindOneofCase.NullValue, options["seed"].KindCase);
        Assert.Equal(2, options["sizes"].ListValue.Values[1].NumberValue);
        Assert.Equal(1, options["inner"].StructValue.Fields["x"].NumberValue);
    }

    [Fact]
    public void Environment_is_a_pool_with_a_range_of_environments()
    {
        var options = new Dictionary<string, object?> { ["level"] = "hard" };
        var pool = (TrainingEnvironment.Pool("carts") with { Environments = 8, Minimum = 2, Options = options }).ToMessage().Pool;
        Assert.Equal(("carts", 8u, 2u, "hard"), (pool.Name, pool.Environments, pool.Minimum, pool.Options.Fields["level"].StringValue));
        Assert.Equal(new V1.Environment { Pool = new V1.PoolEnvironment { Name = "carts" } }, TrainingEnvironment.Pool("carts").ToMessage());
    }

    [Fact]
    public void Wrong_environment_is_refused_by_name()
    {
        Assert.Contains("Environment.Environments", Message(TrainingEnvironment.Pool("carts") with { Environments = -1 }), StringComparison.Ordinal);
        Assert.Contains("Environment.Minimum", Message(TrainingEnvironment.Pool("carts") with { Minimum = -1 }), StringComparison.Ordinal);
        Assert.Contains("Environment.Addresses", Message(TrainingEnvironment.Simulator("a:1,b:2")), StringComparison.Ordinal);
        Assert.Contains("Environment.Environments", Message(TrainingEnvironment.Simulator("a:1") with { Environments = -1 }), StringComparison.Ordinal);
        var options = new Dictionary<string, object?> { ["when"] = new object[] { DateTimeOffset.UnixEpoch } };
        Assert.Contains("Environment.Options[\"when\"][0]", Message(TrainingEnvironment.Simulator("a:1") with { Options = options }), StringComparison.Ordinal);

        static string Message(TrainingEnvironment environment) => Assert.ThrowsAny<ArgumentException>(() => environment.ToMessage()).Message;
    }

    [Fact]
    public void Start_sends_what_the_training_says()
    {
        var request = new Training
        {
            Experiment = "e",
            TotalTimesteps = 100,
            Seed = 7,
            RequestId = "id",
            ModelOutputPath = "a.zip",
            CheckpointEveryTimesteps = 10,
            Environment = TrainingEnvironment.Gymnasium("CartPole-v1"),
            Evaluation = new EvaluationPlan { EveryTimesteps = 5, Episodes = 3, Stochastic = true },
        }.ToRequest();
        Assert.Equal(("e", 100L, 7L, "id", "a.zip", 10L), (request.ExperimentId, request.TotalTimesteps, request.Seed, request.RequestId, request.ModelOutputPath, request.CheckpointEveryTimesteps));
        Assert.Equal("CartPole-v1", request.Environment.Gymnasium.Id);
        Assert.Equal((5L, 3u, true), (request.Evaluation.EveryTimesteps, request.Evaluation.Episodes, request.Evaluation.Stochastic));
        Assert.Equal(V1.Environment.KindOneofCase.Fake, TrainingEnvironment.BuiltIn.ToMessage().KindCase);
    }

    [Fact]
    public void Batch_of_a_dict_is_a_tensor_for_each_leaf()
    {
        var space = new V1.Space { Dict = new V1.DictSpace() };
        space.Dict.Entries.Add(new V1.DictEntry { Key = "a", Space = new V1.Space { Box = new V1.Box { Shape = { 2 } } } });
        space.Dict.Entries.Add(new V1.DictEntry { Key = "b", Space = new V1.Space { Discrete = new V1.Discrete { N = 3 } } });
        var tensors = new List<V1.Tensor>(BatchMessages.ToTensors(new float[] { 1, 2, 3, 4, 5, 6 }, 2, space));
        Assert.Equal([2, 2], tensors[0].Shape);
        Assert.Equal([1, 2, 4, 5], System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(tensors[0].Data.Span).ToArray());
        Assert.Equal([2], tensors[1].Shape);
        Assert.Equal([3, 6], System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(tensors[1].Data.Span).ToArray());
        var error = Assert.Throws<ArgumentException>(() => new List<V1.Tensor>(BatchMessages.ToTensors(new float[5], 2, space)));
        Assert.Contains("2 rows of 3 numbers", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Selector_is_written_as_the_service_reads_it()
    {
        Assert.Equal(["", "best", "final", "step:20000", "sha256:1"], new[]
        {
            ModelSelector.Latest.ToString(), ModelSelector.Best.ToString(), ModelSelector.Final.ToString(),
            ModelSelector.Step(20000).ToString(), ModelSelector.Parse("sha256:1").ToString(),
        });
    }
}
