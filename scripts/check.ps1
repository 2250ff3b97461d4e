<#
.SYNOPSIS
    Runs everything CI asks for (the twin of `make check`, but for the fault suite, which needs POSIX).
.DESCRIPTION
    Continues after a failure, and fails at the end if a step failed.
#>
$ErrorActionPreference = 'Stop'
& (Join-Path $PSScriptRoot 'setup.ps1')
if ($LASTEXITCODE) { exit $LASTEXITCODE }
$env:PATH = "$(Resolve-Path .venv\Scripts)$([IO.Path]::PathSeparator)$env:PATH"
$sources = @(Get-Item */src | Where-Object { $_.Parent.Name -ne 'proto' } | ForEach-Object FullName) + 'proto/src/aisandbox_wire'
$failed = @()

function Step([string] $name, [scriptblock] $command) {
    Write-Host "== $name"
    & $command
    if ($LASTEXITCODE) { $script:failed += $name }
}

Step 'format' { ruff format --check . }
Step 'lint' { ruff check . }
Step 'spelling' { typos }
Step 'types' { mypy @sources proto/generate.py scripts tests bench }
Step 'imports' { lint-imports }
Push-Location proto
Step 'proto format' { buf format --diff --exit-code }
Step 'proto lint' { buf lint }
Step 'proto breaking' { buf breaking --against released.binpb }
Pop-Location
Step 'proto generated' { python proto/generate.py --check }
Step 'crds generated' { python -m aisandbox_crds.generate --check }
Step 'tests' { & (Join-Path $PSScriptRoot 'test.ps1') }
Step 'slow tests' { pytest -n auto --dist worksteal -m slow }
Step '.NET' { & (Join-Path $PSScriptRoot 'dotnet.ps1') }

if ($failed) {
    Write-Host "failed: $($failed -join ', ')"
    exit 1
}
