using System;
using System.Diagnostics.CodeAnalysis;

namespace AISandbox.Client;

/// <summary>An address in one of the notations that <see cref="AISandboxClientOptions.Address"/> takes.</summary>
internal sealed record ServiceAddress(Uri Uri)
{
    public bool IsDns => Uri.Scheme == "dns";

    public bool HasTls => Uri.Scheme == Uri.UriSchemeHttps;

    public string Host => (IsDns ? new Uri($"http://{Uri.AbsolutePath.TrimStart('/')}") : Uri).DnsSafeHost;

    public static bool TryParse(string text, [NotNullWhen(true)] out ServiceAddress? address)
    {
        address = null;
        var isDns = text.StartsWith("dns:///", StringComparison.Ordinal);
        var hasScheme = text.Contains("://", StringComparison.Ordinal);
        // What stands behind dns:/// is a path to Uri, so its host and port are checked as those of another scheme.
        var endpoint = isDns ? text.Replace("dns:///", "http://", StringComparison.Ordinal) : hasScheme ? text : $"http://{text}";
        if (!Uri.TryCreate(endpoint, UriKind.Absolute, out var uri) || uri.Host.Length == 0 || uri.AbsolutePath != "/"
            || uri.Query.Length > 0 || uri.UserInfo.Length > 0 || (uri.Scheme != Uri.UriSchemeHttp && uri.Scheme != Uri.UriSchemeHttps))
        {
            return false;
        }

        address = new ServiceAddress(isDns ? new Uri(text) : uri);
        return true;
    }

    public static ServiceAddress Parse(string text) =>
        TryParse(text, out var address) ? address : throw new ArgumentException($"\"{text}\" is not an address", nameof(text));
}
