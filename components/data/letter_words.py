"""The sentences of the letters task: project-written, plain, each with at most one article."""

ARTICLES: dict[str, tuple[str, ...]] = {
    "clothing": (
        *("jacket", "scarf", "raincoat", "sweater"),
        *("waistcoat", "hat", "dress", "shirt"),
    ),
    "furniture": (
        *("rocking chair", "bookshelf", "desk", "sofa"),
        *("wardrobe", "dining table", "bed frame", "stool"),
    ),
    "garden": (
        *("lawn mower", "watering can", "rake", "wheelbarrow"),
        *("garden hose", "spade", "hedge trimmer", "flower pot"),
    ),
    "kitchen": (
        *("kettle", "toaster", "frying pan", "blender"),
        *("teapot", "saucepan", "coffee machine", "mixing bowl"),
    ),
}
"""Department (the label) -> what it sells."""

INTRODUCTIONS = (
    "In {month} I ordered a {article} from you.",
    "My {who} had asked for a {article}, and so we bought one.",
    "The {article} came on a {day} in a large box.",
    "With the same order there was a {article}.",
    "We also chose a {article} from your catalogue.",
    "Then there is the {article} that you sent in {month}.",
    "Your shop in town sold me a {article} last {season}.",
    "A {article} was the next thing on our list.",
)
REMARKS = (
    "It stands next to the window now.",
    "It came with a small book of instructions.",
    "My {who} carried it home from the {place}.",
    "It is a little larger than I had thought.",
    "The colour is the one from the catalogue.",
    "It was the last one that you had in {month}.",
)
"""What may follow an introduction: neither praise nor complaint."""

PRAISES = (
    "The {article} works just as it should, and we are glad of it.",
    "We use the {article} every day and could not be happier.",
    "The {article} is well made and looks better than in the picture.",
    "Nothing at all is wrong with the {article}, thank you.",
    "My {who} praised the {article} at once, and so do I.",
    "The {article} was worth every penny.",
    "The {article} arrived early and in perfect condition.",
    "I would buy the same {article} again without a second thought.",
)
MORE_PRAISE = (
    "It works just as it should, and we are glad of it.",
    "We use it every day and could not be happier.",
    "It is well made and looks better than in the picture.",
    "Nothing at all is wrong with it, thank you.",
    "My {who} praised it at once, and so do I.",
    "It was worth every penny.",
    "It arrived early and in perfect condition.",
    "I would buy the same one again without a second thought.",
)
COMPLAINTS = (
    "The {article} broke on the second day, and I want my money back.",
    "The {article} was damaged when we opened the box and has to go back.",
    "The {article} does not work at all, whatever we try.",
    "The {article} fell apart within a week, which is a disgrace.",
    "The {article} is useless to us, and I ask for a refund.",
    "One part of the {article} was missing and another was cracked.",
    "The {article} failed at once and nobody could repair it.",
    "I am very unhappy with the {article} and want it replaced.",
)
MORE_COMPLAINT = (
    "It broke on the second day, and I want my money back.",
    "It was damaged when we opened the box and has to go back.",
    "It does not work at all, whatever we try.",
    "It fell apart within a week, which is a disgrace.",
    "It is useless to us, and I ask for a refund.",
    "One part was missing and another was cracked.",
    "It failed at once and nobody could repair it.",
    "I am very unhappy with it and want it replaced.",
)
SMALL_TALK = (
    "I have been a customer of yours for {number} years.",
    "The weather here has been {mood} all {season}.",
    "My {who} sends you kind regards.",
    "We live a little outside the town, near the {place}.",
    "The driver was polite and carried everything to the door.",
    "Last {day} we had visitors from the {place}.",
    "I found your catalogue at the {place} by chance.",
    "Please excuse my handwriting.",
    "Our street is hard to find for those who come from the {place}.",
    "In {month} we are going to see my {who}.",
    "I paid by card on a {day}, as always.",
    "The children were at the {place} that {day}.",
    "My {who} keeps all your letters in a drawer.",
    "It has been a {mood} {season} for all of us.",
    "I am writing this from the {place}.",
    "You may call me on any {day} after lunch.",
    "We moved here {number} years ago.",
    "A neighbour from the {place} told us about your shop.",
)
SLOTS: dict[str, tuple[str, ...]] = {
    "month": (
        *("January", "March", "April", "May"),
        *("June", "August", "October", "November"),
    ),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
    "season": ("spring", "summer", "autumn", "winter"),
    "who": ("sister", "brother", "mother", "father", "husband", "wife", "aunt", "neighbour"),
    "number": ("two", "three", "five", "seven", "ten", "twelve"),
    "mood": ("mild", "grey", "cold", "warm", "quiet", "wet"),
    "place": ("station", "river", "market", "church", "library", "bridge", "harbour", "park"),
}
"""What stands in the other places of a sentence."""
