using AISandbox.V1;

namespace AISandbox;

/// <summary>The model that a policy acts with.</summary>
public sealed class PolicyModel
{
    internal PolicyModel(DescribeModelResponse description, string fileDigest, bool verified)
    {
        Description = description;
        FileDigest = fileDigest;
        IsVerified = verified;
    }

    /// <summary>The inputs and outputs of the model, as the contract describes them; not to be changed.</summary>
    public DescribeModelResponse Description { get; }

    /// <summary>The digest by which the service knows the model; empty for a file.</summary>
    public string Digest => Description.Model;

    /// <summary>The digest of the ONNX file: "sha256:" and 64 hexadecimal digits.</summary>
    public string FileDigest { get; }

    /// <summary>The environment steps that the model was trained with.</summary>
    public long Timesteps => Description.ModelTimesteps;

    /// <summary>
    /// Whether golden examples came with the model; it gave the tested actions for them. False for a file of an early version.
    /// </summary>
    public bool IsVerified { get; }
}
