"""How fast is AISandbox.Client beside the bare generated client? Actions of the inference-server, in a C# process.

Unary calls and a stream, with 1 and 64 observations at a time; all take turns of a quarter of a second within one run.
The ratio is the median of those of neighbouring turns. The generated client is written for this one purpose
(clients/dotnet/bench/AISandbox.Client.Benchmarks): no deadline, no retry, no cancellation, and of its stream one loop
both writes and reads. Needs the .NET SDK.

    python bench/dotnet_act.py [--seconds 60] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from act import RUN, publish, start
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "clients/dotnet/bench/AISandbox.Client.Benchmarks"
PROGRAM = ROOT / "build/dotnet/clients/bin/AISandbox.Client.Benchmarks/release/AISandbox.Client.Benchmarks.dll"
BARE = "generated"


def measure(seconds: float) -> list[dict[str, Any]]:
    """The figures of each kind, number of callers and client."""
    flags = ["-c", "Release", "--nologo", "-v:quiet", "-nodeReuse:false", "-p:UseSharedCompilation=false"]
    subprocess.run(["dotnet", "build", str(PROJECT), *flags], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as folder:
        publish(Path(folder), Path(folder) / "model.zip")
        server, address = start(["-m", "aisandbox_inference"], {"MODELS_DIR": folder, "GRPC_PORT": "0"})
        try:
            command = ["dotnet", str(PROGRAM), f"http://{address}", RUN, str(seconds)]
            run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        finally:
            server.kill()
    rows: list[dict[str, Any]] = json.loads(run.stdout)
    bare = {(row["kind"], row["callers"]): row["actions_per_second_by_turn"] for row in rows if row["client"] == BARE}
    for row in rows:
        rates = row.pop("actions_per_second_by_turn")
        row["actions_per_second"] = statistics.median(rates)
        of_bare = [one / other for one, other in zip(rates, bare[row["kind"], row["callers"]], strict=True)]
        row["of_generated"] = statistics.median(of_bare)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Prints a table, each row of the package beside the generated client's."""
    table = Table(title="Act from C#")
    columns = "callers", "kind", "client", "p50 µs", "p99 µs", "actions/s", "of generated", "bytes an action"
    for column in columns:
        table.add_column(column, justify="left" if column in ("kind", "client") else "right")
    for row in rows:
        figures = [f"{row[name]:,.0f}" for name in ("p50_us", "p99_us", "actions_per_second", "bytes_per_action")]
        figures.insert(3, f"{row['of_generated']:.2f}")
        table.add_row(str(row["callers"]), row["kind"], row["client"], *figures)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to measure, about (default 60)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    if shutil.which("dotnet") is None:
        print("dotnet_act.py: skipped, there is no dotnet (the .NET 10 SDK) on the PATH")
        return
    rows = measure(arguments.seconds)
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
