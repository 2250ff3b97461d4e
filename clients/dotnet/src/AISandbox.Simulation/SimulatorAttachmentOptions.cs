using System;
using System.Collections.Generic;
using System.ComponentModel.DataAnnotations;
using System.Linq;
using System.Net.Http;
using System.Threading;
using System.Threading.Tasks;
using AISandbox.Client;
using Microsoft.Extensions.Options;

namespace AISandbox.Simulation;

/// <summary>Which pool a simulator joins, and how it connects.</summary>
public sealed class SimulatorAttachmentOptions : IValidatableObject
{
    /// <summary>
    /// The address of the service: <c>http://HOST:PORT</c>, <c>https://HOST:PORT</c> (TLS), <c>HOST:PORT</c> (without TLS) or, on .NET,
    /// <c>dns:///HOST:PORT</c> for the addresses that the name resolves to.
    /// </summary>
    [Required]
    public string Address { get; set; } = "http://127.0.0.1:50051";

    /// <summary>The pool, which a run names as <c>environment.pool</c>: 1 to 63 lower-case letters, digits and "-".</summary>
    [Required]
    public string Pool { get; set; } = "";

    /// <summary>
    /// The name of this simulator in its pool, for people: 1 to 100 printable characters. Null: the machine's name with a number. Places of
    /// one simulator are numbered behind it.
    /// </summary>
    public string? Instance { get; set; }

    /// <summary>The number of environments of each place; a session has all of them.</summary>
    [Range(1, 4096)]
    public int Environments { get; set; } = 1;

    /// <summary>
    /// The number of places: of sessions at the same time, each with its own environments. Different runs, and the trainer and the evaluation of
    /// one run, may take different places.
    /// </summary>
    [Range(1, 1000)]
    public int Places { get; set; } = 1;

    /// <summary>The wait before a lost simulator attaches again; each further one waits up to twice as long.</summary>
    public TimeSpan InitialBackoff { get; set; } = TimeSpan.FromSeconds(1);

    /// <summary>The longest wait between two attempts.</summary>
    public TimeSpan MaxBackoff { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// The interval of HTTP/2 pings, and the time for their answers: a NAT forgets a connection that is silent for minutes. At least 10 s. Not on
    /// netstandard2.1, where the handler decides. <see cref="Timeout.InfiniteTimeSpan"/>: none.
    /// </summary>
    public TimeSpan KeepAliveInterval { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>The largest message that is received or sent, in bytes.</summary>
    [Range(1 << 10, int.MaxValue)]
    public int MaxMessageSize { get; set; } = 64 << 20;

    /// <summary>
    /// The handler for HTTP/2: of an engine whose runtime has none of its own, or with certificates of your own. It is not disposed. Null: the
    /// runtime's.
    /// </summary>
    public HttpMessageHandler? HttpHandler { get; set; }

    /// <summary>
    /// A PEM file of the authorities that may have signed the certificate of the service, in place of those that this machine trusts. It is
    /// read for each connection, so it may be renewed. With it a <c>dns:///</c> address has TLS. Not on netstandard2.1: use <see cref="HttpHandler"/>.
    /// </summary>
    public string? CaCertificateFile { get; set; }

    /// <summary>The name that the certificate of the service must be for. Null: the host of the address. Not on netstandard2.1.</summary>
    public string? ServerName { get; set; }

    /// <summary>
    /// A PEM file of the client's own certificate, for a service that asks for one; with <see cref="ClientKeyFile"/>. Both are read for each
    /// connection. Not on netstandard2.1.
    /// </summary>
    public string? ClientCertificateFile { get; set; }

    /// <summary>A PEM file of the key of <see cref="ClientCertificateFile"/>, without a password.</summary>
    public string? ClientKeyFile { get; set; }

    /// <summary>
    /// A file with the token that is sent as <c>authorization: Bearer TOKEN</c>, read before each attempt to attach. A token is sent with TLS, or to this
    /// machine: another address is refused.
    /// </summary>
    public string? AccessTokenFile { get; set; }

    /// <summary>Called before each attempt to attach, in place of <see cref="AccessTokenFile"/>; null: no token.</summary>
    public Func<CancellationToken, ValueTask<string?>>? AccessTokenProvider { get; set; }

    /// <summary>What a place that is cancelled may take to say goodbye to the service.</summary>
    internal TimeSpan GoodbyeLimit { get; set; } = TimeSpan.FromSeconds(1);

    /// <summary>The clock of the waits.</summary>
    internal TimeProvider Time { get; set; } = TimeProvider.System;

    /// <summary>The instance of a place.</summary>
    internal static string InstanceOf(string instance, int place, int places) =>
        places == 1 ? instance : FormattableString.Invariant($"{instance}-{place + 1}");

    internal AISandboxClientOptions ToClientOptions() => new()
    {
        Address = Address,
        InitialBackoff = InitialBackoff,
        MaxBackoff = MaxBackoff,
        KeepAliveInterval = KeepAliveInterval,
        MaxMessageSize = MaxMessageSize,
        HttpHandler = HttpHandler,
        CaCertificateFile = CaCertificateFile,
        ServerName = ServerName,
        ClientCertificateFile = ClientCertificateFile,
        ClientKeyFile = ClientKeyFile,
        AccessTokenFile = AccessTokenFile,
        AccessTokenProvider = AccessTokenProvider,
    };

    /// <inheritdoc/>
    IEnumerable<ValidationResult> IValidatableObject.Validate(ValidationContext validationContext)
    {
        if (!string.IsNullOrEmpty(Address) && !ServiceAddress.TryParse(Address, out _))
        {
            yield return new ValidationResult(
                $"{nameof(Address)}: must be http://HOST:PORT, https://HOST:PORT, HOST:PORT or dns:///HOST:PORT, got \"{Address}\"", [nameof(Address)]);
        }
        if (!string.IsNullOrEmpty(Pool) && !IsPoolName(Pool))
        {
            yield return new ValidationResult(
                $"{nameof(Pool)}: must be 1 to 63 lower-case letters, digits and \"-\", beginning and ending with a letter or digit, got \"{Pool}\"", [nameof(Pool)]);
        }
        if (Instance is not null && (Instance.Length is 0 or > 100 || Instance.Any(char.IsControl)))
            yield return new ValidationResult($"{nameof(Instance)}: must be 1 to 100 printable characters, got \"{Instance}\"", [nameof(Instance)]);
        foreach (var (name, value) in new[] { (nameof(InitialBackoff), InitialBackoff), (nameof(MaxBackoff), MaxBackoff) })
            if (value <= TimeSpan.Zero)
                yield return new ValidationResult($"{name}: must be greater than zero, got {value}", [name]);
        if (KeepAliveInterval < TimeSpan.FromSeconds(10) && KeepAliveInterval != Timeout.InfiniteTimeSpan)
        {
            yield return new ValidationResult(
                $"{nameof(KeepAliveInterval)}: must be at least 10 seconds, which the service permits, got {KeepAliveInterval}", [nameof(KeepAliveInterval)]);
        }
    }

    private static bool IsPoolName(string name)
    {
        if (name.Length > 63 || name[0] == '-' || name[^1] == '-')
            return false;
        foreach (var letter in name)
            if (letter is not ((>= 'a' and <= 'z') or (>= '0' and <= '9') or '-'))
                return false;
        return true;
    }
}

/// <summary>Checks options at the start of the host, and those given to a call.</summary>
[OptionsValidator]
internal sealed partial class SimulatorAttachmentOptionsValidator : IValidateOptions<SimulatorAttachmentOptions>
{
    /// <summary>Throws <see cref="OptionsValidationException"/> that names each wrong option.</summary>
    public static void Check(SimulatorAttachmentOptions options)
    {
        var result = new SimulatorAttachmentOptionsValidator().Validate(null, options);
        if (result.Failed)
            throw new OptionsValidationException(Options.DefaultName, typeof(SimulatorAttachmentOptions), result.Failures);
    }
}
