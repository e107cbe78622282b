"""Learn which letter follows which, with plain Python: settings from a YAML file and from the command line.

    python train.py --config config.yaml --lr 0.5

It prints a JSON line at every evaluation.
"""

import argparse
import json
import math
import random
from itertools import pairwise
from pathlib import Path

TEXT = (Path(__file__).parent / "text.txt").read_text(encoding="utf-8")


def read_yaml(path: Path) -> dict[str, dict[str, float]]:
    """Read the two levels of settings that the example needs, without a package."""
    sections: dict[str, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].rstrip()
        if text.endswith(":"):
            section = sections.setdefault(text[:-1].strip(), {})
        elif text:
            name, _, value = text.partition(":")
            section[name.strip()] = float(value)
    return sections


def main() -> None:
    """Train until the steps are used up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="config.yaml", help="settings of the model and the schedule")
    parser.add_argument("--lr", type=float, default=1.0, help="learning rate at the start")
    parser.add_argument("--batch-size", type=int, default=32, help="pairs of letters in a step")
    parser.add_argument("--decay", action="store_true", help="lower the learning rate to zero")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    settings = read_yaml(Path(options.config))
    steps, every = int(settings["schedule"]["max_steps"]), int(settings["schedule"]["eval_steps"])
    momentum, scale = settings["optimizer"]["momentum"], settings["model"]["init_scale"]

    letters = sorted(set(TEXT))
    numbers = [letters.index(letter) for letter in TEXT]
    cut = len(numbers) * 9 // 10
    train, held_out = list(pairwise(numbers[:cut])), list(pairwise(numbers[cut:]))
    generator = random.Random(options.seed)
    logits = [[generator.gauss(0, scale) for _ in letters] for _ in letters]
    velocity = [[0.0 for _ in letters] for _ in letters]

    for step in range(1, steps + 1):
        rate = options.lr * (1 - step / steps) if options.decay else options.lr
        for _ in range(options.batch_size):
            before, after = generator.choice(train)
            row, speed = logits[before], velocity[before]
            chances = softmax(row)
            for letter, chance in enumerate(chances):
                speed[letter] = momentum * speed[letter] - (chance - (letter == after)) * rate / options.batch_size
                row[letter] += speed[letter]
        if step % every == 0 or step == steps:
            loss = -sum(math.log(softmax(logits[before])[after]) for before, after in held_out) / len(held_out)
            print(json.dumps({"step": step, "eval_loss": loss, "learning_rate": rate}))


def softmax(row: list[float]) -> list[float]:
    """Return the chances that logits stand for."""
    largest = max(row)
    powers = [math.exp(value - largest) for value in row]
    total = sum(powers)
    return [power / total for power in powers]


if __name__ == "__main__":
    main()
