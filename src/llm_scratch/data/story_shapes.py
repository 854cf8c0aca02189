"""The shapes of the stories, and the scenes that belong to one shape: a counting game, a walk there and back, a picnic.

A shape is a list of beats in order; "?" marks a beat that half of the stories leave out. Shared beats are in `story_sentences.py`.
In `SCENES`, a deed names three remembered things in order, and undoing it names them again from the last to the first.
"""

from __future__ import annotations

OPENING = "hero friend"

STORY_SHAPES = {
    "hiding": "mood? put seek look? answer find thanks? end",
    "lost": "put busy? ask look? answer find thanks? end",
    "walk": "path mood? put_out busy? flock? return ask? answer_out find_out end_out",
    "winter": "dress put_out snowballs busy? ask? answer_out find_out undress end_out",
    "tower": "build mood? blocks put busy? ask? find topple end",
    "picnic": "pack lawn put_out treats? ask? answer_out find_out unpack end_out",
    "pond": "pond mood? put_out flock another? ask? answer_out find_out end_out",
    "birthday": "birthday put candles look? ask? answer find thanks? end",
    "farm": "out put_out eggs? busy? ask? answer_out find_out in end_out",
    "bedtime": "lamps put busy? ask? look? answer find dark end",
    "orchard": "orchard treats another_treat? put_out ask? answer_out find_out thanks? end_out",
}

SCENES: dict[str, tuple[str, ...]] = {
    "seek": (
        "Then {A} covered {A:her} eyes and {softly} counted to {n}: {n:count}",
        "\"I will count to {n},\" {said} {A}, \"and then you may look: {n:count}\"",
        "{B} {gently} closed {B:her} eyes and counted up to {n}: {n:count}",
        "They played a guessing game, and {B} counted {softly} to {n}: {n:count}",
    ),
    "path": (
        "They {went} past the {adj} {landmark1}, then the {landmark2}, and then the {landmark3}.",
        "First they {went} to the {landmark1}, next to the {old} {landmark2}, and at last to the {landmark3}.",
        "On the way they saw a {old} {landmark1}, a {cozy} {landmark2} and a {landmark3}.",
        "{A} and {B} {went} by the {landmark1}, the {old} {landmark2} and the {landmark3}.",
        "Their {lovely} walk took them to the {landmark1}, the {landmark2} and the {landmark3}.",
    ),
    "return": (
        "On the way back they passed the {landmark3}, then the {landmark2}, and last the {landmark1}.",
        "Going home, they {gently} passed the {landmark3}, the {landmark2} and the {landmark1}.",
        "Then they turned around: back to the {landmark3}, back to the {landmark2}, and back to the {landmark1}.",
        "At {noon} they {went} back, past the {landmark3}, the {landmark2} and the {landmark1}.",
    ),
    "flock": (
        "They saw {n} {adj} {flock} and counted them: {n:count}",
        "Beside the path stood {n} {adj} {flock}: {n:count}",
        "\"Look, {n} {flock}!\" {said} {B}, and {B:she} counted {softly}: {n:count}",
        "Then {n} {adj} {flock} came by, one after the other: {n:count}",
        "{A} counted the {n} {adj} {flock} that {danced} by: {n:count}",
    ),
    "another": (
        "Then one more came, so now there were {n:more} {flock}.",
        "One of them {danced} away, and {n:less} {flock} were left.",
        "Another one {danced} {gently} along, and that made {n:more} {flock}.",
        "When one {gently} went home, only {n:less} {flock} were there.",
    ),
    "dress": (
        "It was {lovely} and cold outside, so {A} put on a {adj} {garment1}, then a {garment2}, and then a {garment3}.",
        "Because of the snow, {A} {gently} put on a {garment1}, a {adj} {garment2} and a {garment3}.",
        "To go out in the cold, {A} put on a {adj} {garment1}, next a {garment2}, and at last a {garment3}.",
        "\"Dress warmly!\" {said} {elder}, so {A} put on a {garment1}, a {garment2} and a {adj} {garment3}.",
    ),
    "undress": (
        "Back home, {A} took off the {garment3}, then the {garment2}, and last the {garment1}.",
        "By the warm fire, {A} {gently} took off the {garment3}, the {garment2} and the {garment1}.",
        "Indoors it was warm, so off came the {garment3}, off came the {garment2}, and off came the {garment1}.",
        "When they came in, {A} hung up the {garment3}, the {garment2} and the {garment1}.",
    ),
    "snowballs": (
        "{A} {gently} made {n} {adj} snowballs: {n:count}",
        "Together they rolled {n} {adj} snowballs and counted them: {n:count}",
        "{B} {softly} caught {n} snowflakes on {B:her} nose: {n:count}",
        "\"I see {n} {adj} snowmen,\" {said} {B}: {n:count}",
    ),
    "build": (
        "They {gently} built a tower with a {color1} block, a {color2} block and a {color3} block.",
        "{A} put down a {color1} block, {B} put a {color2} block on it, and on top they set a {color3} block.",
        "For their {adj} tower they took a {color1} block, then a {color2} block, and then a {color3} block.",
        "{Gently}, {A} stacked a {color1} cup, a {color2} cup and a {color3} cup.",
    ),
    "blocks": (
        "All around it they set {n} {adj} stones: {n:count}",
        "\"Let us add {n} flags,\" {said} {B}, and {B:she} counted {softly}: {n:count}",
        "Then {n} toy soldiers {danced} up to it: {n:count}",
        "{B} drew {n} {adj} windows on it: {n:count}",
    ),
    "topple": (
        "At {noon} they took it down again: first the {color3} one, then the {color2} one, and then the {color1} one.",
        "To tidy up, they {gently} took away the {color3} one, the {color2} one and the {color1} one.",
        "\"Time to clean up,\" said {elder}, and down came the {color3} one, the {color2} one and the {color1} one.",
        "Then it had to go: off came the {color3} one, the {color2} one, and last the {color1} one.",
    ),
    "pack": (
        "For a picnic, {A} {gently} packed a {adj} {supply1}, then a {supply2}, and on top a {supply3}.",
        "Into the basket went a {adj} {supply1}, a {supply2} and a {supply3}.",
        "\"A picnic!\" {said} {A}, and {A:she} packed a {supply1}, then a {adj} {supply2}, and then a {supply3}.",
        "{A} filled a {adj} basket: first a {supply1}, then a {supply2}, and last a {supply3}.",
    ),
    "lawn": (
        "They {went} to the {field} and sat down in the {soft} grass.",
        "At the {field}, a {robin} {sang} {softly} in the sun.",
        "They found a {lovely} place by the {field} and {gently} sat down.",
        "Then the two {went} {gently} to the {field}.",
    ),
    "treats": (
        "They had {n} {adj} {treat} to share: {n:count}",
        "{B} {gently} counted {B:her} {adj} {treat}: {n:count}",
        "\"Here are {n} {treat},\" {said} {B}, and {B:she} counted {softly}: {n:count}",
        "{Elder} had given them {n} {treat}: {n:count}",
    ),
    "unpack": (
        "Then they took out the {supply3}, the {supply2} and the {supply1}.",
        "When they were hungry, {A} {gently} took out the {supply3}, then the {supply2}, and then the {supply1}.",
        "Out of the basket came the {supply3}, the {supply2}, and last the {supply1}.",
        "At {noon} they unpacked: first the {supply3}, next the {supply2}, and then the {supply1}.",
    ),
    "pond": (
        "They {went} {gently} to the pond by the {field}.",
        "\"Let us go to the pond,\" {said} {B} {softly}.",
        "Behind the {house} was a {lovely} pond, and they {went} there.",
        "At the edge of the {lovely} pond they sat down and had {food}.",
    ),
    "birthday": (
        "It was the {lovely} birthday of {B}, and {elder} had made {food}.",
        "\"Happy birthday, {B}!\" {said} {A}, and {A:she} {smiled}.",
        "That {day} was {B:her} birthday, and {B} felt {happy}.",
        "Because it was {B:her} birthday, {elder} gave {B} {food} and a {adj} {junk}.",
    ),
    "candles": (
        "On the cake were {n} {adj} candles, and they counted them: {n:count}",
        "{B} was {n} years old, so {elder} lit the candles: {n:count}",
        "\"Now I am {n},\" {said} {B}, and {B:she} {softly} counted the candles: {n:count}",
        "{A} {gently} put {n} candles on the cake: {n:count}",
    ),
    "out": (
        "In the barn, {A} {gently} let out the {kind} {beast1}, then the {beast2}, and then the {beast3}.",
        "At sunrise they led out a {kind} {beast1}, a {beast2} and a {beast3}.",
        "Out to the grass {went} a {beast1}, then a {kind} {beast2}, and then a {beast3}.",
        "{A} opened the gate for the {beast1}, for the {beast2} and for the {kind} {beast3}.",
    ),
    "in": (
        "At {noon} they brought back the {beast3}, then the {beast2}, and last the {beast1}.",
        "Then home {went} the {beast3}, the {beast2} and the {beast1}.",
        "When it was time to go in, {A} {gently} called the {beast3}, the {beast2} and the {beast1}.",
        "Back into the barn {went} the {beast3}, after it the {beast2}, and after that the {beast1}.",
    ),
    "eggs": (
        "In the straw they found {n} {adj} eggs: {n:count}",
        "{B} {gently} gathered {n} eggs: {n:count}",
        "\"The hens have laid {n} eggs,\" {said} {B}, and {B:she} counted {softly}: {n:count}",
        "They counted {n} {adj} eggs in the nest: {n:count}",
    ),
    "lamps": (
        "It grew dark, so {A} {gently} lit a lamp in the {room1}, one in the {room2}, and one in the {room3}.",
        "At {noon}, {A} switched on a {adj} lamp in the {room1}, then in the {room2}, and then in the {room3}.",
        "First {A} lit the {room1}, then the {room2}, and then the {room3} with a {adj} lamp.",
        "{A} and {B} carried lamps to the {room1}, to the {room2} and to the {room3}.",
    ),
    "dark": (
        "At bedtime they {gently} put out the light in the {room3}, in the {room2}, and in the {room1}.",
        "Then the lamps went out: first in the {room3}, next in the {room2}, and last in the {room1}.",
        "{A} put out the lamp in the {room3}, then in the {room2}, and then in the {room1}.",
        "Soon it was dark in the {room3}, dark in the {room2}, and dark in the {room1}.",
    ),
    "orchard": (
        "They {went} to the orchard by the {field} with a {adj} ladder.",
        "In the orchard, they climbed {gently} up a {old} tree.",
        "\"The fruit is ripe,\" said {elder}, so they {went} {gently} to the orchard.",
        "{Elder} took them {gently} to the orchard by the {field}.",
    ),
    "another_treat": (
        "They ate one and had {n:less} {treat} left.",
        "{Elder} {gently} gave them one more, and now they had {n:more} {treat}.",
        "One was {adj}, so they gave it to a {robin} and kept the other {n:less} {treat}.",
        "Then {A} {gently} found another one, and that made {n:more} {treat}.",
    ),
}  # fmt: skip
