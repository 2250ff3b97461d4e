using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using AISandbox.Client.Tests.Support;
using AISandbox.V1;
using Google.Rpc;
using Grpc.Core;
using Xunit;

namespace AISandbox.Client.Tests;

public class CallTests
{
    private static readonly float[] Observation = [1, 2];

    [Fact]
    public async Task Act_returns_the_numbers_and_the_model()
    {
        await using var server = await ScriptedServer.StartAsync(new ScriptedService());
        using var client = server.Connect();
        var action = await client.GetRun("run").ActAsync(Observation, cancellationToken: TestContext.Current.CancellationToken);
        Assert.Equal(Observation, action.Values);
        Assert.Equal("sha256:1", action.Model);
        var copy = new float[2];
        action.CopyTo(copy);
        Assert.Equal(Observation, copy);
        Assert.Throws<ArgumentException>(() => action.CopyTo(new float[1]));
        Assert.Throws<InvalidOperationException>(() => action.Discrete);
    }

    [Fact]
    public async Task Start_is_repeated_with_the_same_request_id()
    {
        var ids = new ConcurrentQueue<string>();
        var service = new ScriptedService
        {
            OnStart = request =>
            {
                ids.Enqueue(request.RequestId);
                return ids.Count < 3 ? throw new RpcException(new Grpc.Core.Status(StatusCode.Unavailable, "is starting")) : new TrainingResponse { RunId = "run-1" };
            },
        };
        await using var server = await ScriptedServer.StartAsync(service);
        using var logs = new Logs();
        using var client = server.Connect(loggers: logs);
        var training = new Training { Experiment = "e", TotalTimesteps = 1 };
        var run = await client.StartAsync(training, TestContext.Current.CancellationToken);
        Assert.Equal("run-1", run.Name);
        Assert.Equal(3, ids.Count);
        Assert.Single(ids.Distinct());
        Assert.Equal(2, logs.Warnings.Count(each => each.Contains("is starting", StringComparison.Ordinal)));

        await client.StartAsync(training, TestContext.Current.CancellationToken);
        Assert.Equal(2, ids.Distinct().Count());
    }

    [Fact]
    public async Task Refused_call_names_the_fields_and_is_not_repeated()
    {
        var calls = 0;
        var detail = new BadRequest();
        detail.FieldViolations.Add(new BadRequest.Types.FieldViolation { Field = "hyperparameters.gamma", Description = "must be at most 1, got 2" });
        var service = new ScriptedService
        {
            OnStart = _ =>
            {
                calls++;
                throw ScriptedService.Error(StatusCode.InvalidArgument, "hyperparameters.gamma: must be at most 1, got 2", detail);
            },
        };
        await using var server = await ScriptedServer.StartAsync(service);
        using var client = server.Connect();
        var error = await Assert.ThrowsAsync<AISandboxException>(
            () => client.StartAsync(new Training { Experiment = "e", TotalTimesteps = 1 }, TestContext.Current.CancellationToken));
        Assert.Equal(StatusCode.InvalidArgument, error.StatusCode);
        Assert.Equal(new FieldViolation("hyperparameters.gamma", "must be at most 1, got 2"), Assert.Single(error.FieldViolations));
        Assert.Contains("hyperparameters.gamma", error.Message, StringComparison.Ordinal);
        Assert.False(error.IsTransient);
        Assert.Equal(1, calls);
    }

    [Fact]
    public async Task Failed_precondition_has_its_kind_as_reason()
    {
        var detail = new PreconditionFailure();
        detail.Violations.Add(new PreconditionFailure.Types.Violation { Type = "RunDone", Subject = "run" });
        var service = new ScriptedService { OnStatus = _ => throw ScriptedService.Error(StatusCode.FailedPrecondition, "is done", detail) };
        await using var server = await ScriptedServer.StartAsync(service);
        using var client = server.Connect();
        var error = await Assert.ThrowsAsync<AISandboxException>(() => client.GetRun("run").GetStatusAsync(TestContext.Current.CancellationToken));
        Assert.Equal("RunDone", error.Reason);
    }

    [Fact]
    public async Task Call_without_an_answer_ends_at_its_deadline()
    {
        var service = new ScriptedService { OnAct = async (_, context) => { await Task.Delay(Timeout.Infinite, context.CancellationToken); return null!; } };
        await using var server = await ScriptedServer.StartAsync(service);
        using var client = server.Connect(options => options.Timeout = TimeSpan.FromMilliseconds(300));
        var error = await Assert.ThrowsAsync<AISandboxException>(
            () => client.GetRun("run").ActAsync(Observation, cancellationToken: TestContext.Current.CancellationToken));
        Assert.Equal(StatusCode.DeadlineExceeded, error.StatusCode);
        Assert.True(error.IsTransient);
    }

    [Fact]
    public async Task Call_to_an_absent_service_says_so_when_its_time_is_over()
    {
        using var client = ScriptedServer.Connect("http://127.0.0.1:1", options => options.Timeout = TimeSpan.FromSeconds(5));
        var error = await Assert.ThrowsAsync<AISandboxException>(() => client.GetRun("run").GetStatusAsync(TestContext.Current.CancellationToken));
        Assert.Equal(StatusCode.Unavailable, error.StatusCode);
        Assert.True(error.IsTransient);
        Assert.StartsWith("http://127.0.0.1:1: cannot be reached: ", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Cancellation_has_the_callers_token()
    {
        var entered = new TaskCompletionSource();
        var service = new ScriptedService
        {
            OnAct = async (_, context) =>
            {
                entered.SetResult();
                await Task.Delay(Timeout.Infinite, context.CancellationToken);
                return null!;
            },
        };
        await using var server = await ScriptedServer.StartAsync(service);
        using var client = server.Connect();
        using var cancel = new CancellationTokenSource();
        var call = client.GetRun("run").ActAsync(Observation, cancellationToken: cancel.Token);
        await entered.Task;
        await cancel.CancelAsync();
        var error = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
        Assert.Equal(cancel.Token, error.CancellationToken);
    }

    [Fact]
    public async Task List_fetches_every_page()
    {
        var tokens = new List<string>();
        var service = new ScriptedService
        {
            OnList = request =>
            {
                tokens.Add(request.PageToken);
                Assert.Equal("e", request.ExperimentId);
                Assert.Equal(Phase.Running, Assert.Single(request.Phases));
                var page = new ListTrainingRunsResponse { NextPageToken = tokens.Count < 3 ? $"page {tokens.Count}" : "" };
                page.Runs.Add(ScriptedService.Running($"run-{tokens.Count}", 1));
                return page;
            },
        };
        await using var server = await ScriptedServer.StartAsync(service);
        using var client = server.Connect();
        var runs = await client.ListAsync("e", [TrainingPhase.Running], TestContext.Current.CancellationToken).ToListAsync();
        Assert.Equal(["run-1", "run-2", "run-3"], runs.Select(run => run.Run));
        Assert.Equal(["", "page 1", "page 2"], tokens);
    }

    [Fact]
    public async Task Call_is_an_activity_with_the_run()
    {
        var seen = new ConcurrentQueue<Activity>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name == AISandboxTelemetry.ActivitySourceName,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = seen.Enqueue,
        };
        ActivitySource.AddActivityListener(listener);
        await using var server = await ScriptedServer.StartAsync(new ScriptedService());
        using var client = server.Connect();
        var run = $"run-{Guid.NewGuid()}";
        await client.GetRun(run).GetStatusAsync(TestContext.Current.CancellationToken);
        Assert.Contains(seen, each => each.DisplayName == "GetTrainingStatus" && (string?)each.GetTagItem("aisandbox.run") == run);
    }
}
