"""The C# packages install from a local feed into a fresh project, which is then published trimmed.

Needs the .NET SDK, as test_documents.py.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from dotnet_flags import quiet_flags
from local_feed import local_feed

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "clients" / "dotnet"
PACKAGES = sorted(path.name for path in (CLIENTS / "src").glob("AISandbox.*"))
PROJECT = """<Project Sdk="Microsoft.NET.Sdk.Web">
  <PropertyGroup>
    <TargetFramework>net10.0</TargetFramework>
    <Nullable>enable</Nullable>
    <ImplicitUsings>enable</ImplicitUsings>
    <TreatWarningsAsErrors>true</TreatWarningsAsErrors>
    <NuGetAudit>false</NuGetAudit>
    <PublishTrimmed>true</PublishTrimmed>
  </PropertyGroup>
  <ItemGroup>
    {references}
  </ItemGroup>
</Project>
"""
PROGRAM = """using AISandbox;
using AISandbox.Client;
using AISandbox.Simulation;

var builder = WebApplication.CreateSlimBuilder(args);
builder.Services.AddAISandbox(options =>
{
    options.Address = "http://127.0.0.1:1";
    options.Timeout = TimeSpan.FromMilliseconds(200);
});
using var app = builder.Build();
var client = app.Services.GetRequiredService<AISandboxClient>();
try
{
    await client.StartAsync(new Training
    {
        Experiment = "fresh", TotalTimesteps = 1, Hyperparameters = new PpoHyperparameters { LearningRate = 3e-4 },
    });
}
catch (AISandboxException error)
{
    Console.Error.WriteLine($"transient: {error.IsTransient}");
}
EnvironmentChecks.Verify(() => new Walk());
Console.Error.WriteLine("verified");
try
{
    using var policy = Policy.Load("absent.onnx");
}
catch (PolicyException error)
{
    Console.Error.WriteLine($"policy: {error.Reason}");
}

sealed class Walk : IEnvironment
{
    private int place;

    public EnvironmentSpec Spec { get; } =
        EnvironmentSpec.Create("Walk").Observation(Space.Box(1)).Action(Space.Discrete(2)).MaxEpisodeSteps(9).Build();

    public void Reset(ResetContext context) => context.Observation.Write((float)(place = 0));

    public StepResult Step(StepContext context)
    {
        place += context.Action.Discrete == 1 ? 1 : -1;
        context.Observation.Write((float)place);
        return StepResult.Continue(place);
    }
}
"""
SAID = ["transient: True", "verified", "policy: FileNotFound"]
"""What the program writes: Client, Simulation and Policy have been used, so that trimming looks at their code.

Simulation.AspNetCore is installed and not used: gRPC's server reflection, which it serves, is not made for trimming.
"""

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        shutil.which("dotnet") is None and not os.environ.get("REQUIRE_DOTNET"), reason="no .NET SDK is installed"
    ),
]


def _dotnet(folder: Path, packages: Path, *arguments: str) -> None:
    # An older package of the same version would be taken from the folder of installed packages, were it the usual one.
    environ = os.environ | {"NUGET_PACKAGES": str(packages)}
    command = ["dotnet", *arguments, *quiet_flags()]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_packages_install_in_a_fresh_project_that_is_published_trimmed(tmp_path: Path) -> None:
    project, installed, out = tmp_path / "fresh", tmp_path / "packages", tmp_path / "out"
    feed = local_feed(tmp_path)
    prefix = "AISandbox.Client."
    (version,) = (path.name.removeprefix(prefix).removesuffix(".nupkg") for path in feed.glob(f"{prefix}*.nupkg"))
    for name in PACKAGES:
        assert (feed / f"{name}.{version}.nupkg").exists()
        assert (feed / f"{name}.{version}.snupkg").exists()
    project.mkdir()
    references = "".join(f'<PackageReference Include="{name}" Version="{version}" />' for name in PACKAGES)
    (project / "Fresh.csproj").write_text(PROJECT.format(references=references))
    (project / "Program.cs").write_text(PROGRAM)
    (project / "nuget.config").write_text(
        f'<configuration><packageSources><add key="feed" value="{feed}" /></packageSources></configuration>'
    )
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        _dotnet(project, installed, "publish", "-c", "Release", "-r", "linux-x64", "--self-contained", "-o", str(out))
        program = [str(out / "Fresh")]
    else:
        _dotnet(project, installed, "build", "-c", "Release", "-o", str(out))
        program = ["dotnet", str(out / "Fresh.dll")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr.split("\n")[:-1]) == (0, SAID), done.stdout + done.stderr
