"""How many lines per second `hotlap exec` follows, in how much memory, and what it costs the script that prints them.

    python benchmarks/exec_overhead.py                      # 10 s of lines as fast as they come; 60 s of 1,000 lines/s
    python benchmarks/exec_overhead.py --seconds 5 --paced-seconds 20

The fast part prints a line of text after the other and every hundredth with metrics; a million lines at least. Resident
memory of the process that follows them, the worker, is taken every tenth of a second: its median in the second fifth
of the time, when everything is loaded, against that of the last fifth. Its CPU time for a line does not depend on what
else the machine does. The paced part computes and prints a line each millisecond, half a second long to hotlap, half a
second to a file, and so on: what the windows that hotlap follows take longer is what the measuring costs. Needs a
quiet machine with two cores.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from measuring import hardware, write_results

from hotlap.core.processes import processor_name, usable_cores

FAST = """
import sys, time
seconds = float(sys.argv[1])
text = "".join("Processing batch with a shard of text that nobody needs to see again\\n" for _ in range(99))
end, lines, step = time.monotonic() + seconds, 0, 0
start = time.monotonic()
while time.monotonic() < end or lines < 1_000_000:
    step += 1
    sys.stdout.write(text + f"step {step}: train loss 3.1415, val loss 3.2718\\n")
    sys.stdout.flush()
    lines += 100
sys.stderr.write(f"{lines} {time.monotonic() - start}\\n")
open(sys.argv[2], "w").write(f"{lines} {time.monotonic() - start}")
"""
PACED = """
import sys, time
windows, rounds = int(sys.argv[1]), int(sys.argv[2])
value = 1
times = []
with open(sys.argv[3] + ".log", "w") as file:
    for window in range(windows):
        out = (sys.stdout, file)[window % 2]
        start = time.perf_counter()
        for step in range(500):
            for _ in range(rounds):
                value = (value * 1103515245 + 12345) % 2147483648
            if step % 10:
                print(f"worked on part {step} of the shard, {value}", file=out, flush=True)
            else:
                print(f"step {step}: train loss {3 - window / windows:.4f}", file=out, flush=True)
        times.append(time.perf_counter() - start)
open(sys.argv[3], "w").write(" ".join(map(str, times)))
"""
CALIBRATE = """
import time
def rounds(count):
    start, value = time.perf_counter(), 1
    for _ in range(count):
        value = (value * 1103515245 + 12345) % 2147483648
    return time.perf_counter() - start
print(int(1e-3 * 200_000 / min(rounds(200_000) for _ in range(9))))
"""


def hotlap_exec(directory: Path, *words: str) -> "subprocess.Popen[bytes]":
    """Start a command under `hotlap exec` in a project of its own."""
    argv = [sys.executable, "-m", "hotlap", "exec", "-p", str(directory), "--", sys.executable, *words]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=directory)


def follow_memory(process: "subprocess.Popen[bytes]", found: list[tuple[float, int, float]]) -> None:
    """Note resident memory and CPU seconds of the worker, the process that reads the lines, as long as it lives."""
    start, worker = time.monotonic(), None
    while process.poll() is None:
        try:
            if worker is None:
                children = psutil.Process(process.pid).children()
                worker = next((child for child in children if "hotlap.worker" in child.cmdline()), None)
            else:
                cpu = worker.cpu_times()
                found.append((time.monotonic() - start, worker.memory_info().rss, cpu.user + cpu.system))
        except psutil.Error:
            worker = None
        time.sleep(0.1)


def fast(seconds: float) -> dict[str, float]:
    """Print as fast as somebody reads; return lines per second, and the worker's memory once warm and at the end."""
    with tempfile.TemporaryDirectory() as name:
        directory, told = Path(name), Path(name) / "told"
        (directory / "fast.py").write_text(FAST)
        process, memory = hotlap_exec(directory, "fast.py", str(seconds), str(told)), list[tuple[float, int, float]]()
        watcher = threading.Thread(target=follow_memory, args=(process, memory))
        watcher.start()
        process.wait()
        watcher.join()
        lines, taken = map(float, told.read_text().split())
    end = memory[-1][0]
    warm, last = (
        statistics.median(size for at, size, _ in memory if low * end <= at <= high * end) / 2**20
        for low, high in ((0.2, 0.4), (0.8, 1.0))
    )
    return {
        "lines": lines,
        "lines_per_second": lines / taken,
        "worker_cpu_microseconds_a_line": 1e6 * memory[-1][2] / lines,
        "worker_mib_warm": warm,
        "worker_mib_at_end": last,
        "growth_mib": last - warm,
    }


def paced(seconds: float) -> list[float]:
    """Return the seconds of windows of 500 lines, half a second each, of a script under `hotlap exec`.

    The windows take turns: in the even ones it prints to hotlap, in the odd ones to a file that nobody follows.
    """
    rounds = subprocess.check_output([sys.executable, "-c", CALIBRATE], text=True).strip()
    with tempfile.TemporaryDirectory() as name:
        directory, told = Path(name), Path(name) / "told"
        (directory / "paced.py").write_text(PACED)
        hotlap_exec(directory, "paced.py", str(2 * round(seconds)), rounds, str(told)).wait()
        return [float(word) for word in told.read_text().split()]


def report(found: dict[str, float], times: list[float]) -> list[str]:
    """Return the result in sentences."""
    lines = [
        f"{found['lines']:,.0f} lines as fast as they are read: {found['lines_per_second']:,.0f} lines/s, "
        f"{found['worker_cpu_microseconds_a_line']:.1f} µs of the worker's CPU time a line; its memory: "
        f"{found['worker_mib_warm']:.1f} MiB once warm, {found['worker_mib_at_end']:.1f} MiB at the end."
    ]
    if times:
        # Each window against the mean of its two neighbours, so that a machine that changes its pace costs nobody.
        costs = sorted(
            100 * (times[place] / statistics.mean((times[place - 1], times[place + 1])) - 1)
            for place in range(2, len(times) - 1, 2)
        )
        low, _, high = statistics.quantiles(costs, n=4)
        lines += [
            "",
            f"1,000 lines/s for {sum(times):.0f} s: windows of 500 lines that hotlap follows take "
            f"{statistics.median(costs):+.1f} % longer than their neighbours that go to a file (median of "
            f"{len(costs)}; half of them lie between {low:+.1f} % and {high:+.1f} %).",
        ]
    return lines


def main() -> None:
    """Measure both; print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the fast part")
    parser.add_argument("--paced-seconds", type=float, default=60.0, help="of the paced part; 0 leaves it out")
    options = parser.parse_args()
    os.environ.setdefault("TERM", "dumb")
    found = fast(options.seconds)
    times = paced(options.paced_seconds) if options.paced_seconds else []
    facts = hardware({"processor": processor_name(), "device": "cpu", "threads": usable_cores()})
    write_results("exec_overhead", facts, {"fast": found, "paced_seconds": times}, report(found, times))


if __name__ == "__main__":
    main()
