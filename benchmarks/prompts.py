"""The 50 prompts on which the small checkpoint is measured: those of `training.measure`, evenly from its emoji."""

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
