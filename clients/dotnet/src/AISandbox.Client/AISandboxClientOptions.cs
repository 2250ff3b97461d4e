using System;
using System.Collections.Generic;
using System.ComponentModel.DataAnnotations;
using System.Net.Http;
using Microsoft.Extensions.Options;

namespace AISandbox.Client;

/// <summary>Where the service is, and how patiently it is called.</summary>
public sealed class AISandboxClientOptions : IValidatableObject
{
    /// <summary>
    /// The address of the service: <c>http://HOST:PORT</c>, <c>https://HOST:PORT</c>, <c>HOST:PORT</c> (without TLS) or, on
    /// .NET, <c>dns:///HOST:PORT</c> for every address that the name resolves to, called in turn.
    /// </summary>
    [Required]
    public string Address { get; set; } = "http://127.0.0.1:50051";

    /// <summary>
    /// The address for <c>Act</c>, its batches and streams, for example <c>dns:///aisandbox-inference-pods.NAMESPACE.svc:50051</c>
    /// for all inference-servers of a cluster. Null: <see cref="Address"/>.
    /// </summary>
    public string? InferenceAddress { get; set; }

    /// <summary>The deadline of a call, its retries included, and of each request of a stream.</summary>
    public TimeSpan Timeout { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// For how long a watch tries to connect again, from the moment its connection was lost.
    /// <see cref="System.Threading.Timeout.InfiniteTimeSpan"/>: until it is cancelled. A stream tries for as long as an
    /// observation waits, each up to <see cref="Timeout"/>.
    /// </summary>
    public TimeSpan ReconnectTimeout { get; set; } = TimeSpan.FromMinutes(10);

    /// <summary>The wait before the second attempt; each further one waits up to twice as long.</summary>
    public TimeSpan InitialBackoff { get; set; } = TimeSpan.FromMilliseconds(200);

    /// <summary>The longest wait between two attempts.</summary>
    public TimeSpan MaxBackoff { get; set; } = TimeSpan.FromSeconds(15);

    /// <summary>
    /// After this time without a message a watch asks whether the service is still there; without an answer within the
    /// same time it connects again.
    /// </summary>
    public TimeSpan LivenessInterval { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// The interval of HTTP/2 pings while a call is open, and the time for their answers: a connection that is silent for
    /// both is lost. Not on netstandard2.1, where the handler decides.
    /// <see cref="System.Threading.Timeout.InfiniteTimeSpan"/>: none.
    /// </summary>
    public TimeSpan KeepAliveInterval { get; set; } = TimeSpan.FromSeconds(15);

    /// <summary>How often the name of a <c>dns:///</c> address is resolved again.</summary>
    public TimeSpan DnsRefreshInterval { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>The largest message that is received or sent, in bytes.</summary>
    [Range(1 << 10, int.MaxValue)]
    public int MaxMessageSize { get; set; } = 64 << 20;

    /// <summary>
    /// The handler for HTTP/2, for example of an engine whose runtime has none of its own. It is not disposed. Null: the
    /// runtime's, with the pings and connection limits that long streams need.
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
    /// A file with the token that is sent as <c>authorization: Bearer TOKEN</c>, read before each call. A token is sent with TLS, or to this
    /// machine: another address is refused.
    /// </summary>
    public string? AccessTokenFile { get; set; }

    /// <summary>Called before each call, in place of <see cref="AccessTokenFile"/>; null: no token.</summary>
    public Func<System.Threading.CancellationToken, System.Threading.Tasks.ValueTask<string?>>? AccessTokenProvider { get; set; }

#if NET
    /// <summary>Looks a name up, in tests.</summary>
    internal Func<string, System.Threading.CancellationToken, System.Threading.Tasks.Task<System.Net.IPAddress[]>>? Lookup { get; set; }

#endif
    /// <summary>Whether calls carry a token.</summary>
    internal bool HasToken => AccessTokenProvider is not null || !string.IsNullOrEmpty(AccessTokenFile);

    /// <summary>Whether connections to the address have TLS.</summary>
    internal bool UsesTls(ServiceAddress address) => address.HasTls || (address.IsDns && !string.IsNullOrEmpty(CaCertificateFile));

    private IEnumerable<ValidationResult> FileProblems()
    {
        if (string.IsNullOrEmpty(ClientCertificateFile) != string.IsNullOrEmpty(ClientKeyFile))
        {
            var name = string.IsNullOrEmpty(ClientKeyFile) ? nameof(ClientKeyFile) : nameof(ClientCertificateFile);
            yield return new ValidationResult($"{name}: must be set with the other of ClientCertificateFile and ClientKeyFile", new[] { name });
        }

        if (!string.IsNullOrEmpty(AccessTokenFile) && !System.IO.File.Exists(AccessTokenFile))
        {
            yield return new ValidationResult($"{nameof(AccessTokenFile)}: {AccessTokenFile} is not there", new[] { nameof(AccessTokenFile) });
        }

#if !NET
        const string rule = "needs .NET here; HttpHandler may be one that knows certificates";
#else
        const string rule = "has no effect with HttpHandler, whose connections are its own";
        if (HttpHandler is not null)
#endif
        foreach (var (name, value) in new[]
        {
            (nameof(CaCertificateFile), CaCertificateFile), (nameof(ServerName), ServerName), (nameof(ClientCertificateFile), ClientCertificateFile),
        })
        {
            if (!string.IsNullOrEmpty(value))
            {
                yield return new ValidationResult($"{name}: {rule}", new[] { name });
            }
        }
    }

    /// <inheritdoc/>
    IEnumerable<ValidationResult> IValidatableObject.Validate(ValidationContext validationContext)
    {
        foreach (var (name, address) in new[] { (nameof(Address), Address), (nameof(InferenceAddress), InferenceAddress) })
        {
            if (!string.IsNullOrEmpty(address) && !ServiceAddress.TryParse(address, out _))
            {
                yield return new ValidationResult(
                    $"{name}: must be http://HOST:PORT, https://HOST:PORT, HOST:PORT or dns:///HOST:PORT, got \"{address}\"", new[] { name });
            }

            if (HasToken && !string.IsNullOrEmpty(address) && ServiceAddress.TryParse(address, out var found) && !UsesTls(found) && !AccessTokens.IsLocal(found))
            {
                yield return new ValidationResult($"{name}: a token is not sent to {address} in plain text: use https://", new[] { name });
            }
        }

        foreach (var problem in FileProblems())
        {
            yield return problem;
        }

        foreach (var (name, value, infinite) in new[]
        {
            (nameof(Timeout), Timeout, false), (nameof(InitialBackoff), InitialBackoff, false), (nameof(MaxBackoff), MaxBackoff, false),
            (nameof(LivenessInterval), LivenessInterval, false), (nameof(DnsRefreshInterval), DnsRefreshInterval, false),
            (nameof(ReconnectTimeout), ReconnectTimeout, true), (nameof(KeepAliveInterval), KeepAliveInterval, true),
        })
        {
            if (value <= TimeSpan.Zero && !(infinite && value == System.Threading.Timeout.InfiniteTimeSpan))
            {
                yield return new ValidationResult($"{name}: must be greater than zero, got {value}", new[] { name });
            }
        }
    }
}

/// <summary>Checks options at the start of the host, and those given to a constructor.</summary>
[OptionsValidator]
internal sealed partial class AISandboxClientOptionsValidator : IValidateOptions<AISandboxClientOptions>
{
    /// <summary>Throws <see cref="OptionsValidationException"/> that names each wrong option.</summary>
    public static void Check(AISandboxClientOptions options)
    {
        var result = new AISandboxClientOptionsValidator().Validate(null, options);
        if (result.Failed)
        {
            throw new OptionsValidationException(Options.DefaultName, typeof(AISandboxClientOptions), result.Failures);
        }
    }
}
