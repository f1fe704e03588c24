"""The words of the synthetic customer-support world, and which of them are held out.

Every list here is closed and lower case, and no word plays two of the roles that decide a label
(checked by `check_lexicon`). Words of `HELD_OUT_DEPARTMENTS` may be *named* in pretraining (their
team and their item name are facts of the world) but never decide a label; the words of
`CASE_LABELS` may be copied (sign-offs, openings) but are never a label.
"""

from __future__ import annotations

# department: "canonical/other surface form" for each of its items
_DEPARTMENTS = """
billing: invoice/bill card/debit coupon/voucher deposit/prepayment
delivery: parcel/package courier/driver address/location pallet/crate
access: password/passcode login/signin account/profile token/pincode
kitchen: kettle/boiler oven/cooker toaster/grill fridge/freezer
clothing: jacket/coat shoes/boots dress/gown scarf/shawl
travel: flight/plane hotel/room train/rail visa/permit
garden: mower/trimmer hose/sprinkler shovel/spade fence/railing
toys: puzzle/jigsaw doll/figurine kite/glider robot/drone
music: guitar/ukulele piano/organ drum/cymbal violin/cello
bath: towel/robe soap/lotion shower/faucet sponge/loofah
bedding: pillow/cushion blanket/quilt mattress/futon sheet/duvet
office: printer/copier stapler/puncher folder/binder pencil/marker
sports: racket/paddle helmet/visor skates/skis barbell/dumbbell
camping: tent/canopy torch/flashlight burner/campstove backpack/rucksack
fishing: rod/reel bait/lure net/trap hook/sinker
pets: leash/collar kennel/basket aquarium/fishbowl kibble/petfood
bakery: bread/loaf cake/pastry cookie/biscuit flour/yeast
dairy: milk/cream cheese/cheddar butter/margarine yogurt/kefir
drinks: juice/nectar coffee/espresso soda/lemonade wine/cider
jewelry: ring/band necklace/pendant bracelet/bangle earring/brooch
optics: glasses/spectacles lens/contacts telescope/binoculars microscope/magnifier
power: battery/charger cable/cord socket/plug inverter/generator
heating: radiator/heater stove/fireplace thermostat/dial chimney/flue
lighting: lamp/bulb chandelier/sconce candle/taper switch/dimmer
painting: brush/roller canvas/easel varnish/primer palette/pigment
tools: hammer/mallet drill/auger saw/hacksaw wrench/spanner
plumbing: pipe/tubing valve/gasket sink/basin pump/sump
storage: shelf/rack drawer/cabinet locker/safe bin/hamper
baby: stroller/pram crib/cradle diaper/nappy bottle/pacifier
cinema: movie/film popcorn/nachos seat/balcony trailer/preview
insurance: claim/payout premium/surcharge coverage/warranty accident/collision
banking: loan/credit savings/pension mortgage/lease transfer/wire
telecom: phone/handset router/modem antenna/mast roaming/datapass
gaming: console/gamepad joystick/joypad avatar/skin quest/mission
cleaning: mop/broom vacuum/hoover bleach/detergent bucket/pail
farming: tractor/plough seeds/seedlings barn/silo fertilizer/compost
cycling: bicycle/bike saddle/pannier chain/sprocket handlebar/bell
craft: yarn/wool needle/thimble ribbon/lace glue/paste
vorkal: blim/zeff drago/ponk tulvi/sorb menka/griv
ostrim: felgo/wuno carbi/teld yosh/nemp krall/dovi
pelluno: sint/vaska holmo/rupt gleb/zinta corvu/mib
tandrix: oplo/jun weft/skor bindo/phal quorn/ulma
mizzar: drel/kapo fonti/gorsk lumbo/tasp nivex/orb
jebulon: harv/polk estu/ximo bral/cuvo tenk/wad
media: screen/display camera/webcam speaker/headset keyboard/keypad
pharmacy: medicine/tablets bandage/plaster syrup/tonic thermometer/probe
school: course/lesson textbook/workbook exam/quiz tutor/teacher
motor: tyre/wheel engine/gearbox brake/pedal mirror/windscreen
boating: sail/rigging canoe/kayak oar/rudder dinghy/raft
museum: statue/bust relic/artifact exhibit/gallery fossil/skeleton
security: alarm/siren padlock/latch badge/lanyard gate/barrier
"""

DEPARTMENTS: dict[str, list[tuple[str, ...]]] = {
    line.split(": ")[0]: [tuple(item.split("/")) for item in line.split(": ")[1].split()]
    for line in _DEPARTMENTS.strip().splitlines()
}
HARD_DEPARTMENTS = ["media", "pharmacy", "school", "motor"]
EASY_DEPARTMENTS = ["boating", "museum", "security"]
HELD_OUT_DEPARTMENTS = HARD_DEPARTMENTS + EASY_DEPARTMENTS
TRAIN_DEPARTMENTS = [name for name in DEPARTMENTS if name not in HELD_OUT_DEPARTMENTS]

ITEM_FORMS = {forms[0]: forms for items in DEPARTMENTS.values() for forms in items}
ITEM_DEPARTMENT = {forms[0]: name for name, items in DEPARTMENTS.items() for forms in items}
ITEMS = list(ITEM_FORMS)
TRAIN_ITEMS = [item for item in ITEMS if ITEM_DEPARTMENT[item] in TRAIN_DEPARTMENTS]
HARD_ITEMS = [item for item in ITEMS if ITEM_DEPARTMENT[item] in HARD_DEPARTMENTS]
EASY_ITEMS = [item for item in ITEMS if ITEM_DEPARTMENT[item] in EASY_DEPARTMENTS]
HELD_OUT_ITEMS = HARD_ITEMS + EASY_ITEMS
HELD_OUT_WORDS = frozenset(
    form for item in HELD_OUT_ITEMS for form in ITEM_FORMS[item]
) | frozenset(HELD_OUT_DEPARTMENTS)

# problem: phrasings; {x} is the item, {n} a number of days
PROBLEMS: dict[str, list[str]] = {
    "late": [
        "my {x} never arrived",
        "the {x} is still not here",
        "i wait for my {x} since {n} days",
    ],
    "broken": [
        "my {x} broke after {n} days",
        "the {x} stopped working",
        "there is a crack in my {x}",
    ],
    "wrong": ["i got the wrong {x}", "this is not the {x} i ordered", "you sent a different {x}"],
    "double": [
        "charged twice for my {x}",
        "the {x} appears two times",
        "you counted my {x} double",
    ],
    "locked": ["my {x} is locked", "i can not open my {x}", "the {x} is blocked since {n} days"],
    "pricey": ["the {x} costs too much", "the price of my {x} rose", "my {x} is {n} dollars over"],
    "unclear": ["i do not understand my {x}", "how does the {x} work", "please explain the {x}"],
    "cancel": ["i want to cancel my {x}", "please stop my {x}", "i no longer need the {x}"],
    "noisy": ["my {x} is very loud", "a strange noise from the {x}", "the {x} keeps buzzing"],
    "lost": ["i lost my {x}", "my {x} has gone missing", "i can not find the {x}"],
    "dirty": ["my {x} came dirty", "there are stains on the {x}", "the {x} smells bad"],
    "size": ["my {x} is too small", "the {x} does not fit", "i need a larger {x}"],
}
HELD_OUT_PROBLEMS = ["dirty", "size"]  # never decide a label
TRAIN_PROBLEMS = [name for name in PROBLEMS if name not in HELD_OUT_PROBLEMS]
ACTIONS = {
    "late": "track it",
    "broken": "repair it",
    "wrong": "exchange it",
    "double": "refund the extra charge",
    "locked": "unlock it",
    "pricey": "check the price",
    "unclear": "send a guide",
    "cancel": "close the order",
    "noisy": "inspect it",
    "lost": "send a new one",
    "dirty": "clean it",
    "size": "swap the size",
}
MOOD_PHRASES = {
    "calm": ["thank you", "no hurry", "kind regards", "many thanks", "when you have time"],
    "angry": ["this is a disgrace", "fix it now", "i am furious", "what a joke", "never again"],
}
OPENERS = ["hello", "hi", "hi there", "good morning", "hello team"]
NAMES = (
    "anna ben carla david elena felix grace hugo iris jonas karim lena marco nina oscar paula "
    "quinn rosa samir tessa umar vera wanda yusuf zoe adam bella carlos daria emil fatima "
    "george hana igor julia kevin laura mia noah olga"
).split()
CITIES = (
    "berlin madrid oslo paris rome vienna dublin lisbon prague athens warsaw cairo delhi tokyo "
    "lima boston denver"
).split()
LABELS = (
    "red blue green black white amber purple silver north south east west falcon eagle raven "
    "heron wolf tiger bear lynx alpha beta gamma delta omega sigma one two three four five six "
    "seven eight apple lemon cherry plum oak pine maple birch moon star comet cloud river lake "
    "ocean hill stone iron copper gold king queen bishop knight circle square line cube yes no "
    "true false high low up down left right fast slow early open closed urgent normal good bad "
    "positive negative neutral first second third other spam keep reject accept refuse sales "
    "support returns orders"
).split()
CASE_LABELS = ["harbor", "ledger", "bench", "beacon", "lantern", "anchor", "meadow"]
HARD_LABELS = ["anchor", "ledger", "lantern", "bench"]
EASY_LABELS = ["lantern", "anchor", "meadow"]
BRAND_WORDS = ["ahoy", "savile", "winds", "fair"]

# fixed-meaning operation wordings, and the verbs that are re-mapped to plus or minus per document
PLUS_WORDINGS = ["plus {b}", "add {b}", "{b} more", "gain {b}", "get {b}"]
MINUS_WORDINGS = ["minus {b}", "take away {b}", "{b} less", "lose {b}", "give {b}"]
FREE_VERBS = (
    "grab drop pay earn ship win sell buy pass post draw push pull lift load fill pour move "
    "return trade swap lend borrow spend save raise cut bump dock top trim boost shave credit "
    "void reverse book claim waive owe settle deliver collect donate stack spill melt freeze "
    "gather scatter"
).split()
CASE_VERBS = ["refund", "charge"]  # held out of arithmetic
THINGS = ["points", "coins", "items", "boxes", "seats", "stamps", "miles", "dollars"]
SIGN_WORDS = ["acme", "zenith", "orbit", "lumen", "desk", "help", "shop", "team", "care", "house"]

CONSONANTS = [
    "b",
    "d",
    "f",
    "g",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "z",
    "st",
    "br",
    "ch",
]
VOWELS = ["a", "e", "i", "o", "u", "ai", "oo"]
ENDINGS = ["", "", "n", "r", "l", "x", "sk", "m", "t"]


def check_lexicon() -> None:
    """Raise ValueError where a word plays two roles that could decide or be a label."""
    seen: dict[str, str] = {}
    roles = {
        "item": [form for forms in ITEM_FORMS.values() for form in forms],
        "department": list(DEPARTMENTS),
        "problem": list(PROBLEMS),
        "name": NAMES,
        "city": CITIES,
        "label": LABELS,
        "case label": CASE_LABELS,
        "brand": BRAND_WORDS,
    }
    for role, words in roles.items():
        for word in words:
            if word in seen:
                raise ValueError(f"{word!r} is both {seen[word]} and {role}")
            seen[word] = role


def all_words() -> list[str]:
    """Every word of the world that should be a single token."""
    forms = [form for forms in ITEM_FORMS.values() for form in forms]
    words = forms + list(DEPARTMENTS) + list(PROBLEMS) + NAMES + CITIES + LABELS + CASE_LABELS
    words += BRAND_WORDS + FREE_VERBS + CASE_VERBS + THINGS + SIGN_WORDS
    words += [str(number) for number in range(100)]
    return list(dict.fromkeys(words))
