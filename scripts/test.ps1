<#
.SYNOPSIS
    Runs the unit, contract and integration tests with coverage (the twin of `make test`).
.DESCRIPTION
    Arguments are passed on to pytest.
.EXAMPLE
    scripts\test.ps1 tests/unit
#>
$ErrorActionPreference = 'Stop'
& (Join-Path $PSScriptRoot 'setup.ps1')
if ($LASTEXITCODE) { exit $LASTEXITCODE }
& .venv\Scripts\coverage.exe erase
& .venv\Scripts\pytest.exe -n auto --dist worksteal -m 'not slow' --cov '--cov-report=' @args
$failed = $LASTEXITCODE
& .venv\Scripts\coverage.exe report --skip-covered --skip-empty
exit $failed
