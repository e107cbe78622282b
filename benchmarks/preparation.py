"""Preparing a corpus: tokens per second against `datasets.map`, and a corpus of 2 GB in little memory, killed half-way.

    python benchmarks/preparation.py                    # both, about 20 minutes on 2 cores
    python benchmarks/preparation.py --gigabytes 0      # the speed alone
    python benchmarks/preparation.py --repeats 0        # the large corpus alone

The speed: one text, byte pairs trained on it, as many processes as cores; each side in a fresh process and a fresh
cache, in turn, from the text in a file to tokens on the disk. `datasets.map` is asked twice: with the tokenizer as
transformers wraps it, which is the usual way, and with the package `tokenizers` itself. The large corpus: memory is the
sum over all processes of what is resident, looked at twenty times a second, so what they share counts for each of them.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measuring import Spread, hardware, in_fresh_process, in_turn, table, write_results

SIDES = ("hotlap", "datasets.map, tokenizers", "datasets.map, transformers")
VOCAB_SIZE = 8192
PARAGRAPH_WORDS = 180
POLL_SECONDS = 0.05


def write_text(path: Path, num_bytes: int) -> None:
    """Write documents of about a kilobyte, one a line, of words as frequent as words are; no two are alike."""
    draw = random.Random(11)
    letters = "etaoinshrdlucmfwypvbgkqjxz"
    words = [
        "".join(draw.choices(letters, k=min(12, 2 + number // 400 + draw.randint(0, 4)))) for number in range(8000)
    ]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    lines = [" ".join(draw.choices(words, weights, k=PARAGRAPH_WORDS)) for _ in range(20_000)]
    written = number = 0
    with path.open("w", encoding="utf-8") as file:
        while written < num_bytes:
            line = f"{number} {lines[number % len(lines)]}\n"
            written += file.write(line)
            number += 1


def prepare_here(text: Path, tokenizer: Path, cache: Path) -> dict[str, Any]:
    """Prepare with hotlap; return seconds and tokens."""
    from hotlap.config.schema import LanguageModelConfig
    from hotlap.data.corpus import prepare_corpus
    from hotlap.data.tokenizers import END_OF_TEXT, SubwordTokenizer
    from hotlap.tasks.language_model import load_language_model

    start = time.perf_counter()
    task = load_language_model(LanguageModelConfig(text=str(text), document_separator="\n"), cache, cache)
    made = prepare_corpus(task, SubwordTokenizer(tokenizer.read_text(encoding="utf-8"), END_OF_TEXT), cache)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "tokens": len(made.train.tokens), "documents": made.documents["documents"]}


def map_datasets(text: Path, tokenizer: Path, cache: Path, side: str) -> dict[str, Any]:
    """Prepare with datasets.map; return seconds and tokens, an end of text for each document as hotlap has it."""
    os.environ["HF_DATASETS_CACHE"] = str(cache)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import datasets
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    datasets.disable_progress_bars()
    inner = Tokenizer.from_file(str(tokenizer))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|endoftext|>")

    def encode(rows: dict[str, list[str]]) -> dict[str, Any]:
        if side.endswith("transformers"):
            return {"input_ids": wrapped(rows["text"], return_attention_mask=False)["input_ids"]}
        return {"input_ids": [one.ids for one in inner.encode_batch_fast(rows["text"], add_special_tokens=False)]}

    start = time.perf_counter()
    data = datasets.load_dataset("text", data_files=str(text), split="train", cache_dir=str(cache))
    done = data.map(encode, batched=True, num_proc=len(os.sched_getaffinity(0)), remove_columns=["text"])
    seconds = time.perf_counter() - start
    tokens = sum(len(chunk.flatten()) for chunk in done.data.column("input_ids").chunks)
    return {"seconds": seconds, "tokens": tokens + len(done), "documents": len(done)}


def compare(folder: Path, megabytes: int, repeats: int) -> tuple[dict[str, Any], list[str]]:
    """Measure every side in turn; return the readings and a table."""
    from hotlap.data.tokenizers import train_bpe

    text, tokenizer = folder / "text.txt", folder / "tokenizer.json"
    write_text(text, megabytes * 1_000_000)
    lines = text.read_text(encoding="utf-8").splitlines()
    tokenizer.write_text(train_bpe(lambda: lines[:4000], VOCAB_SIZE, 10**9), encoding="utf-8")
    readings: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for repeat, side in in_turn(SIDES, repeats):
        cache = folder / f"cache-{repeat}"
        found = in_fresh_process(__file__, "--side", side, str(text), str(tokenizer), str(cache))
        shutil.rmtree(cache)
        readings[side].append(found)
        print(f"{repeat} {side}: {found['tokens'] / found['seconds']:,.0f} tokens/s", flush=True)
    speeds = {side: Spread(tuple(one["tokens"] / one["seconds"] for one in found)) for side, found in readings.items()}
    own = speeds[SIDES[0]].median
    rows = [[side, speed.text(), f"{own / speed.median:.2f}"] for side, speed in speeds.items()]
    header = ["side", "tokens/s: median (lowest to highest)", "hotlap is … times as fast"]
    note = f"{megabytes} MB of text, {readings[SIDES[0]][0]['tokens']:,} tokens, {repeats} repeats in turn"
    return {"readings": readings}, [*table(header, rows), "", note]


def large(folder: Path, gigabytes: float, tokenizer: str) -> tuple[dict[str, Any], list[str]]:
    """Prepare a large corpus, killed half-way; return what was measured and a table."""
    text, cache = folder / "large.txt", folder / "large"
    write_text(text, int(gigabytes * 1e9))
    task = {"name": "language_model", "text": str(text), "document_separator": "\n"}
    config = json.dumps({"task": task, "tokenizer": {"name": tokenizer, **_bpe_options(tokenizer)}})
    expected = -(-text.stat().st_size // (8 << 20))
    first = _run(folder, cache, config, kill_at=expected // 2)
    before = {path.name: path.stat().st_mtime_ns for path in cache.rglob("0*.npz")}
    second = _run(folder, cache, config, kill_at=None)
    shards = {path.name: path.stat().st_mtime_ns for path in cache.rglob("0*.npz")}
    twice = sum(shards[name] != written for name, written in before.items())
    values = {
        "gigabytes": gigabytes,
        "shards": len(shards),
        "made_before_the_kill": len(before),
        "made_again": twice,
        "seconds": [first["seconds"], second["seconds"]],
        "peak_bytes": [first["peak"], second["peak"]],
        "sentence": second["printed"].replace(str(text), text.name),
    }
    rows = [
        ["shards, of 8 MiB of text each", f"{len(shards)}"],
        ["finished before the kill", f"{len(before)}"],
        ["of these made again by the second call", f"{twice}"],
        ["peak memory, first call", f"{first['peak'] / 1e6:,.0f} MB"],
        ["peak memory, second call", f"{second['peak'] / 1e6:,.0f} MB"],
        ["seconds, first call until it was killed", f"{first['seconds']:.0f}"],
        ["seconds, second call", f"{second['seconds']:.0f}"],
    ]
    header = [f"{gigabytes:g} GB in one file, tokenizer {tokenizer}", "measured"]
    return values, [*table(header, rows), "", second["printed"].replace(str(text), text.name)]


def _bpe_options(tokenizer: str) -> dict[str, Any]:
    return {"vocab_size": VOCAB_SIZE, "max_training_bytes": 20_000_000} if tokenizer == "bpe" else {}


def _run(folder: Path, cache: Path, config: str, kill_at: int | None) -> dict[str, Any]:
    """Prepare in a process group of its own, killed once so many shards are there; return seconds and peak memory."""
    command = [sys.executable, "-m", "hotlap.worker.prepare", str(folder), str(cache)]
    start, peak = time.perf_counter(), 0
    with (
        tempfile.TemporaryFile("w+") as printed,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=printed, start_new_session=True, text=True) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(config)
        process.stdin.close()
        while process.poll() is None:
            peak = max(peak, _resident(process.pid))
            if kill_at is not None and sum(1 for _ in cache.rglob("0*.npz")) >= kill_at:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            time.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - start
        printed.seek(0)
        if kill_at is None and process.returncode:
            raise SystemExit(f"preparing failed with exit code {process.returncode}")
        return {"seconds": seconds, "peak": peak, "printed": printed.read().strip()}


def _resident(pid: int) -> int:
    """Return the bytes that a process and all below it have in memory."""
    import psutil

    total = 0
    try:
        top = psutil.Process(pid)
        for process in [top, *top.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
    except psutil.Error:
        pass
    return total


def main() -> None:
    """Measure both, or one side in this process, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--tokenizer", default="bpe", help="of the large corpus")
    parser.add_argument("--folder", type=Path, default=None, help="where there is room for the large corpus")
    parser.add_argument("--side", nargs=4, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side, *paths = options.side
        text, tokenizer, cache = map(Path, paths)
        cache.mkdir(parents=True)
        own = side == SIDES[0]
        found = prepare_here(text, tokenizer, cache) if own else map_datasets(text, tokenizer, cache, side)
        print(json.dumps(found))
        return

    from hotlap.core.processes import processor_name, usable_cores

    facts = hardware({"processor": processor_name(), "device": "cpu", "threads": usable_cores()})
    values: dict[str, Any] = {}
    body: list[str] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        if options.repeats:
            facts["datasets"], facts["tokenizers"] = version("datasets"), version("tokenizers")
            values["speed"], lines = compare(Path(name), options.megabytes, options.repeats)
            versions = f"datasets {facts['datasets']}, tokenizers {facts['tokenizers']}"
            body += [*lines, "", versions, ""]
        if options.gigabytes:
            values["large"], lines = large(Path(name), options.gigabytes, options.tokenizer)
            body += lines
    body += ["", f"load average of the machine {os.getloadavg()[1]:.1f}"]
    write_results("preparation", facts, values, body)


if __name__ == "__main__":
    main()
