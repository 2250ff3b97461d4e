# Trains a policy against a simulator in another process, then drives the simulator with it (the twin of `make demo`).
# Arguments are passed on: scripts\demo.ps1 --help
$ErrorActionPreference = 'Stop'
& (Join-Path $PSScriptRoot 'setup.ps1')
if ($LASTEXITCODE) { exit $LASTEXITCODE }
& .venv\Scripts\aisandbox.exe demo @args
exit $LASTEXITCODE
