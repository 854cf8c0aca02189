"""The shapes of the stories, and the scenes that belong to one shape: a counting game, a walk there and back, a picnic.

A shape is a list of beats in order; "?" marks a beat that half of the stories leave out. Shared beats are in `story_sentences.py`.
The title names what the story will remember, always in the same places, so that a small model finds it early in its training.
In `SCENES`, a deed names three things of the title in order, and undoing it names them again from the last to the first.
"""

from __future__ import annotations

STORY_SHAPES = {
    "hiding": "title hero friend put seek look? answer find thanks? end",
    "lost": "title hero friend mood? put busy? ask look? answer find thanks? end",
    "pond": "title hero friend pond put flock another busy? ask? answer find end",
    "birthday": "title hero friend mood? birthday put candles busy? ask? answer find thanks? end",
    "orchard": "title hero friend orchard treats another_treat put ask? answer find thanks? end",
    "walk": "title_landmark hero friend path put flock? return ask? answer find end",
    "costume": "title_garment hero friend dress put show? ask? answer find undress end",
    "tower": "title_color hero friend build blocks? put ask? find topple end",
    "picnic": "title_supply hero friend pack put treats? ask? answer find unpack end",
    "farm": "title_beast hero friend out put eggs? ask? answer find in end",
    "bedtime": "title_room hero friend lamps put busy? ask? find dark end",
}
TITLE = "The [story|tale] of {A}, {B} and the {thing} {near} the {spot}"
TITLES = {"title": (f"{TITLE}.",)} | {
    f"title_{kind}": (f"{TITLE}, with a {{{kind}1}}, a {{{kind}2}} and a {{{kind}3}}{noun}.",)
    for kind, noun in {"landmark": "", "garment": "", "color": " block", "supply": "", "beast": "", "room": ""}.items()
}

SCENES: dict[str, tuple[str, ...]] = TITLES | {
    "seek": (
        "{B} closed {B:her} {hazel} eyes and {softly?}counted to {n}: {n:count}",
        "\"Count to {n}, {kind?}{B},\" {said} {A}{manner}: {n:count}",
        "{Softly}, {B} counted to {n}: {n:count}",
        "{Then} {B} {softly?}counted {n} {adj?}{red} buttons: {n:count}",
    ),
    "path": (
        "[They|{Then} they] {went} past the {old?}{landmark1}, the {old?}{landmark2} and the {old?}{landmark3}.",
        "[They|{Then} they] {went} {gently} by a {old?}{landmark1}, a {old?}{landmark2} and a {old?}{landmark3}.",
        "First came the {old?}{landmark1}, then the {old?}{landmark2}, and then the {old?}{landmark3}.",
        "{A} and {B} saw a {old?}{landmark1}, a {old?}{landmark2} and a {old?}{landmark3}.",
        "On a {lovely} walk, they passed a {old?}{landmark1}, a {landmark2} and a {old?}{landmark3}.",
    ),
    "return": (
        "They {danced1} back to the {landmark3}, {danced2} past the {landmark2}, and {danced3} by the {landmark1}.",
        "Going home, they {danced1} to the {landmark3}, {danced2} to the {landmark2}, and {danced3} to the {landmark1}.",
        "At {dusk}, they {went} back {gently} by the {landmark3}, {gently} by the {landmark2}, and {gently} by the {landmark1}.",
        "{Kind} {A} led them back to the {landmark3}, then {gently?}to the {landmark2}, and {gently?}to the {landmark1}.",
    ),
    "flock": (
        "[They|{Then} they] saw {n} {adj?}{red?}{flock} and counted{?gently}: {n:count}",
        "\"Look, {n} {adj?}{red?}{flock}!\" {said} {B}{manner}: {n:count}",
        "{Small} {flock} {danced} by, {n} in all: {n:count}",
        "{Kind} {A} {gently?}counted {n} {red?}{flock}: {n:count}",
        "By the {sea} {slept} {n} {small?}{flock}.",
        "In the {grass} grass, {n} {small?}{flock} {slept}.",
        "\"I see {n} {small?}{flock},\" {said} {B}{manner}.",
        "{Then} {n} {small?}{flock} {danced} by the {sea}.",
    ),
    "another": (
        "{Then} one more {danced} by, so now there were {n:more}.",
        "One {danced} away{?gently}, and {n:less} were left.",
        "Another one {danced} {gently} by, and that made {n:more}.",
        "When a {small} one {danced} home, only {n:less} were left.",
    ),
    "dress": (
        "To be a {pirate}, {A} put on a {adj?}{red?}{garment1}, a {adj?}{garment2} and a {adj?}{garment3}.",
        "For a {lovely} play, {A} put on a {adj?}{garment1}, then a {adj?}{garment2}, and then a {adj?}{garment3}.",
        "{A} {gently?}put on a {adj?}{red?}{garment1}, a {adj?}{garment2} and a {adj?}{garment3}.",
        "{Elder} {gently?}gave {A} a {adj?}{garment1}, a {adj?}{garment2} and a {adj?}{garment3} to put on.",
    ),
    "undress": (
        "After the play, {A} took off the {garment3} {gently}, the {garment2} {gently}, and the {garment1} {gently}.",
        "At {dusk}, {A} {folded1} the {garment3}, {folded2} the {garment2}, and {folded3} the {garment1}.",
        "Off came the {garment3}, {gently} the {garment2}, and {gently} the {garment1}.",
        "Then {kind} {A} {folded1} the {garment3}, {folded2} the {garment2}, and {folded3} the {garment1}.",
    ),
    "show": (
        "{A} {gently?}took {n} {adj} bows: {n:count}",
        "{B} {gently} clapped {n} times: {n:count}",
        "\"I sang {n} {adj} songs,\" {said} {A}{manner}.",
        "{B} {gently?}tied on {n} {adj} {red?}bows, and {A} tied on {n:more}.",
        "{Elder} {gently} pinned on {n} {adj?}{red} stars.",
    ),
    "build": (
        "[They|{Then} they] {gently?}stacked a {color1} block, a {color2} block and a {color3} block.",
        "{A} built a {adj} tower: a {color1} block, a {color2} block and a {color3} block.",
        "They {gently} put a {adj?}{color1} block under a {adj?}{color2} one, and a {color3} one on top.",
        "First {kind?}{A} took a {adj?}{color1} block, then a {color2} one, and then a {color3} one.",
    ),
    "blocks": (
        "Around it stood {n} {adj} dolls: {n:count}",
        "{B} {gently} added {n} {adj?}flags: {n:count}",
        "\"It needs {n} {adj} windows,\" {said} {B}{manner}.",
        "{Then} {n} {adj} toy soldiers {danced} up to it.",
        "{A} {gently} added {n} {adj} shells, and {B} added {n:more}.",
    ),
    "topple": (
        "At {dusk}, they {took1} the {color3} block, {took2} the {color2} one, and {took3} the {color1} one.",
        "{Gently} they took the {color3} block, {gently} the {color2} one, and {gently} the {color1} one.",
        "Down {danced1} the {color3} block, down {danced2} the {color2} one, and down {danced3} the {color1} one.",
        "After {late}, {A} took the {color3} block, {elder} the {color2} one, and {B} the {color1} one.",
    ),
    "pack": (
        "{A} {gently?}packed a {adj?}{red?}{supply1}, a {adj?}{supply2} and a {adj?}{supply3}.",
        "Into a {old} basket went a {adj?}{supply1}, a {adj?}{supply2} and a {adj?}{supply3}.",
        "For a {lovely} picnic, {A} packed a {adj?}{supply1}, a {adj?}{supply2} and a {adj?}{supply3}.",
        "{Elder} packed a {adj?}{supply1}, then a {adj?}{supply2}, and then a {adj?}{supply3}.",
    ),
    "treats": (
        "They had {n} {tasty?}{treat} to share: {n:count}",
        "{B} {gently} counted the {n} {tasty?}{treat}: {n:count}",
        "\"Here are {n} {tasty?}{treat},\" {said} {B}{manner}.",
        "{Elder} {gently?}gave them {n} {tasty?}{treat}.",
        "{Kind} {B} {gently?}picked out {n} {tasty?}{treat}.",
    ),
    "unpack": (
        "{Then} they {took1} the {supply3}, {took2} the {supply2}, and {took3} the {supply1}.",
        "Out came the {supply3}, {gently} the {supply2}, and {gently} the {supply1}.",
        "{Gently}, {A} unpacked the {supply3} for {B}, the {supply2} for {elder}, and the {supply1} for the {pet}.",
        "{Kind} {A} took out the {dear?}{supply3}, the {dear?}{supply2} and the {dear?}{supply1}.",
    ),
    "pond": (
        "[They|{Then} they] {went} {gently?}to the pond by the {quiet?}{field}.",
        "\"Let us go to the {lovely} pond,\" {said} {B}{manner}.",
        "By the {quiet?}{field} was a {lovely} pond.",
        "At a {lovely} pond, they had {tasty?}{food3} with {food4}.",
    ),
    "birthday": (
        "It was the birthday of {B}, and {elder} {made} {tasty?}{food}.",
        "\"Happy birthday, {kind?}{B}!\" {said} {A}{manner}.",
        "On {B:her} birthday, {B} felt {glad} and {hungry}.",
        "For {B:her} birthday, {B} got {tasty?}{food} and a {adj} {red?}{junk}.",
    ),
    "candles": (
        "On a {adj} cake stood {n} {red} candles: {n:count}",
        "{Elder} {gently?}lit {n} {adj?}{red?}candles: {n:count}",
        "\"Now I am {n},\" {said} {B}{manner}.",
        "{B} was {n} and {glad}, and {A} would soon be {n:more}.",
        "{Kind} {A} {gently?}gave {B:him} {n} {adj} {red?}beads.",
    ),
    "out": (
        "{A} {gently?}let out the {kind?}{beast1}, the {kind?}{beast2} and the {kind?}{beast3}.",
        "Out {danced} a {kind?}{beast1}, a {kind?}{beast2} and a {kind?}{beast3}.",
        "{Elder} led out a {kind?}{beast1}, then a {kind?}{beast2}, and then a {kind?}{beast3}.",
        "At the {lovely} farm, {A} fed a {kind?}{beast1}, a {kind?}{beast2} and a {kind?}{beast3}.",
    ),
    "in": (
        "Home {danced1} the {beast3}, {danced2} the {beast2}, and {danced3} the {beast1}.",
        "{A} {softly} called the {beast3}, {softly} the {beast2}, and {softly} the {beast1}.",
        "In the barn {slept1} the {beast3}, {slept2} the {beast2}, and {slept3} the {beast1}.",
        "At {dusk}, the {beast3} {danced1} in, the {beast2} {danced2} in, and the {beast1} {danced3} in.",
    ),
    "eggs": (
        "In the straw lay {n} {adj} {red?}eggs: {n:count}",
        "{B} {gently?}found {n} {adj} {red?}eggs: {n:count}",
        "\"I have {n} {adj} eggs,\" {said} {B}{manner}.",
        "{Kind} hens laid {n} {red?}eggs and then one more, which made {n:more}.",
    ),
    "lamps": (
        "It grew dark, so {A} {gently?}lit the {old?}{room1}, the {old?}{room2} and the {room3}.",
        "With a {adj?}{red?}lamp, {A} lit the {old?}{room1}, the {old?}{room2} and the {old?}{room3}.",
        "First {A} {gently?}lit the {room1}, then the {old?}{room2}, and then the {old?}{room3}.",
        "{Elder} put a {adj} lamp in the {old?}{room1}, the {room2} and the {old?}{room3}.",
    ),
    "dark": (
        "At {dusk}, the {room3} grew {quiet1}, the {room2} grew {quiet2}, and the {room1} grew {quiet3}.",
        "{Then} {A} {gently} darkened the {room3}, {gently} the {room2}, and {gently} the {room1}.",
        "{Gently}, {elder} put out the light in the {quiet?}{room3}, the {quiet?}{room2} and the {quiet?}{room1}.",
        "Out went the {adj?}lamps in the {quiet?}{room3}, the {quiet?}{room2} and the {quiet?}{room1}.",
    ),
    "orchard": (
        "[They|{Then} they] {went} to the orchard by the {quiet?}{field}{?gently}.",
        "In the {quiet} orchard, they {gently?}climbed a {old} tree.",
        "\"Off to the orchard!\" {said} {elder}{manner}.",
        "{Elder} {gently?}took them to a {lovely} orchard.",
    ),
    "another_treat": (
        "They ate one {gently} and had {n:less} left.",
        "{Elder} {gently?}gave them one more, and that made {n:more}.",
        "A {small} {robin} took one, so {n:less} were left.",
        "{Then} {A} {gently?}found another one, and that made {n:more}.",
    ),
}  # fmt: skip
