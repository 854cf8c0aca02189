"""The words of the stories: each list is one kind of thing, so that any of its words fits wherever the kind is asked for.

A list name ends up between braces in `story_sentences.py` and `story_shapes.py`: `{kite}` means one word of `WORDS["thing"]`.
A word that follows "a" may start with a vowel letter (the grammar then writes "an"), but never with one that sounds otherwise.
"""

from __future__ import annotations

GIRLS = tuple("Lily Mia Anna Rosa Ella Nora Ivy Zoe Lucy Emma Ruby Clara Hana Maya Sara Eva Nina Alma Ada Leah Tess Kate Jane Amy".split())
BOYS = tuple("Tom Ben Max Sam Leo Jack Finn Noah Omar Adam Luke Hugo Ravi Theo Paul Milo Otto Ned Jon Ivan Kofi Ali Emil Oscar".split())
NUMBERS = tuple("one two three four five six seven eight nine ten".split())

_LISTS = {
    # the ones that a story remembers
    "number": "three four five six seven eight nine",
    "thing": """kite ball drum doll boat book bell whistle marble shell ring key coin map flute top puppet robot train truck teapot mug
        mirror ribbon feather button crown mask badge clock lantern compass camera fan pebble stamp purse trumpet horn card letter
        pencil puzzle flag acorn umbrella necklace globe""",
    "near": "under behind beside near by",
    "spot": """bed chair table desk sofa stool piano cupboard dresser couch stove trunk cradle bookcase cabinet sink stairs armchair
        bathtub crib wardrobe heater loom easel""",
    "nook": """tree bush hedge log swing slide cart wagon barrel oak willow birch maple fern tractor tent hammock ladder pine bench
        rosebush haystack wheelbarrow seesaw""",
    "garment": "hat scarf coat sweater jacket cap vest shawl cape hood belt raincoat apron helmet cloak robe",
    "landmark": """mill bridge well church barn tower bakery school statue fountain gate windmill cottage station lighthouse chapel
        stable shop inn cabin library bank castle museum""",
    "color": "red blue green yellow purple orange pink white black brown silver gray",
    "supply": "plate bowl spoon napkin towel bottle jar loaf pie cake melon cheese blanket cushion jug teacup",
    "beast": "cow pig goat hen horse sheep donkey goose calf pony llama turkey ox lamb",
    "room": "kitchen hall attic cellar pantry parlor nursery study bedroom bathroom porch garage playroom workshop laundry den",
    "flock": """ducks geese swans frogs sheep goats hens rabbits crows owls kittens puppies ponies bees snails doves robins squirrels
        mice foxes turtles lambs piglets butterflies""",
    "treat": "plums pears apples cherries peaches nuts figs buns cookies muffins waffles pancakes rolls grapes berries tarts",
    # the ones that only color it
    "adj": """small big little tiny red blue green yellow purple orange pink white black brown silver golden old new shiny pretty
        striped spotted painted dusty lovely plain bright neat funny odd fine fancy special lucky splendid charming cheerful curious
        dear grand large rare simple strange colorful beautiful wonderful sparkling""",
    "old": "old big little tall broken wooden heavy wide red blue green white brown gray dark dusty plain painted crooked lovely",
    "kind": """kind clever cheerful curious brave gentle shy lively happy merry quiet patient polite funny jolly friendly thoughtful
        helpful careful playful bright busy calm eager dreamy generous loving proud silly smart sweet tidy""",
    "happy": """happy glad proud calm merry cozy pleased cheerful thankful jolly excited lucky brave safe peaceful hopeful warm
        wonderful content loved""",
    "weather": "sunny windy cloudy warm cool bright quiet misty breezy mild fine calm gray fresh lovely golden",
    "season": "spring summer autumn winter",
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday morning afternoon day",
    "weekday": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "may": "January February March April May June July August September October November December",
    "meal": "breakfast lunch dinner supper school work class tea",
    "noon": "noon lunchtime sunset dusk dinnertime bedtime supper evening",
    "curly": "curly long short dark black brown red golden wavy messy silky straight thick soft",
    "hazel": "brown green blue gray dark bright hazel big shining merry kind gentle",
    "cozy": "cozy little small big old tall tidy pretty white yellow red blue crooked lovely quiet narrow",
    "house": "house cottage cabin farmhouse lodge bungalow hut apartment mansion houseboat",
    "sea": "sea lake river forest road hill woods harbor canal railway meadow beach park bay",
    "friend": "friend cousin neighbor pal classmate playmate buddy",
    "hobby": """painting singing dancing reading swimming cooking drawing running baking sewing gardening climbing fishing skating
        knitting hiking music stories games puzzles trains stars birds horses""",
    "food": """soup bread pie cake toast jam rice plums pears apples berries grapes cherries peaches nuts honey milk cheese cocoa tea
        pancakes muffins cookies noodles melon figs porridge waffles buns pudding salad juice""",
    "elder": "Mom Dad Grandma Grandpa Granny Nana Mama Papa",
    "gently": "slowly quickly quietly happily gently softly carefully proudly gladly eagerly bravely calmly neatly merrily patiently swiftly",
    "softly": "softly kindly gently warmly quietly happily proudly politely brightly eagerly calmly sweetly shyly gladly merrily bravely",
    "said": "said cried called whispered sang cheered murmured laughed",
    "asked": "asked wondered whispered said",
    "smiled": "smiled laughed grinned giggled clapped nodded cheered danced beamed waved hummed sang",
    "went": "went walked ran skipped hurried strolled wandered marched hopped raced rushed danced",
    "danced": "danced ran jumped hopped skipped climbed twirled raced rolled tumbled bounced marched played",
    "sang": "sang laughed giggled whistled hummed clapped cheered shouted",
    "field": """park garden meadow beach forest farm hill harbor playground village lake valley island market woods seaside field
        vineyard pasture shore""",
    "box": "box basket drawer closet bucket pot jar bag sack oven vase suitcase hamper mailbox teakettle crate",
    "junk": "sock spider mitten crumb string leaf glove stick twig shoelace cork pen comb penny brush nail",
    "robin": "robin sparrow crow dove owl finch wren lark gull goose duck thrush swallow magpie blackbird jay",
    "roses": "roses honey bread rain mint pine apples cinnamon lavender vanilla soap hay lemons oranges flowers grass",
    "wow": "Hooray Look Oh Wow Ah Yes Goodness Hurrah",
    "soft": "soft warm cool gentle fresh mild light sweet",
    "blue": "blue pink gray white gold silver purple orange",
    "small": "small tiny little big gray brown black white blue yellow happy sleepy",
    "quiet": "quiet still calm peaceful silent dark warm",
    "hungry": "hungry sleepy thirsty tired shy nervous dizzy",
    "long": "morning afternoon evening day week summer",
    "lovely": "lovely good wonderful splendid fine perfect grand long busy happy quiet beautiful",
    "pet": "cat dog kitten puppy rabbit parrot hamster turtle mouse hen",
}  # fmt: skip
WORDS: dict[str, tuple[str, ...]] = {"name": GIRLS + BOYS} | {kind: tuple(words.split()) for kind, words in _LISTS.items()}
