"""Story shapes, and the scenes of a single shape: a counting game, a walk there and back, a picnic.

A shape is a list of beats in order; "?" marks a beat that half of the stories leave out. Shared
beats are in `story_sentences.py`. The title names the words that the story will recall, always in
the same positions, so that a small model learns to find them early in training. In `SCENES`, an
action lists three things of the title in order, and undoing it lists them in reverse.
"""

from __future__ import annotations

STORY_SHAPES = {
    "hiding": "title hero friend put seek look? answer find thanks? end",
    "lost": "title hero friend mood? put busy? ask look? answer find thanks? end",
    "pond": "title hero friend pond put flock another ask? answer find end",
    "birthday": "title hero friend birthday put candles busy? ask? answer find thanks? end",
    "orchard": "title hero friend orchard treats another_treat put ask? answer find thanks? end",
    "walk": "title_landmark hero friend path put flock? return ask? answer find end",
    "costume": "title_garment hero friend dress put show? ask? answer find undress end",
    "tower": "title_color hero friend build blocks? put ask? find topple end",
    "picnic": "title_supply hero friend pack put treats? ask? answer find unpack end",
    "farm": "title_beast hero friend out put eggs? ask? answer find in end",
    "concert": "title_tune hero friend play put ask? answer find stop end",
}
TITLE = "The [story|tale] of {A}, {B} and the {thing} {near} the {spot}"
# kind of a list of three -> noun after each word
THREE = {"landmark": "", "garment": "", "color": " one", "supply": "", "beast": "", "tune": ""}

DEEDS = {  # kind -> (action on all three, its reversal)
    "landmark": ("path", "return"),
    "garment": ("dress", "undress"),
    "color": ("build", "topple"),
    "supply": ("pack", "unpack"),
    "beast": ("out", "in"),
    "tune": ("play", "stop"),
}
LEADS: dict[str, tuple[str, ...]] = {
    "path": (
        "[They|{Then} they] {went} past {lovely} places",
        "On a {lovely} walk, they {gently?}passed three places",
        "{A} and {B} {gently} went to see the {quiet?}village",
        "{Kind} {A} {gently?}showed {B} the {quiet} village",
    ),
    "return": (
        "[They|{Then} they] {gently?}{went} back the same way",
        "At {dusk}, they {went} home {gently}",
        "{Kind} {A} {gently?}led them back the same way",
        "Going home, they {gently} passed them all again",
    ),
    "dress": (
        "To be a {pirate}, {A} {gently?}put on {adj} things",
        "For a {lovely} play, {A} {gently?}dressed up",
        "{Kind} {A} {gently?}dressed up as a {pirate}",
        "{Elder} {gently?}gave {A} {adj?}things to put on",
    ),
    "undress": (
        "At {dusk}, {A} {gently?}{folded} them again",
        "After the {lovely?}play, {A} {gently?}took them off",
        "{Then} {elder} {gently?}{folded} them all",
        "{Gently}, {kind?}{A} put them away",
    ),
    "build": (
        "[They|{Then} they] {gently?}built a {adj} tower",
        "{A} {gently} stacked three {adj?}blocks",
        "With {B}, {A} {gently?}made a tower of {adj} blocks",
        "{Elder} {gently?}gave them {adj} blocks for a tower",
    ),
    "topple": (
        "At {dusk}, they {gently} took the blocks down",
        "{Gently}, {kind?}{A} put the blocks away",
        "{Then} the blocks {gently?}{danced} down again",
        "After {late}, {elder} {gently?}took the tower apart",
    ),
    "pack": (
        "{A} {gently?}packed a {adj?}{red?}basket",
        "{Elder} {gently?}filled a {old} basket",
        "For a {lovely} picnic, {A} {gently?}packed a bag",
        "Into a {old} basket went {adj} things",
    ),
    "unpack": (
        "At the {quiet?}{field}, {A} {gently?}unpacked it all",
        "{Then} they {gently} took it all out again",
        "{Kind} {A} {gently} unpacked again",
        "In the {grass} grass, they {gently?}unpacked it all",
    ),
    "out": (
        "{Kind?}{A} {gently?}let the animals out",
        "{Elder} {gently?}opened the {old?}gate for the animals",
        "At the {lovely} farm, {A} {gently?}fed the animals",
        "Out of the {old} stable {danced} the animals",
    ),
    "in": (
        "At {dusk}, they {gently?}led the animals home",
        "{Then} the animals {danced} back in{?gently}",
        "{Kind} {A} {softly} called the animals home",
        "In the {old} stable, the animals {slept}{?gently}",
    ),
    "play": (
        "For a {lovely} concert, {A} {gently?}took out {adj} things",
        "[They|{Then} they] {gently?}played {lovely} music",
        "{Elder} {gently?}played {quiet} music for them",
        "{Kind} {A} {gently} looked for something to play",
    ),
    "stop": (
        "At {dusk}, they {gently?}put it all away",
        "{Kind} {A} {gently} put it all away again",
        "After the {lovely} concert, {elder} {gently?}cleaned up",
        "{Then} the {quiet?}music {gently?}faded away",
    ),
}


def _order_scenes(kind: str, noun: str) -> dict[str, tuple[str, ...]]:
    """Title, action and reversal for three things of a kind; the reversal lists them backwards."""
    one, two, three = (f"{{{kind}{i}}}{noun}" for i in (1, 2, 3))
    deed, undoing = DEEDS[kind]
    return {
        f"title_{kind}": (f"{TITLE}, with a {one}, a {two} and a {three}.",),
        deed: tuple(
            f"{lead}: first a {one}, then a {two}, and last a {three}." for lead in LEADS[deed]
        ),
        undoing: tuple(
            f"{lead}: first the {three}, then the {two}, and last the {one}."
            for lead in LEADS[undoing]
        ),
    }


SCENES: dict[str, tuple[str, ...]] = {
    "title": (f"{TITLE}.",),
    "seek": (
        "{B} closed {B:her} {hazel} eyes and {softly?}counted to {n}: {n:count}",
        '"Count to {n}, {kind?}{B}," {said} {A}{manner}: {n:count}',
        "{Softly}, {B} counted to {n}: {n:count}",
        "{Then} {B} {softly?}counted {n} {adj?}{red} buttons: {n:count}",
    ),
    "flock": (
        "[They|{Then} they] saw {n} {adj?}{red?}{flock} and counted{?gently}: {n:count}",
        '"Look, {n} {adj?}{red?}{flock}!" {said} {B}{manner}: {n:count}',
        "{Small} {flock} {danced} by, {n} in all: {n:count}",
        "{Kind} {A} {gently?}counted {n} {red?}{flock}: {n:count}",
        "By the {sea} {slept} {n} {small?}{flock}.",
        "In the {grass} grass, {n} {small?}{flock} {slept}.",
        '"I see {n} {small?}{flock}," {said} {B}{manner}.',
        "{Then} {n} {small?}{flock} {danced} by the {sea}.",
    ),
    "another": (
        "{Then} one more {danced} by, so now there were {n:more}.",
        "One {danced} away{?gently}, and {n:less} were left.",
        "Another one {danced} {gently} by, and that made {n:more}.",
        "When a {small} one {danced} home, only {n:less} were left.",
    ),
    "show": (
        "{A} {gently?}took {n} {adj} bows: {n:count}",
        "{B} {gently} clapped {n} times: {n:count}",
        '"I sang {n} {adj} songs," {said} {A}{manner}.',
        "{B} {gently?}tied on {n} {adj} {red?}bows, and {A} tied on {n:more}.",
        "{Elder} {gently} pinned on {n} {adj?}{red} stars.",
    ),
    "blocks": (
        "Around it stood {n} {adj} dolls: {n:count}",
        "{B} {gently} added {n} {adj?}flags: {n:count}",
        '"It needs {n} {adj} windows," {said} {B}{manner}.',
        "{Then} {n} {adj} toy soldiers {danced} up to it.",
        "{A} {gently} added {n} {adj} shells, and {B} added {n:more}.",
    ),
    "treats": (
        "They had {n} {tasty?}{treat} to share: {n:count}",
        "{B} {gently} counted the {n} {tasty?}{treat}: {n:count}",
        '"Here are {n} {tasty?}{treat}," {said} {B}{manner}.',
        "{Elder} {gently?}gave them {n} {tasty?}{treat}.",
        "{Kind} {B} {gently?}picked out {n} {tasty?}{treat}.",
    ),
    "pond": (
        "[They|{Then} they] {went} {gently?}to the pond by the {quiet?}{field}.",
        '"Let us go to the {lovely} pond," {said} {B}{manner}.',
        "By the {quiet?}{field} was a {lovely} pond.",
        "At a {lovely} pond, they had {tasty?}{food3} with {food4}.",
    ),
    "birthday": (
        "It was the birthday of {B}, and {elder} {made} {tasty?}{food}.",
        '"Happy birthday, {kind?}{B}!" {said} {A}{manner}.',
        "On {B:her} birthday, {B} felt {glad} and {hungry}.",
        "For {B:her} birthday, {B} got {tasty?}{food} and a {adj} {red?}{junk}.",
    ),
    "candles": (
        "On a {adj} cake stood {n} {red} candles: {n:count}",
        "{Elder} {gently?}lit {n} {adj?}{red?}candles: {n:count}",
        '"Now I am {n}," {said} {B}{manner}.',
        "{B} was {n} and {glad}, and {A} would soon be {n:more}.",
        "{Kind} {A} {gently?}gave {B:him} {n} {adj} {red?}beads.",
    ),
    "eggs": (
        "In the straw lay {n} {adj} {red?}eggs: {n:count}",
        "{B} {gently?}found {n} {adj} {red?}eggs: {n:count}",
        '"I have {n} {adj} eggs," {said} {B}{manner}.',
        "{Kind} hens laid {n} {red?}eggs and then one more, which made {n:more}.",
    ),
    "orchard": (
        "[They|{Then} they] {went} to the orchard by the {quiet?}{field}{?gently}.",
        "In the {quiet} orchard, they {gently?}climbed a {old} tree.",
        '"Off to the orchard!" {said} {elder}{manner}.',
        "{Elder} {gently?}took them to a {lovely} orchard.",
    ),
    "another_treat": (
        "They ate one {gently} and had {n:less} left.",
        "{Elder} {gently?}gave them one more, and that made {n:more}.",
        "A {small} {robin} took one, so {n:less} were left.",
        "{Then} {A} {gently?}found another one, and that made {n:more}.",
    ),
}
for _kind, _noun in THREE.items():
    SCENES |= _order_scenes(_kind, _noun)
