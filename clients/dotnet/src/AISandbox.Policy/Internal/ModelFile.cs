using System;
using System.Globalization;
using System.IO;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using AISandbox.V1;
using Google.Protobuf;

namespace AISandbox.Internal;

/// <summary>The bytes of an ONNX file with what lies beside it, or came with it.</summary>
internal sealed class ModelFile
{
    public const string PolicyName = "policy.onnx";
    private const string DescriptionName = "metadata.json";
    private const string GoldenName = "golden.json";
    private const string ManifestName = "manifest.json";

    private static readonly JsonParser Parser = new(JsonParser.Settings.Default.WithIgnoreUnknownFields(true));

    public ModelFile(byte[] onnx, string source)
    {
        Onnx = onnx;
        Source = source;
        Digest = DigestOf(onnx);
    }

    public byte[] Onnx { get; }

    /// <summary>What the file is called in messages.</summary>
    public string Source { get; }

    /// <summary>"sha256:" and hexadecimal digits.</summary>
    public string Digest { get; }

    /// <summary>Null: the file has it as a property.</summary>
    public DescribeModelResponse? Description { get; init; }

    /// <summary>The contents of golden.json; null: the file has it as a property, or there is none.</summary>
    public string? Golden { get; init; }

    /// <summary>Reads a file, or the folder of a published model.</summary>
    public static ModelFile Read(string path)
    {
        var isFolder = Directory.Exists(path);
        var file = isFolder ? Path.Combine(path, PolicyName) : path;
        var folder = Path.GetDirectoryName(Path.GetFullPath(file)) ?? string.Empty;
        try
        {
            var onnx = File.ReadAllBytes(file);
            if (isFolder)
            {
                CheckManifest(Path.Combine(folder, ManifestName), file, onnx);
            }

            var besides = isFolder || Path.GetFileName(file) == PolicyName;
            var description = besides ? ReadText(Path.Combine(folder, DescriptionName)) : null;
            return new ModelFile(onnx, file)
            {
                Description = description is null ? null : ParseDescription(description, DescriptionName),
                Golden = besides ? ReadText(Path.Combine(folder, GoldenName)) : null,
            };
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new PolicyException(PolicyErrorReason.FileNotFound, $"The policy {file} cannot be read: {error.Message}", error);
        }
    }

    public static DescribeModelResponse ParseDescription(string json, string source)
    {
        try
        {
            return Parser.Parse<DescribeModelResponse>(json);
        }
        catch (Exception error) when (error is InvalidProtocolBufferException or InvalidJsonException or FormatException)
        {
            throw new PolicyException(PolicyErrorReason.Damaged, $"{source} is not a description of a policy: {error.Message}", error);
        }
    }

    public void CheckDigest(string expected)
    {
        if (!string.Equals(expected, Digest, StringComparison.OrdinalIgnoreCase))
        {
            throw new PolicyException(
                PolicyErrorReason.Damaged,
                $"{Source} has the digest {Digest} instead of {expected}: it is damaged, or another file. Get it again.");
        }
    }

    private static string? ReadText(string path) => File.Exists(path) ? File.ReadAllText(path, Encoding.UTF8) : null;

    private static void CheckManifest(string path, string file, byte[] onnx)
    {
        if (ReadText(path) is not { } text)
        {
            return;
        }

        string? expected;
        try
        {
            using var document = JsonDocument.Parse(text);
            expected = document.RootElement.GetProperty("files").GetProperty(PolicyName).GetProperty("sha256").GetString();
        }
        catch (Exception error) when (error is JsonException or System.Collections.Generic.KeyNotFoundException or InvalidOperationException)
        {
            throw new PolicyException(PolicyErrorReason.Damaged, $"{path} is not a manifest: {error.Message}", error);
        }

        new ModelFile(onnx, file).CheckDigest("sha256:" + expected);
    }

    private static string DigestOf(byte[] data)
    {
#if NET
        var hash = SHA256.HashData(data);
#else
        using var sha = SHA256.Create();
        var hash = sha.ComputeHash(data);
#endif
        var text = new StringBuilder("sha256:");
        foreach (var value in hash)
        {
            text.Append(value.ToString("x2", CultureInfo.InvariantCulture));
        }

        return text.ToString();
    }
}
