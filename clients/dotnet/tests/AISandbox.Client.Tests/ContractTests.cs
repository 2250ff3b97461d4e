using AISandbox.V1;
using Xunit;

namespace AISandbox.Client.Tests;

public class ContractTests
{
    [Fact]
    public void Contract_is_generated_from_the_proto_files()
    {
        Assert.Equal("aisandbox.v1.PolicyTrainerService", PolicyTrainerService.Descriptor.FullName);
        Assert.Equal("aisandbox.v1.EnvironmentService", EnvironmentService.Descriptor.FullName);
    }
}
