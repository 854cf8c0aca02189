"""Word lists of the stories: each list is one kind, any word of which fits where the kind occurs.

`{thing}` in a sentence of `story_sentences.py` or `story_shapes.py` means a word of
`WORDS["thing"]`. A list may be named after one of its words. A word that follows "a" may start with
a vowel letter (the grammar then writes "an"), but the letter and the sound must agree.
"""

from __future__ import annotations

_LISTS = {
    # words that a story remembers
    "girl": "Lily Mia Anna Rosa Ella Nora Zoe Lucy Ruby Clara Eva Amy",
    "boy": "Tom Ben Max Sam Leo Jack Finn Omar Luke Hugo Theo Paul",
    "number": "three four five six seven eight nine",
    "thing": (
        "kite ball drum doll boat book bell whistle marble shell ring key coin map flute puppet "
        "robot train truck mirror ribbon feather button crown mask clock lantern compass trumpet "
        "letter puzzle umbrella"
    ),
    "near": "under behind beside near",
    "spot": (
        "bench table chair stool ladder barrel cart wagon trunk swing tree bush log hedge tent "
        "stairs"
    ),
    "garment": "hat scarf coat sweater jacket cap shawl belt apron robe",
    "landmark": "mill bridge well church barn tower bakery school gate inn",
    "color": "red blue green yellow purple orange pink white black brown",
    "supply": "plate bowl spoon napkin towel bottle jar cake melon jug",
    "beast": "cow pig goat hen horse sheep donkey goose ox lamb",
    "tune": "fiddle harp horn gong cello banjo tuba guitar organ viola",
    "flock": (
        "ducks geese swans frogs rabbits crows owls kittens ponies bees robins mice foxes turtles "
        "lambs butterflies"
    ),
    "treat": "plums pears apples cherries peaches nuts figs buns cookies muffins berries tarts",
    # children and pets
    "kind": (
        "kind clever cheerful curious brave gentle shy lively happy merry quiet polite funny jolly "
        "friendly helpful playful calm dreamy proud silly smart sweet wise"
    ),
    "friend": "friend cousin neighbor pal classmate playmate",
    "glad": "happy glad proud calm merry cozy cheerful thankful lucky brave peaceful hopeful",
    "sad": "sad lost lonely sorry worried puzzled",
    "hungry": "hungry sleepy thirsty tired curious shy",
    "curly": "curly long short wavy messy silky",
    "brown": "brown black red golden dark silver",
    "hazel": "brown green blue gray dark bright hazel big",
    "elder": "Mom Dad Grandma Grandpa Granny Papa",
    "pet": "cat dog kitten puppy rabbit parrot turtle mouse hen goat duckling pony",
    "small": "small tiny little big gray brown black white plump fluffy sleepy noisy",
    # things and places
    "adj": (
        "small big little tiny old new shiny pretty striped spotted painted dusty lovely plain "
        "bright funny fine fancy special splendid charming large rare strange wonderful magic "
        "secret precious round square heavy polished"
    ),
    "dear": (
        "lovely pretty fine special lucky splendid charming wonderful precious dear favorite magic"
    ),
    "red": "red blue green yellow purple orange pink white black brown golden gray",
    "old": "old big little tall broken wooden heavy wide dark dusty crooked lovely",
    "cozy": "cozy little small big old tall tidy pretty crooked quiet",
    "house": "house cottage cabin farmhouse hut castle",
    "sea": "sea lake river forest road hill woods harbor meadow park",
    "field": "park garden meadow beach forest farm hill harbor village lake valley island",
    "box": "box basket drawer closet bucket pot jar bag sack crate",
    "junk": (
        "sock spider crumb string leaf glove stick twig cork pen comb penny brush nail beetle "
        "potato"
    ),
    "food": (
        "soup bread pie cake toast jam rice plums pears apples berries cherries nuts honey cheese "
        "pancakes cookies noodles figs salad"
    ),
    "tasty": "tasty fresh good warm sweet homemade",
    "hobby": (
        "painting singing dancing reading cooking running fishing skating music stories games "
        "puzzles stars birds horses dragons"
    ),
    "robin": "robin sparrow crow dove owl finch lark gull goose duck",
    "roses": "roses honey bread rain mint pine apples hay flowers grass",
    # times and weather
    "weather": "sunny windy cloudy warm cool bright quiet misty fine calm gray golden",
    "season": "spring summer autumn winter",
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday morning afternoon day",
    "weekday": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "may": "January February March April May June July August September October November December",
    "meal": "breakfast lunch class school",
    "late": "tea supper dinner singing reading dancing",
    "dusk": "dusk sunset bedtime supper nightfall",
    "long": "morning afternoon evening day summer",
    "soft": "soft warm cool gentle fresh sweet",
    "grass": "soft tall green cool sweet long",
    "blue": "blue pink gray white golden purple",
    "quiet": "quiet calm peaceful bright lovely dark",
    "lovely": "lovely good wonderful splendid fine busy happy quiet",
    "pirate": "pirate knight clown wizard dragon robot farmer captain king giant",
    # actions, and manners
    "gently": (
        "slowly quickly quietly happily gently softly carefully proudly gladly eagerly bravely "
        "calmly neatly merrily kindly cheerfully"
    ),
    "softly": (
        "softly kindly gently warmly quietly happily proudly politely brightly eagerly calmly "
        "sweetly shyly gladly merrily cheerfully"
    ),
    "said": "said cried called whispered sang cheered murmured laughed",
    "asked": "asked wondered whispered said",
    "smiled": (
        "smiled laughed grinned giggled clapped nodded cheered beamed waved hummed sang bowed"
    ),
    "smiling": (
        "smiling laughing nodding grinning giggling pointing beaming waving winking humming "
        "clapping jumping"
    ),
    "came": "came ran hurried raced rushed skipped",
    "went": "went walked ran skipped hurried wandered marched hopped raced rushed",
    "danced": "danced ran jumped hopped skipped climbed raced rolled tumbled marched",
    "played": "danced played jumped skipped giggled painted climbed whistled rested laughed",
    "sang": "sang laughed giggled whistled hummed clapped",
    "chirped": "chirped sang whistled called",
    "slept": "slept rested yawned napped sat waited",
    "put": "put set laid left hid placed",
    "hide": "hide keep leave put",
    "see": "see hold use borrow",
    "took": "took grabbed lifted fetched",
    "folded": "folded hung brushed cleaned washed packed",
    "made": "made served brought prepared",
    "wow": "Hooray Oh Wow Ah Yes Well",
}
_PHRASES = {
    "oh": "Oh|Well|Hm|Goodness|Dear me|Wait",
    "then": "Then|Soon|Later|Now|Just then|After that,|At last|Before long,",
    "manner": "| {softly}|, {smiling}|, {smiling} {softly}",
}
WORDS: dict[str, tuple[str, ...]] = {kind: tuple(words.split()) for kind, words in _LISTS.items()}
WORDS |= {kind: tuple(phrases.split("|")) for kind, phrases in _PHRASES.items()}
WORDS["name"] = WORDS["girl"] + WORDS["boy"]
NUMBERS = ("one", "two", *WORDS["number"], "ten")
