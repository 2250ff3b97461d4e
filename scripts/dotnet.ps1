<#
.SYNOPSIS
    Builds, checks, tests and packs the C# packages, and tests the C# of the documents (the twin of `make dotnet`).
.DESCRIPTION
    Arguments are passed on to pytest. Without the .NET 10 SDK nothing is done, unless REQUIRE_DOTNET is set.
#>
$ErrorActionPreference = 'Stop'
if (-not (Get-Command dotnet -ErrorAction SilentlyContinue)) {
    Write-Host 'dotnet.ps1: there is no dotnet (the .NET 10 SDK) on the PATH'
    exit [int][bool]$env:REQUIRE_DOTNET
}
& (Join-Path $PSScriptRoot 'setup.ps1')
if ($LASTEXITCODE) { exit $LASTEXITCODE }
$root = (Resolve-Path (Join-Path $PSScriptRoot '..')).Path
$programs = if (Test-Path "$root/.venv/Scripts") { "$root/.venv/Scripts" } else { "$root/.venv/bin" }
$build = Join-Path $root 'build/dotnet'
$env:AISANDBOX_PYTHON = (Get-Command "$programs/python").Source

function Step([scriptblock] $command) {
    & $command
    if ($LASTEXITCODE) { exit $LASTEXITCODE }
}

Remove-Item -Recurse -Force -ErrorAction SilentlyContinue "$build/tests", "$build/packages"
$quiet = '--nologo', '-v:quiet'
Push-Location (Join-Path $root 'clients/dotnet')
try {
    Step { dotnet build AISandbox.slnx -c Release @quiet '-nodeReuse:false' '-p:UseSharedCompilation=false' '-p:RestoreLockedMode=true' }
    Step { dotnet format whitespace . --folder --verify-no-changes }
    Step { & "$programs/python" "$root/tests/support/dotnet_policies.py" "$build/policies" }
    Step {
        dotnet test --solution AISandbox.slnx -c Release --no-build --results-directory "$build/tests" --coverlet `
            --coverlet-output-format cobertura --coverlet-include '[AISandbox.*]*' --coverlet-exclude '[*]AISandbox.V1.*'
    }
    Step { & "$programs/python" "$root/scripts/dotnet_coverage.py" "$build/tests" }
    Step { dotnet pack AISandbox.slnx -c Release @quiet --no-build -o "$build/packages" }
}
finally { Pop-Location }
$env:AISANDBOX_PACKAGES = "$build/packages"
& "$programs/pytest" "$root/tests/dotnet" @args
exit $LASTEXITCODE
