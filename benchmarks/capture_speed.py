"""Measure how many log lines a second are read, and that memory does not grow with them.

    python benchmarks/capture_speed.py        # 5 rounds of 200,000 lines for each kind

Lines come as bytes in pieces of 64 KiB, as from a terminal, and go through LineReader and Capture with all forms on.
Kinds: chatter without a metric (what most of a log is), the same with colours, progress bars, and lines with metrics.
The limit is 150,000 lines a second for lines without metrics; the exit code is 1 below it.
"""

import argparse
import statistics
import sys
import time
import tracemalloc
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Final

from hotlap.capture.capture import Capture
from hotlap.capture.lines import LineReader

LIMIT_LINES: Final = 150_000
PIECE: Final = 1 << 16
CHATTER: Final = (
    "loading shard 12 of 64 from /data/fineweb/train_000012.bin",
    "2026-03-04 10:00:00,123 - INFO - data.loader - prefetching the next batch, 4 workers are waiting",
    "/usr/lib/python3.12/site-packages/torch/utils/checkpoint.py:91: UserWarning: none of the inputs needs a gradient",
    "  warnings.warn(",
    "[W304 10:00:01.250 ProcessGroupNCCL.cpp:1250] a process group has not been destroyed before the end",
    "Downloading tokenizer files, done in a moment, nothing to see here",
    '    "attention_dropout": "none",',
    "saved a checkpoint to out/model and went on with the training",
)
COLOURED: Final = tuple(f"\x1b[32mINFO\x1b[0m {line}" for line in CHATTER)
BARS: Final = tuple(f"\r {n:2d}%|{'█' * (n // 10):<10}| {n * 20}/2000 [00:12<03:45,  8.40it/s]" for n in range(100))
METRICS: Final = tuple(
    f"step:{n}/9000 val_loss:{9 - n / 2000:.4f} train_time:{n * 96}ms step_avg:96.{n % 100:02d}ms" for n in range(9000)
)
KINDS: Final = {
    "chatter": CHATTER,
    "chatter in colours": COLOURED,
    "progress bars": BARS,
    "lines with metrics": METRICS,
}
LIMITED: Final = ("chatter", "chatter in colours")


def pieces(lines: tuple[str, ...], count: int) -> Iterator[bytes]:
    """Yield so many lines as the bytes of a terminal, in pieces that cut lines in two."""
    rest = b""
    wanted = islice(cycle(lines), count)
    while part := list(islice(wanted, 2000)):
        rest += "".join(line if line.startswith("\r") else f"{line}\r\n" for line in part).encode()
        while len(rest) >= PIECE:
            yield rest[:PIECE]
            rest = rest[PIECE:]
    yield rest


def seconds(data: list[bytes]) -> float:
    """Return the wall time of reading pieces of output."""
    reader, capture = LineReader(), Capture({"read": ["nothing.csv"]})
    began = time.perf_counter()
    for number, piece in enumerate(data):
        for line in reader.feed(piece):
            capture.feed(line, float(number))
        capture.poll(float(number), reader.tail)
    capture.end(float(len(data)))
    return time.perf_counter() - began


def growth(lines: tuple[str, ...], count: int) -> int:
    """Return how many bytes more are held after the second half of some lines than after the first one."""
    reader, capture = LineReader(), Capture({"read": ["nothing.csv"]})
    tracemalloc.start()
    marks = []
    for _ in range(2):
        for piece in pieces(lines, count // 2):
            for line in reader.feed(piece):
                capture.feed(line, 0.0)
        marks.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    return marks[1] - marks[0]


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=200_000)
    arguments = parser.parse_args()
    is_fast = True
    for name, lines in KINDS.items():
        data = list(pieces(lines, arguments.lines))
        found = [arguments.lines / seconds(data) for _ in range(arguments.rounds)]
        middle = statistics.median(found)
        more = growth(lines, arguments.lines // 4)
        spread = f"{min(found):,.0f} to {max(found):,.0f}"
        print(f"{name:<19} {middle:>10,.0f} lines/s ({spread}), {more / 1024:+,.1f} KiB held")
        is_fast = is_fast and (middle >= LIMIT_LINES or name not in LIMITED)
    return int(not is_fast)


if __name__ == "__main__":
    sys.exit(main())
