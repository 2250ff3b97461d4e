<#
.SYNOPSIS
    Builds the documentation site into build\site (the twin of `make docs`).
#>
$ErrorActionPreference = 'Stop'
& (Join-Path $PSScriptRoot 'setup.ps1')
if ($LASTEXITCODE) { exit $LASTEXITCODE }
$uv = (Get-Command uv -ErrorAction SilentlyContinue).Source
if (-not $uv) { $uv = '.uv\Scripts\uv.exe' }
$env:NO_MKDOCS_2_WARNING = '1'
& $uv run --locked --group docs mkdocs build
exit $LASTEXITCODE
