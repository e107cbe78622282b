"""Learn which letter follows which, with plain Python: settings are constants at the top, as in nanoGPT.

    python train.py

It prints `step 20: train loss 2.9, val loss 3.0` at every evaluation.
"""

import math
import random
from itertools import pairwise
from pathlib import Path

# what one would try
learning_rate = 1.0  # at the start
batch_size = 8 * 4  # pairs of letters in a step
max_iters = 400
decay_lr = False  # lower the learning rate to zero
beta1 = 0.0  # share of the last step that is taken again
# what belongs to the measurement
eval_interval = 20
seed = 0

text = (Path(__file__).parent / "text.txt").read_text(encoding="utf-8")
letters = sorted(set(text))
numbers = [letters.index(letter) for letter in text]
cut = len(numbers) * 9 // 10
train, val = list(pairwise(numbers[:cut])), list(pairwise(numbers[cut:]))
generator = random.Random(seed)
logits = [[generator.gauss(0, 0.1) for _ in letters] for _ in letters]
velocity = [[0.0 for _ in letters] for _ in letters]


def softmax(row: list[float]) -> list[float]:
    """Return the chances that logits stand for."""
    largest = max(row)
    powers = [math.exp(value - largest) for value in row]
    total = sum(powers)
    return [power / total for power in powers]


def mean_loss(pairs: list[tuple[int, int]]) -> float:
    """Return the mean loss of pairs of letters."""
    return -sum(math.log(softmax(logits[before])[after]) for before, after in pairs) / len(pairs)


for step in range(1, max_iters + 1):
    rate = learning_rate * (1 - step / max_iters) if decay_lr else learning_rate
    for before, after in generator.choices(train, k=batch_size):
        row, speed = logits[before], velocity[before]
        for letter, chance in enumerate(softmax(row)):
            speed[letter] = beta1 * speed[letter] - (chance - (letter == after)) * rate / batch_size
            row[letter] += speed[letter]
    if step % eval_interval == 0:
        print(f"step {step}: train loss {mean_loss(train[:200]):.4f}, val loss {mean_loss(val):.4f}")
