<#
.SYNOPSIS
    Removes what was generated here, but not the environment (the twin of `make clean`).
#>
$ErrorActionPreference = 'Stop'
Set-Location (Join-Path $PSScriptRoot '..')
$names = '.coverage', 'htmlcov', '.mypy_cache', '.ruff_cache', '.pytest_cache', '.hypothesis', '.import_linter_cache', 'dist'
foreach ($name in $names) {
    if (Test-Path $name) { Remove-Item -Recurse -Force $name }
}
Get-ChildItem -Force -Filter '.coverage.*' | Remove-Item -Force
Get-ChildItem -Directory -Exclude '.venv', '.uv', '.git' |
    ForEach-Object { @($_) + @(Get-ChildItem -Path $_ -Recurse -Directory -Force) } |
    Where-Object Name -EQ '__pycache__' |
    ForEach-Object { if (Test-Path $_.FullName) { Remove-Item -Recurse -Force $_.FullName } }
