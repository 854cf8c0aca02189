"""The words of the stories: each list is one kind of thing, so that any of its words fits wherever the kind is asked for.

`{thing}` in a sentence of `story_sentences.py` or `story_shapes.py` means a word of `WORDS["thing"]`. A list may be named by one
of its words. A word that follows "a" may start with a vowel letter (the grammar then writes "an"), but never one that sounds otherwise.
"""

from __future__ import annotations

_LISTS = {
    # what a story remembers
    "girl": """Lily Mia Anna Rosa Ella Nora Ivy Zoe Lucy Emma Ruby Clara Hana Maya Sara Eva Nina Alma Ada Leah Tess Kate Jane Amy Ida Greta
        Nell Wendy""",
    "boy": """Tom Ben Max Sam Leo Jack Finn Noah Omar Adam Luke Hugo Ravi Theo Paul Milo Otto Ned Jon Ivan Kofi Ali Emil Oscar Dan Felix
        Ken Tim""",
    "number": "three four five six seven eight nine",
    "thing": """kite ball drum doll boat book bell whistle marble shell ring key coin map flute top puppet robot train truck teapot mug
        mirror ribbon feather button crown mask badge clock lantern compass camera fan pebble stamp purse trumpet horn card letter
        pencil puzzle flag acorn umbrella necklace globe pipe rattle yarn wand gem scroll violin banjo kazoo parasol trinket medal""",
    "near": "under behind beside near by",
    "spot": """bed chair table desk sofa stool piano cupboard dresser couch stove trunk cradle bookcase cabinet sink stairs armchair
        bathtub crib wardrobe heater loom easel fridge sideboard hatstand birdcage""",
    "nook": """tree bush hedge log swing slide cart wagon barrel oak willow birch maple fern tractor tent hammock ladder pine bench
        rosebush haystack wheelbarrow seesaw palm beech sled cherry""",
    "garment": "hat scarf coat sweater jacket cap vest shawl cape hood belt raincoat apron helmet cloak robe",
    "landmark": """mill bridge well church barn tower bakery school statue fountain gate windmill cottage station lighthouse chapel stable
        shop inn cabin library bank castle museum""",
    "color": "red blue green yellow purple orange pink white black brown silver gray",
    "supply": "plate bowl spoon napkin towel bottle jar loaf pie cake melon cheese blanket cushion jug teacup",
    "beast": "cow pig goat hen horse sheep donkey goose calf pony llama turkey ox lamb",
    "room": "kitchen hall attic cellar pantry parlor nursery study bedroom bathroom porch garage playroom workshop laundry den",
    "flock": """ducks geese swans frogs sheep goats hens rabbits crows owls kittens puppies ponies bees snails doves robins squirrels mice
        foxes turtles lambs piglets butterflies""",
    "treat": "plums pears apples cherries peaches nuts figs buns cookies muffins waffles pancakes rolls grapes berries tarts",
    # children and pets
    "kind": """kind clever cheerful curious brave gentle shy lively happy merry quiet patient polite funny jolly friendly thoughtful
        helpful careful playful bright busy calm eager dreamy generous loving proud silly smart sweet tidy wise bold nimble sunny
        gracious hardy noble modest daring peppy chatty skillful neat warm trusty""",
    "pirate": "pirate knight clown wizard dragon robot farmer captain doctor cook dancer singer king giant sailor ghost",
    "friend": "friend cousin neighbor pal classmate playmate buddy schoolmate",
    "glad": """happy glad proud calm merry cozy pleased cheerful thankful jolly excited lucky brave safe peaceful hopeful warm joyful loved
        content grateful lively rested cheery""",
    "sad": "sad lost lonely gloomy sorry restless worried puzzled",
    "hungry": "hungry sleepy thirsty tired shy dizzy lazy curious",
    "curly": "curly long short wavy messy silky straight thick soft shiny tangled neat",
    "brown": "brown black red golden dark blond auburn silver",
    "hazel": "brown green blue gray dark bright hazel big shining merry kind gentle",
    "elder": "Mom Dad Grandma Grandpa Granny Nana Mama Papa",
    "pet": "cat dog kitten puppy rabbit parrot hamster turtle mouse hen pig goat lamb duckling pony hedgehog",
    "small": """small tiny little big gray brown black white plump fluffy young old happy sleepy hungry noisy curly spotted slim clever
        gentle playful round golden""",
    # things and places
    "adj": """small big little tiny old new shiny pretty striped spotted painted dusty lovely plain bright neat funny odd fine fancy
        special lucky splendid charming grand large rare simple strange colorful beautiful wonderful sparkling magic secret precious
        sturdy elegant ordinary unusual perfect handy marvelous curious modern foreign famous dainty gleaming polished borrowed mended
        patched round square heavy light smooth thin thick wide oval modest fragile""",
    "dear": """dear lovely pretty fine special lucky splendid charming wonderful precious beautiful favorite marvelous perfect good
        handsome superb treasured magic nice""",
    "red": "red blue green yellow purple orange pink white black brown silver golden gray violet",
    "old": """old big little tall broken wooden heavy wide dark dusty plain painted crooked lovely mossy sunny tiny round narrow sturdy
        shiny new tidy dim""",
    "cozy": "cozy little small big old tall tidy pretty crooked lovely quiet narrow sunny snug",
    "house": "house cottage cabin farmhouse lodge bungalow hut apartment mansion houseboat villa castle",
    "sea": "sea lake river forest road hill woods harbor canal railway meadow beach park bay market field",
    "field": """park garden meadow beach forest farm hill harbor playground village lake valley island market woods seaside field vineyard
        pasture shore""",
    "box": "box basket drawer closet bucket pot jar bag sack oven vase suitcase hamper mailbox crate pail",
    "junk": """sock spider mitten crumb string leaf glove stick twig shoelace cork pen comb penny brush nail spoon sponge bead carrot
        candle cricket beetle walnut onion potato radish seed moth worm crayon bolt ladle fork rag bone petal pinecone cobweb coaster
        chestnut""",
    "food": """soup bread pie cake toast jam rice plums pears apples berries grapes cherries peaches nuts honey stew cheese beans corn
        pancakes muffins cookies noodles melon figs porridge waffles buns pudding salad popcorn lentils turnips carrots peas yogurt
        crackers pretzels dumplings""",
    "tasty": "tasty fresh good delicious yummy lovely homemade simple",
    "hobby": """painting singing dancing reading swimming cooking drawing running baking sewing gardening climbing fishing skating knitting
        hiking music stories games puzzles trains stars birds horses boats flowers drums maps riddles castles dragons kites chess
        camping juggling acting""",
    "robin": "robin sparrow crow dove owl finch wren lark gull goose duck thrush swallow magpie blackbird jay",
    "roses": "roses honey bread rain mint pine apples cinnamon lavender vanilla soap hay lemons oranges flowers grass",
    # times and weather
    "weather": "sunny windy cloudy warm cool bright quiet misty breezy mild fine calm gray fresh lovely golden",
    "season": "spring summer autumn winter",
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday morning afternoon day",
    "weekday": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "may": "January February March April May June July August September October November December",
    "after": "after before",
    "meal": "breakfast lunch class chores school practice",
    "late": "tea supper dinner dessert dancing reading singing playing",
    "dusk": "dusk sunset bedtime suppertime nightfall twilight dinnertime sundown",
    "long": "morning afternoon evening day week summer",
    "soft": "soft warm cool gentle fresh mild light sweet",
    "grass": "soft tall green cool sweet long deep thick",
    "blue": "blue pink gray white gold silver purple orange",
    "quiet": "quiet still calm peaceful silent clear bright lovely",
    "lovely": "lovely good wonderful splendid fine perfect grand long busy happy quiet beautiful",
    # what is done, and how
    "gently": """slowly quickly quietly happily gently softly carefully proudly gladly eagerly bravely calmly neatly merrily patiently
        swiftly busily cheerfully kindly cleverly playfully lightly nimbly tenderly easily silently smoothly smartly deftly joyfully
        tidily lovingly promptly steadily sweetly sleepily wisely firmly boldly""",
    "softly": """softly kindly gently warmly quietly happily proudly politely brightly eagerly sweetly shyly gladly merrily
        cheerfully thoughtfully slowly quickly dreamily sleepily excitedly playfully joyfully lovingly wisely boldly gratefully
        lightly hopefully peacefully gracefully tenderly fondly calmly bravely""",
    "said": """said cried called whispered sang cheered murmured laughed shouted announced chirped mumbled sighed exclaimed squeaked
        declared""",
    "asked": "asked wondered whispered said called murmured",
    "smiled": """smiled laughed grinned giggled clapped nodded cheered danced beamed waved hummed sang whistled bowed winked chuckled
        blushed yawned sighed jumped hopped twirled skipped chirped""",
    "smiling": """smiling laughing nodding grinning giggling pointing beaming waving winking yawning blushing chuckling humming bowing
        clapping jumping hopping twirling skipping dancing whistling stretching""",
    "came": "came ran hurried raced rushed skipped walked cycled",
    "went": "went walked ran skipped hurried strolled wandered marched hopped raced rushed danced",
    "danced": "danced ran jumped hopped skipped climbed raced rolled tumbled bounced marched strolled rushed wandered trotted hurried",
    "played": "danced played twirled jumped skipped giggled painted climbed whistled rested laughed galloped wiggled swayed sang bounced",
    "sang": "sang laughed giggled whistled hummed clapped cheered shouted",
    "chirped": "chirped sang whistled called warbled trilled",
    "slept": "slept dozed rested yawned stretched napped sat waited",
    "put": "put set laid left hid placed tucked stored",
    "hide": "hide keep leave put lay store",
    "see": "see hold use borrow try touch",
    "took": "took grabbed lifted fetched rescued collected",
    "folded": "folded hung brushed cleaned washed packed stored mended",
    "made": "made served brought prepared",
    "wow": "Hooray Oh Wow Ah Yes Goodness Hurrah Well",
}  # fmt: skip
_PHRASES = {
    "oh": "Oh|Well|Hm|Goodness|Dear me|Wait",
    "then": "Then|Soon|Later|Now|Just then|After that,|At last|Before long,",
    "manner": "| {softly}|, {smiling}|, {smiling} {softly}",
}
WORDS: dict[str, tuple[str, ...]] = {kind: tuple(words.split()) for kind, words in _LISTS.items()}
WORDS |= {kind: tuple(phrases.split("|")) for kind, phrases in _PHRASES.items()}
WORDS["name"] = WORDS["girl"] + WORDS["boy"]
NUMBERS = ("one", "two", *WORDS["number"], "ten")
