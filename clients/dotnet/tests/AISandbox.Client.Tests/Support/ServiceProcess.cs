using System;
using System.Diagnostics;
using System.IO;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Threading.Tasks;
using Xunit;

namespace AISandbox.Client.Tests.Support;

/// <summary>
/// <c>aisandbox up</c> as a process, with the Python of the environment variable AISANDBOX_PYTHON, which <c>make dotnet</c>
/// sets; without it the tests of the real service are skipped.
/// </summary>
public sealed class ServiceProcess : IAsyncLifetime
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("aisandbox-");
    private Process? _process;

    public static string? Python => Environment.GetEnvironmentVariable("AISANDBOX_PYTHON");

    public static bool IsAbsent => Python is null;

    public int Port { get; private set; }

    public string Address => $"http://127.0.0.1:{Port}";

    public async ValueTask InitializeAsync()
    {
        if (!IsAbsent)
        {
            await StartAsync();
        }
    }

    /// <summary>Starts it, on the port that it had before.</summary>
    public async Task StartAsync()
    {
        // It stops when its stdin ends: also if this process is killed.
        var start = new ProcessStartInfo(Python!) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var argument in (string[])["-m", "aisandbox_cli", "up", "--json", "--stop-with-parent", "--port", $"{Port}", "--models-dir", Path.Combine(_folder.FullName, "models")])
        {
            start.ArgumentList.Add(argument);
        }

        _process = Process.Start(start)!;
        // What nobody reads would stop it when the pipe is full.
        _process.BeginErrorReadLine();
        var line = await _process.StandardOutput.ReadLineAsync().WaitAsync(Waiting.Limit) ?? throw new InvalidOperationException("the service has ended");
        var address = JsonDocument.Parse(line).RootElement.GetProperty("address").GetString()!;
        Port = int.Parse(address.AsSpan(address.LastIndexOf(':') + 1), System.Globalization.CultureInfo.InvariantCulture);
    }

    /// <summary>Ends it as a container is ended.</summary>
    public async Task StopAsync()
    {
        _ = kill(_process!.Id, 15);
        await _process.WaitForExitAsync().WaitAsync(Waiting.Limit);
    }

    public async ValueTask DisposeAsync()
    {
        if (_process is not null)
        {
            if (!_process.HasExited)
            {
                await StopAsync();
            }

            _process.Dispose();
        }

        _folder.Delete(recursive: true);
    }

    [DllImport("libc", SetLastError = true)]
    private static extern int kill(int process, int signal);
}
