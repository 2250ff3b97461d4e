using System;
using System.IO;
using System.Linq;
using System.Net;
using System.Threading;
using System.Threading.Tasks;
using Grpc.Core;

namespace AISandbox.Client;

/// <summary>The token that calls carry, as metadata <c>authorization: Bearer TOKEN</c>.</summary>
internal static class AccessTokens
{
    /// <summary>What asks for the token of a call; null: calls carry none.</summary>
    public static Func<CancellationToken, ValueTask<string?>>? ProviderOf(AISandboxClientOptions options) =>
        options.AccessTokenProvider ?? (string.IsNullOrEmpty(options.AccessTokenFile) ? null : cancellationToken => ReadAsync(options.AccessTokenFile!, cancellationToken));

    public static CallCredentials CredentialsOf(Func<CancellationToken, ValueTask<string?>> provider) =>
        CallCredentials.FromInterceptor(async (context, metadata) =>
        {
            if (await provider(context.CancellationToken).ConfigureAwait(false) is { Length: > 0 } token)
            {
                metadata.Add("authorization", $"Bearer {token}");
            }
        });

    /// <summary>Whether only programs of this machine are at the address, so that a token may be sent without TLS.</summary>
    public static bool IsLocal(ServiceAddress address)
    {
        var host = address.Host.Trim('[', ']');
        return host == "localhost" || (IPAddress.TryParse(host, out var ip) && IPAddress.IsLoopback(ip));
    }

    /// <summary>Reads the file before each call: it may be renewed, and be there again in a moment. Throws <see cref="RpcException"/>.</summary>
    public static async ValueTask<string?> ReadAsync(string file, CancellationToken cancellationToken)
    {
        string token;
        try
        {
            token = (await File.ReadAllTextAsync(file, cancellationToken).ConfigureAwait(false)).Trim();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new RpcException(new Status(StatusCode.Unavailable, $"AccessTokenFile: {file} cannot be read: {error.Message}"));
        }

        return token.Length > 0 && token.All(letter => letter is > ' ' and <= '~')
            ? token
            : throw new RpcException(new Status(StatusCode.Unavailable, $"AccessTokenFile: {file} must have one token of printable ASCII characters without blanks"));
    }
}
