"""The prompts on which the small checkpoint is measured.

PROMPTS are the 50 of `training.measure`, evenly from its emoji. JUDGED are as many, half of them with two subjects, in the
words of its scenes; a picture of two is harder to keep.
"""

# fmt: off
PROMPTS = [
    "smiling face", "crying face", "cold face", "alien", "devil", "smiling cat", "lion", "zebra", "bear", "chicken",
    "bat", "octopus", "shark", "bee", "flamingo", "rose", "evergreen tree", "mushroom", "lemon", "red apple",
    "kiwi fruit", "eggplant", "croissant", "burger", "fried egg", "cookie", "lollipop", "soda", "taxi", "train",
    "helicopter", "house", "volcano", "star", "water drop", "earth", "american football", "Christmas tree", "guitar",
    "crown", "shirt", "phone", "light bulb", "padlock", "bomb", "magnet", "money bag", "heart", "red cross",
    "thumbs up",
]
# fmt: on

_HALF, _SECOND, _ABOVE = len(PROMPTS) // 2, 17, 3


def _two(number: int) -> str:
    """The prompt of this number with the one so much further on in the list, of three one above it."""
    first, second = PROMPTS[number], PROMPTS[(number + _SECOND) % len(PROMPTS)]
    return f"{first} above {second}, light blue background" if number % _ABOVE == 0 else f"{first} left of {second}"


JUDGED = [*PROMPTS[:_HALF], *map(_two, range(_HALF, len(PROMPTS)))]
