using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using AISandbox.Internal;
using Xunit;

namespace AISandbox.PolicyTests;

/// <summary>What cannot be loaded is refused with a sentence that says what to do.</summary>
public sealed class LoadTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("policy").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Missing_file_is_named()
    {
        var error = Assert.Throws<PolicyException>(() => Policy.Load(Path.Combine(_folder, "none.onnx")));
        Assert.Equal(PolicyErrorReason.FileNotFound, error.Reason);
        Assert.Contains("none.onnx", error.Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => Policy.Load(string.Empty));
    }

    [Fact]
    public void File_that_is_no_onnx_file_is_refused()
    {
        var path = Path.Combine(_folder, "policy.onnx");
        File.WriteAllText(path, "a web page");
        var error = Assert.Throws<PolicyException>(() => Policy.Load(path));
        Assert.Equal(PolicyErrorReason.Damaged, error.Reason);
        Assert.Contains("not an ONNX file, or is damaged; get it again", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Truncated_file_is_refused()
    {
        var onnx = File.ReadAllBytes(Published.Get("PPO-vector-box").OnnxFile);
        for (var length = 0; length < onnx.Length; length += onnx.Length / 7)
        {
            Assert.Throws<PolicyException>(() => Policy.Load(onnx[..length]));
        }
    }

    [Fact]
    public void File_with_other_weights_is_refused_by_its_golden_examples()
    {
        // The first weight matrix is random numbers: any 200 bytes in the middle of the file belong to a matrix.
        var published = Published.Get("PPO-vector-box");
        var onnx = File.ReadAllBytes(published.OnnxFile);
        var end = onnx.AsSpan().IndexOf(System.Text.Encoding.UTF8.GetBytes("aisandbox.")) - 2000;
        for (var i = 0; i < 1200; i += 4)
        {
            onnx[end - i] ^= 0x41;
        }

        var error = Assert.Throws<PolicyException>(() => Policy.Load(onnx));
        Assert.Equal(PolicyErrorReason.Damaged, error.Reason);
        Assert.Contains("For golden example", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void File_with_another_digest_is_refused()
    {
        var published = Published.Get("PPO-vector-box");
        string digest;
        using (var policy = Policy.Load(published.OnnxFile))
        {
            digest = policy.Model.FileDigest;
        }

        using (Policy.Load(published.OnnxFile, new PolicyOptions { FileDigest = digest }))
        {
        }

        var other = Published.Get("PPO-vector-discrete").OnnxFile;
        var error = Assert.Throws<PolicyException>(() => Policy.Load(other, new PolicyOptions { FileDigest = digest }));
        Assert.Contains("instead of " + digest, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Folder_whose_file_is_not_that_of_its_manifest_is_refused()
    {
        Copy(Published.Get("PPO-vector-box"));
        File.WriteAllText(Path.Combine(_folder, "manifest.json"), """{"files": {"policy.onnx": {"size": 1, "sha256": "00"}}}""");
        var error = Assert.Throws<PolicyException>(() => Policy.Load(_folder));
        Assert.Equal(PolicyErrorReason.Damaged, error.Reason);
    }

    [Theory]
    [InlineData("metadata.json")]
    [InlineData("golden.json")]
    public void Folder_with_a_file_of_another_model_is_refused(string file)
    {
        Copy(Published.Get("PPO-vector-box"));
        File.Copy(Path.Combine(Published.Get("PPO-dict-box").Folder, file), Path.Combine(_folder, file), overwrite: true);
        var error = Assert.Throws<PolicyException>(() => Policy.Load(_folder));
        Assert.Contains("model", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("metadata.json", "{")]
    [InlineData("metadata.json", "[]")]
    [InlineData("golden.json", "{}")]
    [InlineData("golden.json", "")]
    [InlineData("golden.json", """{"noise": {"dtype": "float32", "shape": [1], "data": "!"}}""")]
    public void Folder_with_a_damaged_file_is_refused(string file, string text)
    {
        Copy(Published.Get("PPO-vector-box"));
        File.WriteAllText(Path.Combine(_folder, file), text);
        Assert.Equal(PolicyErrorReason.Damaged, Assert.Throws<PolicyException>(() => Policy.Load(_folder)).Reason);
    }

    [Fact]
    public void Machine_without_a_native_runtime_is_told_what_to_add()
    {
        var published = Published.Get("PPO-vector-box");
        var program = Path.Combine(_folder, "program");
        CopyTree(Published.Metadata("Program"), program, path => !Path.GetFileName(path).Contains("onnxruntime", StringComparison.Ordinal));

        var output = Run(program, published.OnnxFile);

        Assert.StartsWith("NoRuntime: There is no native ONNX Runtime for this machine (", output, StringComparison.Ordinal);
        Assert.Contains("Add the package Microsoft.ML.OnnxRuntime", output, StringComparison.Ordinal);
        Assert.Contains("Alpine (musl) has none", output, StringComparison.Ordinal);
    }

    [Fact]
    public void Program_that_acts_shows_nothing_of_the_runtime()
    {
        var published = Published.Get("PPO-vector-box");
        Assert.Equal("acted", Run(Published.Metadata("Program"), published.OnnxFile).Trim());
    }

    [Fact]
    public void Runtime_of_another_version_is_told_apart_from_a_missing_one()
    {
        var error = new TypeInitializationException("NativeMethods", new EntryPointNotFoundException("OrtGetApiBase"));
        Assert.True(OnnxEnvironment.IsMissingRuntime(error));
        Assert.Contains("does not fit", OnnxEnvironment.MissingRuntime(error).Message, StringComparison.Ordinal);
        Assert.False(OnnxEnvironment.IsMissingRuntime(new TypeInitializationException("Other", new InvalidOperationException())));
    }

    [Theory]
    [InlineData("Microsoft.ML.OnnxRuntime", null, true)]
    [InlineData("Microsoft.ML.OnnxRuntime.Gpu.Linux", null, true)]
    [InlineData("Microsoft.ML.OnnxRuntime", "Microsoft.ML.OnnxRuntime.Gpu.Linux", false)]
    public void Build_with_the_native_runtimes_of_two_packages_is_refused(string first, string? second, bool succeeds)
    {
        var items = new[] { first, second }.Where(name => name is not null)
            .Select(name => $"""<NativeCopyLocalItems Include="{name}/libonnxruntime.so" NuGetPackageId="{name}" />""");
        var project = Path.Combine(_folder, "build.proj");
        File.WriteAllText(
            project,
            $"""<Project><Import Project="{Published.Metadata("Targets")}" /><ItemGroup>{string.Concat(items)}</ItemGroup></Project>""");

        var (code, output) = Execute("dotnet", ["msbuild", project, "-t:AISandboxCheckOnnxRuntime", "-nologo"]);

        Assert.Equal(succeeds, code == 0);
        Assert.Equal(!succeeds, output.Contains("AISANDBOX001: The packages Microsoft.ML.OnnxRuntime and " + second, StringComparison.Ordinal));
    }

    private void Copy(Published published)
    {
        foreach (var name in new[] { "policy.onnx", "metadata.json", "golden.json" })
        {
            File.Copy(Path.Combine(published.Folder, name), Path.Combine(_folder, name), overwrite: true);
        }
    }

    private static void CopyTree(string source, string target, Func<string, bool> chosen)
    {
        foreach (var path in Directory.EnumerateFiles(source, "*", SearchOption.AllDirectories).Where(chosen))
        {
            var copy = Path.Combine(target, Path.GetRelativePath(source, path));
            Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
            File.Copy(path, copy);
        }
    }

    private static string Run(string folder, string policy)
    {
        var (code, output) = Execute("dotnet", [Path.Combine(folder, "AISandbox.Policy.Program.dll"), policy]);
        Assert.True(code == 0, output);
        return output;
    }

    /// <summary>The exit code, and what came to either console.</summary>
    private static (int Code, string Output) Execute(string file, IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(file, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        using var process = Process.Start(start)!;
        var errors = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd() + errors.GetAwaiter().GetResult();
        process.WaitForExit();
        return (process.ExitCode, output);
    }
}
