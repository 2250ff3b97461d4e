<#
.SYNOPSIS
    Formats the wire contract and generates its Python (the twin of `make proto`).
#>
$ErrorActionPreference = 'Stop'
& (Join-Path $PSScriptRoot 'setup.ps1')
if ($LASTEXITCODE) { exit $LASTEXITCODE }
$env:PATH = "$(Resolve-Path .venv\Scripts)$([IO.Path]::PathSeparator)$env:PATH"
Push-Location proto
buf format -w
$failed = $LASTEXITCODE
Pop-Location
if ($failed) { exit $failed }
python proto/generate.py
exit $LASTEXITCODE
