<#
.SYNOPSIS
    Installs everything the lock file names into .venv (the twin of `make setup`).
.DESCRIPTION
    Without uv on PATH, one is installed into the folder .uv with the Python that is.
    Where scripts are blocked: powershell -ExecutionPolicy Bypass -File scripts\setup.ps1
#>
$ErrorActionPreference = 'Stop'
Set-Location (Join-Path $PSScriptRoot '..')

$uv = (Get-Command uv -ErrorAction SilentlyContinue).Source
if (-not $uv) {
    $uv = '.uv\Scripts\uv.exe'
    if (-not (Test-Path $uv)) {
        $python = if (Get-Command py -ErrorAction SilentlyContinue) { 'py' } else { 'python' }
        & $python -m venv .uv
        if ($LASTEXITCODE) { exit $LASTEXITCODE }
        & .uv\Scripts\python.exe -m pip install --quiet --disable-pip-version-check --require-hashes -r scripts\build_tools.txt
        if ($LASTEXITCODE) { exit $LASTEXITCODE }
    }
}
& $uv sync --locked --compile-bytecode
exit $LASTEXITCODE
