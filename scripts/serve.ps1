<#
.SYNOPSIS
    Runs the service on this machine (the twin of `make serve`).
.DESCRIPTION
    Arguments are passed on to `aisandbox up`.
.EXAMPLE
    scripts\serve.ps1 --port 50061
#>
$ErrorActionPreference = 'Stop'
& (Join-Path $PSScriptRoot 'setup.ps1')
if ($LASTEXITCODE) { exit $LASTEXITCODE }
& .venv\Scripts\aisandbox.exe up @args
exit $LASTEXITCODE
