<#
.SYNOPSIS
    Trains a policy against a simulator in another process, then drives the simulator with it (the twin of `make demo`).
.DESCRIPTION
    Arguments are passed on to `aisandbox demo`.
.EXAMPLE
    scripts\demo.ps1 --help
#>
$ErrorActionPreference = 'Stop'
& (Join-Path $PSScriptRoot 'setup.ps1')
if ($LASTEXITCODE) { exit $LASTEXITCODE }
& .venv\Scripts\aisandbox.exe demo @args
exit $LASTEXITCODE
