#if NET
using System;
using System.Linq;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace AISandbox.Client;

/// <summary>Whose certificate is accepted, and what is said of one that is not.</summary>
internal static class ServerTrust
{
    private const string ServerAuthentication = "1.3.6.1.5.5.7.3.1";

    // The signature does not fit where another authority has the same name.
    private const X509ChainStatusFlags UnknownAuthority =
        X509ChainStatusFlags.UntrustedRoot | X509ChainStatusFlags.PartialChain | X509ChainStatusFlags.NotSignatureValid;

    /// <summary>The options of a connection: by the certificates in the file, read again for each connection, or as the machine trusts.</summary>
    public static SslClientAuthenticationOptions OptionsOf(AISandboxClientOptions options, string host)
    {
        var result = new SslClientAuthenticationOptions
        {
            RemoteCertificateValidationCallback = (_, certificate, chain, errors) => Check(certificate as X509Certificate2, chain, errors, options, host),
        };
        if (!string.IsNullOrEmpty(options.ClientCertificateFile))
        {
            result.LocalCertificateSelectionCallback = (_, _, _, _, _) => ClientCertificate(options);
        }

        return result;
    }

    private static bool Check(X509Certificate2? certificate, X509Chain? chain, SslPolicyErrors errors, AISandboxClientOptions options, string host)
    {
        if (certificate is null || chain is null)
        {
            throw new AuthenticationException("it has no certificate");
        }

        // SocketsHttpHandler sets TargetHost to the host of the address, whatever the options say.
        var name = string.IsNullOrEmpty(options.ServerName) ? host : options.ServerName;
        var isFor = name == host ? !errors.HasFlag(SslPolicyErrors.RemoteCertificateNameMismatch) : certificate.MatchesHostname(name, allowCommonName: false);
        if (!isFor)
        {
            throw new AuthenticationException($"its certificate is for another name than {name}; ServerName may name the right one");
        }

        var file = options.CaCertificateFile;
        using var own = string.IsNullOrEmpty(file) ? null : ChainOf(chain, file!);
        var built = own ?? chain;
        if (own?.Build(certificate) ?? !errors.HasFlag(SslPolicyErrors.RemoteCertificateChainErrors))
        {
            return true;
        }

        var problems = built.ChainStatus.Aggregate(X509ChainStatusFlags.NoError, (all, each) => all | each.Status);
        throw new AuthenticationException(problems.HasFlag(X509ChainStatusFlags.NotTimeValid)
            ? "its certificate has expired, or is not valid yet"
            : (problems & UnknownAuthority) != 0
                ? $"its certificate is signed by an authority that is not in {(string.IsNullOrEmpty(file) ? "the list of those that this machine trusts; CaCertificateFile may name others" : file)}"
                : $"its certificate is not accepted: {problems}");
    }

    private static X509Chain ChainOf(X509Chain received, string file)
    {
        var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.ApplicationPolicy.Add(new Oid(ServerAuthentication));
        chain.ChainPolicy.ExtraStore.AddRange(received.ChainPolicy.ExtraStore);
        try
        {
            chain.ChainPolicy.CustomTrustStore.ImportFromPemFile(file);
        }
        catch (Exception error) when (error is CryptographicException or System.IO.IOException or UnauthorizedAccessException)
        {
            throw new AuthenticationException($"CaCertificateFile: {file} cannot be read: {error.Message}", error);
        }

        return chain.ChainPolicy.CustomTrustStore.Count > 0 ? chain : throw new AuthenticationException($"CaCertificateFile: {file} has no certificate in PEM form");
    }

    private static X509Certificate2 ClientCertificate(AISandboxClientOptions options)
    {
        try
        {
            using var read = X509Certificate2.CreateFromPemFile(options.ClientCertificateFile!, options.ClientKeyFile);
            // Windows takes a key for TLS from a store only, which this makes.
            return X509CertificateLoader.LoadPkcs12(read.Export(X509ContentType.Pkcs12), null);
        }
        catch (Exception error) when (error is CryptographicException or System.IO.IOException or UnauthorizedAccessException)
        {
            throw new AuthenticationException($"ClientCertificateFile: {options.ClientCertificateFile} cannot be used: {error.Message}", error);
        }
    }
}
#endif
