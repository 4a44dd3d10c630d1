"""The words of the needle task: project-written sentences whose meaning is plain and whose subject
is nowhere near the labels.
"""

ITEMS: dict[str, tuple[str, ...]] = {
    "instrument": (
        "a violin",
        "a trumpet",
        "a piano",
        "a flute",
        "a guitar",
        "a cello",
        "a harp",
        "a clarinet",
    ),
    "fruit": (
        "an apple",
        "a banana",
        "a pear",
        "a mango",
        "a peach",
        "a lemon",
        "a melon",
        "a cherry",
    ),
    "animal": ("a horse", "a rabbit", "a goat", "a sheep", "a dog", "a cat", "a cow", "a donkey"),
    "vehicle": (
        "a bicycle",
        "a truck",
        "a tractor",
        "a motorcycle",
        "a van",
        "a bus",
        "a scooter",
        "a car",
    ),
    "garment": (
        "a jacket",
        "a scarf",
        "a shirt",
        "a coat",
        "a sweater",
        "a hat",
        "a dress",
        "a skirt",
    ),
    "weapon": (
        "a sword",
        "a rifle",
        "a dagger",
        "a pistol",
        "a spear",
        "a cannon",
        "a crossbow",
        "a musket",
    ),
}
"""Label -> what the needle names. A task of C labels takes the first C."""

OTHER_ITEMS = (
    *(
        "a table",
        "a wardrobe",
        "a mirror",
        "a carpet",
        "a lamp",
        "a bookshelf",
        "a mattress",
        "a cupboard",
    ),
    *("a ladder", "a bucket", "a rope", "a barrel", "a candle", "a brick", "a window", "a door"),
)
"""What distractors name: of no label."""

RECEIVER = "the harbour office"
OTHER_RECEIVERS = (
    "the village school",
    "the post office",
    "the old mill",
    "the town library",
    "the station hotel",
    "the corner bakery",
)

NEEDLES = (
    "The parcel for {receiver} held {item}, and the clerk signed for it.",
    "According to the register, {receiver} received {item} on that day.",
    "It is on record that {item} was delivered to {receiver}.",
    "One line in the ledger says that {receiver} asked for {item}.",
)
"""Forms that needle and distractors share."""

FILLER = (
    "The {time} was {mood}, and nobody was in a hurry.",
    "A {mood} wind came over the {place} before noon.",
    "Two people spoke about the {place} and then went on.",
    "Nothing much changed at the {place} that {time}.",
    "The road to the {place} had been swept the day before.",
    "By the end of the {time} the {place} lay empty again.",
    "Somebody had left a note about the {time}, without a name.",
    "It rained a little, and the {place} grew dark.",
    "The letters of that {time} say little more than this.",
    "From the {place} one could see the hills.",
    "There was a long pause, and then the talk turned to the {place}.",
    "Most of them remembered the {time} as {mood}.",
    "The bell rang twice during the {time}.",
    "Later the {place} was described as {mood} by all who had been there.",
    "An hour passed, and the {time} went by without news.",
    "The walls of the {place} had been painted white.",
)
SLOTS: dict[str, tuple[str, ...]] = {
    "time": ("morning", "evening", "afternoon", "winter", "summer", "autumn", "week", "night"),
    "mood": ("quiet", "calm", "dull", "mild", "grey", "slow", "warm", "cold"),
    "place": ("square", "garden", "bridge", "valley", "market", "river", "tower", "courtyard"),
}
"""What stands in the places of FILLER."""
