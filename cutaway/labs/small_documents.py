"""Small documents with a topic and an order: what tells them apart is their words, what tells their sentences apart is the hour.

at dawn sailor meets anchor and boat. at sunrise harbour meets sailor and anchor. at morning …
"""

import random

HOURS = ("dawn", "sunrise", "morning", "noon", "afternoon", "sunset", "dusk", "midnight")
TOPICS = (
    "sailor boat anchor harbour",
    "farmer field plough barn",
    "cook oven onion soup",
    "smith hammer iron forge",
    "painter brush canvas colour",
    "doctor nurse clinic fever",
    "teacher pupil school chalk",
    "singer choir stage song",
)
SENTENCES = 5
"""In a document."""


def documents(count: int, seed: str) -> list[str]:
    """Texts of one topic each, drawn; the first hour is drawn too, and goes on by one from sentence to sentence."""
    drawn = random.Random(seed)
    made = []
    for _ in range(count):
        topic, start = drawn.choice(TOPICS).split(), drawn.randrange(len(HOURS) - SENTENCES + 1)
        said = []
        for hour in HOURS[start : start + SENTENCES]:
            first, second, third = drawn.sample(topic, 3)
            said.append(f"at {hour} {first} meets {second} and {third}.")
        made.append(" ".join(said))
    return made
