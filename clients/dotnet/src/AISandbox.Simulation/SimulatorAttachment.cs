using System;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using AISandbox.Client;
using Microsoft.Extensions.Options;

namespace AISandbox.Simulation;

public sealed partial class Simulator
{
    private int attachedPlaces;

    /// <summary>The number of places that the service has registered now: see <see cref="AttachAsync(SimulatorAttachmentOptions, CancellationToken)"/>.</summary>
    public int AttachedPlaces => Volatile.Read(ref attachedPlaces);

    /// <summary>The last reason why a place was lost or not registered, for the health check.</summary>
    internal string? AttachmentTrouble { get; private set; }

    /// <summary>Joins a pool of the service with one place; see <see cref="AttachAsync(SimulatorAttachmentOptions, CancellationToken)"/>.</summary>
    /// <param name="address">See <see cref="SimulatorAttachmentOptions.Address"/>.</param>
    /// <param name="pool">See <see cref="SimulatorAttachmentOptions.Pool"/>.</param>
    /// <param name="instance">See <see cref="SimulatorAttachmentOptions.Instance"/>.</param>
    /// <param name="environments">See <see cref="SimulatorAttachmentOptions.Environments"/>.</param>
    /// <param name="cancellationToken">Leaves the pool.</param>
    public Task AttachAsync(
        string address, string pool, string? instance = null, int environments = 1, CancellationToken cancellationToken = default) =>
        AttachAsync(
            new SimulatorAttachmentOptions { Address = address, Pool = pool, Instance = instance, Environments = environments }, cancellationToken);

    /// <summary>
    /// Joins a pool of the service, by dialling it, and serves its sessions until it is cancelled: SimulatorPoolService.Attach
    /// (simulator_pool.proto). A simulator whose connection is lost attaches again, with growing waits and a warning in the log.
    /// </summary>
    /// <param name="options">Are not changed meanwhile.</param>
    /// <param name="cancellationToken">Leaves the pool at once; a session ends for its trainer as one whose simulator stops.</param>
    /// <exception cref="AttachmentRefusedException">The service refuses this simulator, and would again.</exception>
    /// <exception cref="OptionsValidationException">An option is wrong; the message names it.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled; the only other way in which it ends.</exception>
    public async Task AttachAsync(SimulatorAttachmentOptions options, CancellationToken cancellationToken = default)
    {
        if (options is null)
            throw new ArgumentNullException(nameof(options));
        SimulatorAttachmentOptionsValidator.Check(options);
        if (Options.Capacity > 0 && (long)options.Environments * options.Places > Options.Capacity)
        {
            throw new ArgumentException(
                $"{options.Places} places of {options.Environments} environments are more than the capacity of the simulator, {Options.Capacity}", nameof(options));
        }
        if (SimulatorSession.SizeProblem(Spec, options.Environments, options.MaxMessageSize, $"{options.MaxMessageSize} bytes (MaxMessageSize)") is { } problem)
            throw new ArgumentException(problem, nameof(options));
        cancellationToken.ThrowIfCancellationRequested();
        using var client = new AISandboxClient(options.ToClientOptions(), time: options.Time);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var instance = options.Instance ?? $"{Environment.MachineName}-{Guid.NewGuid().ToString("N")[..6]}";
        var places = Enumerable.Range(0, options.Places)
            .Select(place => new AttachedPlace(this, client.CallInvoker, options, SimulatorAttachmentOptions.InstanceOf(instance, place, options.Places)))
            .Select(place => Task.Run(() => place.RunAsync(stop.Token), CancellationToken.None))
            .ToArray();
        // A place ends only with a refusal, which the others would get too, or when it is cancelled.
        var first = await Task.WhenAny(places).ConfigureAwait(false);
        stop.Cancel();
        // A step that is being taken cannot be interrupted, and is left to itself.
        await Task.WhenAny(Task.WhenAll(places), Task.Delay(2 * options.GoodbyeLimit, CancellationToken.None)).ConfigureAwait(false);
        cancellationToken.ThrowIfCancellationRequested();
        await first.ConfigureAwait(false);
    }

    internal void CountAttached(int by) => Interlocked.Add(ref attachedPlaces, by);

    internal void Explain(string trouble) => AttachmentTrouble = trouble;
}
