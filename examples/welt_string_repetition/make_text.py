"""Write sentences.txt, the text of small.yaml: sentences of one form, the same ones at every call.

python examples/welt_string_repetition/make_text.py

Each sentence has six words of at most ten bytes with the sign behind them, so that a row of the task is 17 words of at
most 12 bytes: a corpus for two cores, where the published one is any English in rows of 128 words.
"""

import random
from pathlib import Path

NUM_SENTENCES = 4000
SEED = 8

QUALITIES = """
    angry brave bright busy calm careful clever cold curious dark dear eager early famous fast fierce friendly
    funny gentle glad great green happy heavy honest hungry kind lazy little lonely loud lucky merry modern narrow
    noble old patient plain polite proud quick quiet rare rich sad sharp shy silent simple sleepy slow small
    strange strong sudden tall tired tiny wise young
"""
PEOPLE = """
    artist aunt baker barber boy builder captain chemist child clerk cook cousin dancer dentist doctor driver
    farmer father fisher girl grocer guard guest hunter joiner judge king knight lawyer mason mayor miner monk
    mother nurse owner painter pilot pirate player poet porter potter priest prince queen rider runner sailor
    scholar shepherd singer sister smith soldier tailor teacher thief trader uncle waiter weaver widow writer
"""
ACTS = """
    bought brought built buried carried chose cleaned counted dropped drew envied feared filled forgot found gave
    got guarded held hid hired hung kept knew left lent liked lost loved made mended missed moved needed opened
    ordered owned packed painted picked praised pulled pushed raised saved saw sent showed sold sorted spared
    stole tasted took traded turned used wanted washed watched won
"""
NUMBERS = """
    two three four five six seven eight nine ten eleven twelve thirty forty fifty sixty ninety
"""
THINGS = """
    apples arrows axes bags barrels baskets beads beans bells belts birds boats books bottles bowls boxes bricks
    buckets cakes candles cards chairs clocks coats coins cups doors drums eggs fans fences figs flags flowers
    forks gates geese gloves goats hammers hats horses jars kettles keys knives ladders lamps lemons letters maps
    mirrors nails needles nuts onions pans pearls pens pipes plates plums pots ribbons rings ropes roses saddles
    seeds sheep shells shoes spoons stamps stones stools swords tables tents tiles towers trees tubs vases violins
    wheels windows
"""


def sentences(count: int, seed: int) -> list[str]:
    """Return so many different sentences in an order that the seed gives."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        words = [draw.choice(words.split()) for words in (QUALITIES, PEOPLE, ACTS, NUMBERS, THINGS)]
        found[f"The {' '.join(words)}."] = None
    return list(found)


def main() -> None:
    """Write the file beside this one."""
    path = Path(__file__).parent / "sentences.txt"
    path.write_text("\n".join(sentences(NUM_SENTENCES, SEED)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
