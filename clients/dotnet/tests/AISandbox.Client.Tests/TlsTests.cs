using System;
using System.Collections.Concurrent;
using System.Security.Cryptography.X509Certificates;
using System.Threading;
using System.Threading.Tasks;
using AISandbox.Client.Tests.Support;
using Grpc.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.Options;
using Xunit;

namespace AISandbox.Client.Tests;

public sealed class TlsTests : IDisposable
{
    private readonly TestAuthority _authority = new();

    private static CancellationToken Test => TestContext.Current.CancellationToken;

    public void Dispose() => _authority.Dispose();

    [Fact]
    public async Task Service_with_a_certificate_of_an_own_authority_is_called()
    {
        await using var server = await StartAsync();
        using var client = server.Connect(options => options.CaCertificateFile = _authority.File);
        Assert.Equal("run", (await client.GetRun("run").GetStatusAsync(Test)).Run);
    }

    [Fact]
    public async Task Name_of_the_certificate_may_be_another_than_the_address()
    {
        await using var server = await StartAsync(_authority.Issue("service.example"));
        using var client = server.Connect(options => (options.CaCertificateFile, options.ServerName) = (_authority.File, "service.example"));
        Assert.Equal("run", (await client.GetRun("run").GetStatusAsync(Test)).Run);
        using var other = server.Connect(options => options.CaCertificateFile = _authority.File);
        Assert.Contains("its certificate is for another name than 127.0.0.1", await FailureAsync(other), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Addresses_of_a_name_are_called_with_the_name_of_the_certificate()
    {
        await using var server = await StartAsync();
        using var client = ScriptedServer.Connect($"dns:///localhost:{server.Port}", options => options.CaCertificateFile = _authority.File);
        Assert.Equal("run", (await client.GetRun("run").GetStatusAsync(Test)).Run);
    }

    [Fact]
    public async Task What_is_wrong_with_a_certificate_is_one_sentence_and_not_repeated()
    {
        await using var server = await StartAsync();
        using var unknown = server.Connect();
        Assert.Contains("signed by an authority that is not in the list of those that this machine trusts", await FailureAsync(unknown), StringComparison.Ordinal);
        using var strangers = new TestAuthority();
        using var other = server.Connect(options => options.CaCertificateFile = strangers.File);
        Assert.Contains($"signed by an authority that is not in {strangers.File}", await FailureAsync(other), StringComparison.Ordinal);
        using var broken = server.Connect(options => options.CaCertificateFile = _authority.Write("broken.crt", "nothing"));
        Assert.Contains("has no certificate in PEM form", await FailureAsync(broken), StringComparison.Ordinal);
        await using var old = await StartAsync(_authority.Issue(isExpired: true));
        using var late = old.Connect(options => options.CaCertificateFile = _authority.File);
        Assert.Contains("its certificate has expired", await FailureAsync(late), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Plain_text_and_TLS_are_told_apart()
    {
        await using var server = await StartAsync();
        // The first failure is the last: the wait after it is longer than the timeout.
        using var plain = ScriptedServer.Connect($"http://127.0.0.1:{server.Port}", options =>
            (options.InitialBackoff, options.MaxBackoff) = (TimeSpan.FromDays(1), TimeSpan.FromDays(1)));
        Assert.Contains("https://", await FailureAsync(plain), StringComparison.Ordinal);
        await using var without = await ScriptedServer.StartAsync(new ScriptedService());
        using var client = ScriptedServer.Connect($"https://127.0.0.1:{without.Port}", options => options.CaCertificateFile = _authority.File);
        Assert.Contains("does not use TLS", await FailureAsync(client), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Own_certificate_is_shown_to_a_service_that_asks()
    {
        await using var server = await ScriptedServer.StartAsync(new ScriptedService(), https: new HttpsConnectionAdapterOptions
        {
            ServerCertificate = _authority.Issue(),
            ClientCertificateMode = ClientCertificateMode.RequireCertificate,
            ClientCertificateValidation = (certificate, _, _) => certificate.Subject == "CN=test",
        });
        using var own = _authority.Issue("client");
        var (file, key) = (_authority.Write("own.crt", own.ExportCertificatePem()), _authority.Write("own.key", own.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem()));
        using var client = server.Connect(options =>
            (options.CaCertificateFile, options.ClientCertificateFile, options.ClientKeyFile) = (_authority.File, file, key));
        Assert.Equal("run", (await client.GetRun("run").GetStatusAsync(Test)).Run);
    }

    [Fact]
    public async Task Token_goes_with_each_call_and_its_file_is_read_again()
    {
        var tokens = new ConcurrentQueue<string?>();
        var service = new ScriptedService
        {
            OnAct = (request, context) =>
            {
                tokens.Enqueue(context.RequestHeaders.GetValue("authorization"));
                return Task.FromResult(ScriptedService.Echo(request));
            },
        };
        await using var server = await ScriptedServer.StartAsync(service, https: new HttpsConnectionAdapterOptions { ServerCertificate = _authority.Issue() });
        var file = _authority.Write("token", "one\n");
        using var client = server.Connect(options => (options.CaCertificateFile, options.AccessTokenFile) = (_authority.File, file));
        await client.GetRun("run").ActAsync(new float[] { 1 }, cancellationToken: Test);
        _authority.Write("token", "two");
        await client.GetRun("run").ActAsync(new float[] { 1 }, cancellationToken: Test);
        using var asked = server.Connect(options => (options.CaCertificateFile, options.AccessTokenProvider) = (_authority.File, _ => new("three")));
        await asked.GetRun("run").ActAsync(new float[] { 1 }, cancellationToken: Test);
        Assert.Equal(["Bearer one", "Bearer two", "Bearer three"], tokens.ToArray());
    }

    [Fact]
    public async Task Token_is_sent_without_TLS_to_this_machine_only()
    {
        string? token = null;
        var service = new ScriptedService
        {
            OnAct = (request, context) =>
            {
                token = context.RequestHeaders.GetValue("authorization");
                return Task.FromResult(ScriptedService.Echo(request));
            },
        };
        await using var server = await ScriptedServer.StartAsync(service);
        using var client = server.Connect(options => options.AccessTokenProvider = _ => new("secret"));
        await client.GetRun("run").ActAsync(new float[] { 1 }, cancellationToken: Test);
        Assert.Equal("Bearer secret", token);
        foreach (var address in new[] { "http://10.0.0.1:50051", "training:50051", "dns:///training:50051" })
        {
            var error = Assert.Throws<OptionsValidationException>(() => ScriptedServer.Connect(address, options => options.AccessTokenProvider = _ => new("secret")));
            Assert.Contains($"Address: a token is not sent to {address} in plain text", error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Options_that_do_not_fit_are_named()
    {
        using var handler = new System.Net.Http.SocketsHttpHandler();
        var error = Assert.Throws<OptionsValidationException>(() => ScriptedServer.Connect("https://a:1", options =>
        {
            (options.HttpHandler, options.CaCertificateFile) = (handler, _authority.File);
            (options.ClientCertificateFile, options.AccessTokenFile) = ("own.crt", "none");
        }));
        Assert.Contains("CaCertificateFile: has no effect with HttpHandler", error.Message, StringComparison.Ordinal);
        Assert.Contains("ClientKeyFile: must be set", error.Message, StringComparison.Ordinal);
        Assert.Contains("AccessTokenFile: none is not there", error.Message, StringComparison.Ordinal);
    }

    private static async Task<string> FailureAsync(AISandboxClient client)
    {
        var error = await Assert.ThrowsAsync<AISandboxException>(() => client.GetRun("run").GetStatusAsync(Test));
        Assert.Equal(StatusCode.Unavailable, error.StatusCode);
        return error.Message;
    }

    private Task<ScriptedServer> StartAsync(X509Certificate2? certificate = null) =>
        ScriptedServer.StartAsync(new ScriptedService(), https: new HttpsConnectionAdapterOptions { ServerCertificate = certificate ?? _authority.Issue() });
}
