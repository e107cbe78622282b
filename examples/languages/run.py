"""Train small language models on Spanish, Russian and English text, each with bytes, byte pairs and characters.

    sudo apt install fortunes-es fortunes-ru bible-kjv     # the text, about 7 MB
    python examples/languages/run.py                       # nine runs of a minute each, and what they write
    python examples/languages/run.py --seconds 20 --languages es --tokenizers bpe

The loss of two tokenizers cannot be compared, their bits per byte of text can: the table shows both. Texts, runs and
samples go to the folder `work` beside this file.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FORTUNES = Path("/usr/share/games/fortunes")
SEPARATOR = "\n%\n"
"""What stands between two documents, as in the fortunes themselves."""
PROMPTS = {"es": "El amor ", "ru": "Жизнь ", "en": "And the LORD said "}
VOCAB_SIZES = {"bpe": 2048}


def spanish() -> str:
    """Return the Spanish fortunes; those in the folder `off`, which means to offend, are left out."""
    return joined(path.read_text(encoding="utf-8") for path in sorted((FORTUNES / "es").glob("*.fortunes")))


def russian() -> str:
    """Return the Russian fortunes; `.dat` and `.u8` name indexes and second names of the same files."""
    files = (path for path in sorted((FORTUNES / "ru").iterdir()) if path.suffix not in (".dat", ".u8"))
    return joined(path.read_text(encoding="utf-8") for path in files if path.is_file())


def english() -> str:
    """Return the King James Bible, a chapter a document, without the numbers of the verses."""
    told = subprocess.run(["bible", "-f", "-l0", "gen1:1-rev22:21"], capture_output=True, text=True, check=True)
    chapters: dict[str, list[str]] = {}
    for line in told.stdout.splitlines():
        place, _, verse = line.partition(" ")
        chapters.setdefault(place.partition(":")[0], []).append(verse)
    return joined("\n".join(verses) for verses in chapters.values())


LANGUAGES = {"es": spanish, "ru": russian, "en": english}


def joined(texts: Iterable[str]) -> str:
    """Put texts one after the other, with one separator between two documents."""
    whole = SEPARATOR.join(text.strip() for text in texts)
    return re.sub(r"\n%(\n\s*%)*\n", SEPARATOR, whole)


def train(language: str, tokenizer: str, seconds: int, work: Path) -> dict[str, Any]:
    """Train on a language with a tokenizer for some seconds; return its result."""
    task = {"name": "language_model", "text": str(work / f"{language}.txt"), "document_separator": SEPARATOR}
    chosen = {"name": tokenizer, **({"vocab_size": VOCAB_SIZES[tokenizer]} if tokenizer in VOCAB_SIZES else {})}
    settings = [
        f"name={language}-{tokenizer}",
        f"task={json.dumps({**task, 'block_size': 128})}",
        f"tokenizer={json.dumps(chosen)}",
        f"budget.run={seconds}s",
    ]
    command = [sys.executable, "-m", "hotlap", "train", str(HERE / "hotlap.yaml"), "-p", str(work), "--json"]
    for setting in settings:
        command += ["-s", setting]
    ended = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(ended.stderr or ended.stdout)
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


def sample(run_id: str, prompt: str, work: Path) -> str:
    """Return what a run's model writes after a prompt."""
    command = [sys.executable, "-m", "hotlap", "generate", run_id, "--prompt", prompt, "-p", str(work)]
    options = ["--max-new-tokens", "120", "--temperature", "0.8", "--seed", "1"]
    ended = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    return ended.stdout.strip()


def main() -> None:
    """Prepare the texts, train and sample, one run at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="training clock of each run")
    parser.add_argument("--languages", nargs="+", default=list(LANGUAGES), choices=list(LANGUAGES))
    parser.add_argument("--tokenizers", nargs="+", default=["byte", "bpe", "character"])
    parser.add_argument("--only-texts", action="store_true", help="write the texts and train nothing")
    arguments = parser.parse_args()
    work = HERE / "work"
    work.mkdir(exist_ok=True)
    rows = ["| language | tokenizer | eval_loss | bits per byte | what it writes |", "| --- | --- | --- | --- | --- |"]
    for language in arguments.languages:
        (work / f"{language}.txt").write_text(LANGUAGES[language](), encoding="utf-8")
        for tokenizer in [] if arguments.only_texts else arguments.tokenizers:
            result = train(language, tokenizer, arguments.seconds, work)
            metrics = result["metrics"]
            text = " ".join(sample(str(result["run"]), PROMPTS[language], work).split()).replace("|", "/")
            figures = f"{metrics['eval_loss']:.3f} | {metrics['bits_per_byte']:.3f}"
            rows.append(f"| {language} | {tokenizer} | {figures} | {text} |")
            print(rows[-1], flush=True)
    if arguments.only_texts:
        return
    (work / "table.md").write_text("\n".join([*rows, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
