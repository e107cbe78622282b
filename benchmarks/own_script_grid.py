"""`hotlap bench` on somebody else's script: the Trainer of examples/own_script/trainer, timed by what it prints.

    python benchmarks/own_script_grid.py          # batch size and width, two repeats, about six minutes on two cores
    python benchmarks/own_script_grid.py --repeats 1

The script is started as it stands, through `hotlap exec`, in a copy of its folder; it knows nothing of hotlap. Step
times come from its log lines. Beside the table stands what the Trainer says itself at its end: steps per second of a
plain run of the same command, start-up left out.
"""

import argparse
import ast
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from measuring import hardware, table, write_config, write_results

SCRIPT: Final = Path(__file__).parents[1] / "examples" / "own_script" / "trainer" / "train.py"
PARAMS: Final[Mapping[str, Any]] = {
    "per_device_train_batch_size": 16,
    "n_embd": 64,
    "max_steps": 400,
    "logging_steps": 20,
    "learning_rate": 1e-3,
}
AXES: Final = ("--batch", "8,16,32,64", "--axis", "params.n_embd=64,128")
FIXED: Final = "--output_dir out --report_to none --use_cpu true --save_strategy no"


def command_line() -> str:
    """Return the command with a place for each knob."""
    knobs = " ".join(f"--{name} {{{name}}}" for name in PARAMS)
    return f"{sys.executable} train.py {FIXED} {knobs}"


def plain_steps_per_second(folder: Path, settings: Mapping[str, Any]) -> float:
    """Run the script without hotlap; return the steps per second that its Trainer prints at its end."""
    chosen = {**PARAMS, **settings}
    words = [*FIXED.split(), *(part for name, value in chosen.items() for part in (f"--{name}", str(value)))]
    ended = subprocess.run([sys.executable, "train.py", *words], cwd=folder, capture_output=True, text=True, check=True)
    lines = [line for line in ended.stdout.splitlines() if "train_steps_per_second" in line]
    return float(ast.literal_eval(lines[-1])["train_steps_per_second"])


def main() -> None:
    """Bench the script and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()

    from hotlap.core.processes import processor_name, usable_cores

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(SCRIPT, folder)
        config = {"name": "own-script", "command": {"run": command_line()}, "params": dict(PARAMS)}
        path = write_config(folder / "hotlap.yaml", config)
        argv = [sys.executable, "-m", "hotlap", "bench", str(path), "-p", name, "--json", "--new", *AXES]
        ended = subprocess.run(
            [*argv, "--repeats", str(options.repeats)], stdout=subprocess.PIPE, text=True, check=False
        )
        if ended.returncode:
            raise SystemExit(f"{' '.join(argv)} ended with exit code {ended.returncode}:\n{ended.stdout}")
        answers = json.loads(ended.stdout)
        plain: dict[str, float] = {}
        rows = [_row(folder, cell, plain) for cell in answers["cells"] if cell["outcome"] == "measured"]
    failed = [cell for cell in answers["cells"] if cell["outcome"] != "measured"]
    header = ["batch", "width", "ms/step", "stated", "samples/s", "plain run, ms/step"]
    text = [*table(header, rows), "", answers["headline"], *(f"not measured: {cell['message']}" for cell in failed)]
    facts = hardware({"processor": processor_name(), "device": "cpu", "threads": usable_cores()})
    write_results("own_script_grid", facts, {"bench": answers, "plain_steps_per_second": plain}, text)


def _row(folder: Path, cell: Mapping[str, Any], plain: dict[str, float]) -> list[str]:
    settings = {key.removeprefix("params."): value for key, value in cell["settings"].items()}
    alone = plain[json.dumps(settings)] = plain_steps_per_second(folder, settings)
    samples = cell["samples_per_second"]
    return [
        str(settings["per_device_train_batch_size"]),
        str(settings["n_embd"]),
        f"{1e3 * cell['seconds_per_step']:.2f}",
        f"± {100 * cell['uncertainty']:.1f} %",
        "" if samples is None else f"{samples:,.0f}",
        f"{1e3 / alone:.2f}",
    ]


if __name__ == "__main__":
    main()
