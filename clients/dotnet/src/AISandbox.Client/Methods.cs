namespace AISandbox.Client;

/// <summary>The unary methods of the service.</summary>
internal static class Methods
{
    public static readonly Method<V1.TrainingRequest, V1.TrainingResponse, string> Start = new(
        "StartTraining", (client, request, options) => client.StartTrainingAsync(request, options), response => response.RunId);

    public static readonly Method<V1.TrainingRequest, V1.TrainingResponse, string> StartPpo = new(
        "StartTrainingPPO", (client, request, options) => client.StartTrainingPPOAsync(request, options), response => response.RunId);

    public static readonly Method<V1.TrainingRequest, V1.TrainingResponse, string> StartA2c = new(
        "StartTrainingA2C", (client, request, options) => client.StartTrainingA2CAsync(request, options), response => response.RunId);

    public static readonly Method<V1.TrainingRequest, V1.TrainingResponse, string> StartDqn = new(
        "StartTrainingDQN", (client, request, options) => client.StartTrainingDQNAsync(request, options), response => response.RunId);

    public static readonly Method<V1.StatusRequest, V1.StatusResponse, TrainingStatus> GetStatus = new(
        "GetTrainingStatus", (client, request, options) => client.GetTrainingStatusAsync(request, options), TrainingStatus.From);

    public static readonly Method<V1.ListTrainingRunsRequest, V1.ListTrainingRunsResponse, V1.ListTrainingRunsResponse> List = new(
        "ListTrainingRuns", (client, request, options) => client.ListTrainingRunsAsync(request, options), response => response);

    public static readonly Method<V1.CancelTrainingRequest, V1.StatusResponse, TrainingStatus> Cancel = new(
        "CancelTraining", (client, request, options) => client.CancelTrainingAsync(request, options), TrainingStatus.From);

    public static readonly Method<V1.SuspendTrainingRequest, V1.StatusResponse, TrainingStatus> Suspend = new(
        "SuspendTraining", (client, request, options) => client.SuspendTrainingAsync(request, options), TrainingStatus.From);

    public static readonly Method<V1.ResumeTrainingRequest, V1.StatusResponse, TrainingStatus> Resume = new(
        "ResumeTraining", (client, request, options) => client.ResumeTrainingAsync(request, options), TrainingStatus.From);

    public static readonly Method<V1.ActRequest, V1.ActResponse, PolicyAction> Act = new(
        "Act", (client, request, options) => client.ActAsync(request, options), response => new PolicyAction(response), IsInference: true);

    public static readonly Method<V1.ActBatchRequest, V1.ActBatchResponse, ActionBatch> ActBatch = new(
        "ActBatch", (client, request, options) => client.ActBatchAsync(request, options), BatchMessages.ToActions, IsInference: true);

    public static readonly Method<V1.DescribeModelRequest, V1.DescribeModelResponse, V1.DescribeModelResponse> Describe = new(
        "DescribeModel", (client, request, options) => client.DescribeModelAsync(request, options), response => response, IsInference: true);
}
