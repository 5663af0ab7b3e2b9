"""Which emoji are drawn, and the plain words by which people ask for them."""

from __future__ import annotations

# Distinct at 128 pixels, and nameable at sight: near-identical faces, clocks, hands and signs are left out.
SELECTION = (
    "😀😂😍😎😭😡😴🤢🥶🤠🤡🤖👻👽💀💩👾😈🤯😷😺🎅👹"
    "🐵🐶🦊🦁🐯🐴🦄🦓🐮🐷🐭🐰🐻🐨🐼🐸🐔🐧🦉🦆🐤🦇🐺🐢🐍🐙🦀🐠🐬🐳🦈🐌🦋🐞🐝🐘🦒🦔🦩🦜🐊🦖🕷"
    "🌹🌻🌷🌸🌲🌴🌵🍀🍁🍄"
    "🍇🍉🍊🍋🍌🍍🍎🍏🍐🍑🍒🍓🥝🍅🥥🥑🍆🥕🌽🥦🍞🥐🥨🥞🧀"
    "🍔🍟🍕🌭🌮🍳🍿🍦🍩🍪🎂🍰🧁🍭🍯☕🍷🍺🥤🍣🍙"
    "🚗🚕🚌🚒🚜🚲🚂🚀🛸✈🚁⛵🚢🚦⚓🏠🏰⛺🗽🌋🎡"
    "☀🌙⭐☁🌈⛄🔥💧❄⚡🪐🌍☂"
    "⚽🏀🎾🏈🎱🎈🎁🎄🎃🏆🎲🎸🎺🥁🎨🎯👑💎💍🎩👕👖👗👟👠☎💻📷📺💡📖✏✂🔑🔒🔨⏰⌛💣🔔🎧🎤🧲🧸🛒🚪🪣💰✉🛡⚙"
    "❤💙💚💔✅❌⚠🛑☯👍👀💪🧠🦷"
)
# Chosen later by the same measure; they stand behind, so that the numbers of the first stay what they were.
FURTHER = (
    "😇🤔🤓🥳😱🤑🧐👺🙈🧡💛💜🖤💘💋💯💥💬👎✌👌✋👊🙏👂👃🦶🦴👁👄"
    "👶👮👸🧙🧛🥷👴💃👣🦍🐩🦝🐆🦌🐑🐐🐪🦙🦣🦏🦛🐹🦥🦘🐿🐾🐗"
    "🐓🐣🐦🦅🦢🦚🦎🐲🦕🦭🐡🐚🦞🦐🦑🐛🐜🕸🦂🪷🌺🌱🪴🌳🌾🍂🪺"
    "🍈🥭🫐🥔🌶🫑🥒🧄🧅🥜🌰🥖🥯🧇🍖🍗🥩🥓🥪🥚🥗🍜🍤🥟🥧🍫🍬🍮🥛🫖🍸🍹🍾🧊🥄🔪🏺"
    "🧭🏔🏝🏛🧱🪨🪵🗼⛪⛩🎪💈🚑🚚🏍🛵🛹⛽🛟🪂⌚🌕🌪🌧🌊🎆🎉🎀🏅⚾🏐🏓🥊⛸🪁🔮🎮🧩♠♟🧶"
    "👓👔🧣🧤🧥🧦👜🎒🎓🧢💄📣🎵🎷🎹🎻📱🔋🔌💾💿🔍🕯🔦📚📜💵📦🖌📅📎🪓🗡🏹🔧🪛⚖🔬💊🪟🛏🪑🚽🛁🧹🧯🗿☢♻❓❗🏁🚩"
)
# The rest of what can be told apart at 128 pixels and named: of animals, vehicles and people one picture each, no
# skin tones, flags of countries, clocks or letters.
LAST = (
    "🙃😉🥰🤩😘😛🤪🤗🤫🤐🙄🤥🤤🤒🤕🤮🤧🥵😵🥸😳🥺🥱😤🤬☠💌💝💖💞💕❣🩷🤎🤍🩵💢💫💦💨🕳💭💤"
    "🖖🤞🤘🤙👈👉👆👇☝🙌🫶🤝✍💅🤳🦾🦿🦵🫀🫁👅👧👦👨👩🧔👵🙅🙋🤦🤷🕵💂👷🤴🧕🤵👰🤰👼🤶🦸🦹🧚🧜🧝🧞🧟🧌💇🚶🏃🕺🧖🧗"
    "🤺🏇⛷🏂🏄🚣🏊🏋🚴🤸🤹🧘🛀👭💑👤👪"
    "🦧🫎🫏🦬🐂🐽🐏🐫🐀🦫🦦🦨🦡🦃🐥🕊🦤🪶🪽🪿🪸🪼🦪🪲🦗🪳🦟🪰🪱🦠💐💮🥀🌼🪻🌿☘🍃🪹🫒"
    "🥬🫘🫚🫛🫓🌯🫔🥙🧆🥘🍲🫕🥣🧈🧂🥫🍱🍚🍛🍝🍠🍢🍥🥮🍡🥠🥡🍧🍼🍵🍶🍻🥂🥃🧋🧃🧉🥢🍴🫙"
    "🌎🌐🗺🗻🏕🏖🏜🏞🏟🏗🛖🏡🏢🏥🏦🏪🏭🏯🕌🛕🕋⛲🌃🌅🌆🌉♨🎠🛝🎢🚃🚅🚇🚋🚎🚓🚙🛻🚛🏎🦽🛺🛴🛼🚏🛣🛤🛢🛞🚨🚥🚧🛶🚤🛳"
    "🛫🛬💺🚠🛰🛎🧳⏱🕰🕒🌑🌓🌚🌛🌡🌝🌞🌠🌌⛅⛈🌤🌫🌬🌀🌂☔⛱☄"
    "🎇🧨✨🎊🎋🎍🎎🎏🎐🎑🧧🎗🎟🎫🎖🥇🥈🏉🥏🎳🏏🏑🏒🥍🏸🥋🥅⛳🎣🤿🎽🎿🛷🥌🪀🔫🪄🕹🎰🪅🪩🪆♦♣🃏🀄🎴🎭🖼🧵🪡🪢"
    "🕶🥽🥼🦺👘🥻🩱🩲🩳👙👚🪭👛👝🛍🩴👞🥾👡🩰👢👒🪖⛑📿🔇🔊📢📯🔕🎼🎶🎙🎚🎛📻🪗🪕🪘🪇🪈📞📟📠🪫🖥🖨⌨🖱💽🧮🎥🎞📽🎬📹📼🏮🪔"
    "📔📕📗📘📙📃📰🗞📑🔖🏷🪙💴💶💸💳🧾💹📧📥📫📮🗳🖋🖊🖍📝💼📁📆🗓📈📊📋📌📍📏📐🗄🗑🔐🗝⛏🛠⚔🪃🪚🔩🗜🦯🔗⛓🪝🧰🪜"
    "⚗🧪🧫🧬🔭📡💉🩸🩹🩼🩺🩻🛗🪞🛋🪠🚿🪤🪒🧴🧷🧺🧻🧼🫧🪥🧽🚬⚰🪦⚱🧿🪬🪧🪪"
    "♿🚻🚼⛔🚫🚭☣⬆➡⬇⬅🔄⚛🕉✡☸✝☪☮🕎▶⏸⏹📶✖➕➖➗♾💲⚕⚜🔱📛🔰⭕✔✴"
    "🔴🟠🟡🟢🔵🟣🟤🟥🟧🟨🟩🟦🟪🔶🔷🔺💠🔟🆗🆕🆘🅿ℹ"
)
# In this order everywhere: numbers of emoji stay what they were when others join behind.
EMOJI = SELECTION + FURTHER + LAST
# Plain words where the official name hides them; "|" parts several.
ALIASES = {
    "😀": "smiling face",
    "😂": "laughing face",
    "😍": "love face",
    "😎": "cool face",
    "😭": "crying face",
    "😡": "angry face",
    "😴": "sleepy face",
    "🤢": "sick face",
    "😺": "smiling cat|cat|cat face",
    "💩": "poop",
    "🎅": "santa",
    "👾": "space invader",
    "😈": "devil",
    "🐵": "monkey",
    "🐶": "dog",
    "🐯": "tiger",
    "🐴": "horse",
    "🐮": "cow",
    "🐷": "pig",
    "🐭": "mouse",
    "🐰": "rabbit",
    "🐤": "chick",
    "🐠": "fish",
    "🐳": "whale",
    "🐞": "ladybug",
    "🐝": "bee",
    "🦖": "dinosaur",
    "🍀": "clover",
    "🍊": "orange",
    "🌽": "corn",
    "🍔": "burger",
    "🍳": "fried egg",
    "🍦": "ice cream",
    "🍰": "cake slice",
    "🎂": "cake",
    "☕": "coffee cup",
    "🍺": "beer",
    "🍯": "honey",
    "🚗": "red car",
    "🚒": "fire truck",
    "🚂": "train",
    "🛸": "ufo",
    "🪐": "saturn",
    "🌍": "earth",
    "🌙": "moon",
    "⛄": "snowman",
    "⚡": "lightning",
    "⚽": "football",
    "🎱": "black ball",
    "🎁": "gift",
    "🎃": "pumpkin",
    "🎯": "target",
    "💎": "diamond",
    "🎩": "hat",
    "👕": "shirt",
    "👟": "sneaker",
    "👠": "red shoe",
    "💻": "computer",
    "📺": "tv",
    "📖": "book",
    "🔒": "padlock",
    "⌛": "hourglass",
    "🎧": "headphones",
    "🧸": "teddy",
    "✉": "letter",
    "⚙": "cog",
    "❤": "heart",
    "✅": "green check mark",
    "❌": "red cross",
    "💪": "strong arm",
    "🔥": "flame",
    "💧": "water drop",
    "🗽": "liberty statue",
    "☎": "phone",
    "🥤": "soda",
    "😇": "angel face",
    "🥳": "party face",
    "😱": "screaming face",
    "🤑": "money face",
    "🧐": "monocle face",
    "🙈": "hiding monkey",
    "💘": "arrow heart",
    "💋": "kiss",
    "💯": "hundred",
    "💥": "explosion",
    "💬": "speech bubble",
    "✌": "victory",
    "👌": "ok",
    "✋": "hand",
    "👊": "fist",
    "🙏": "praying hands",
    "👄": "lips",
    "👮": "police",
    "🧙": "wizard",
    "👴": "grandfather",
    "💃": "dancer",
    "🐑": "sheep",
    "🐿": "squirrel",
    "🐾": "paws",
    "🐲": "dragon",
    "🦕": "long neck dinosaur",
    "🐡": "pufferfish",
    "🐚": "shell",
    "🐛": "caterpillar",
    "🕸": "spiderweb",
    "🌺": "pink flower",
    "🌱": "sprout",
    "🪴": "house plant",
    "🌳": "tree",
    "🌾": "rice plant",
    "🍂": "autumn leaf",
    "🪺": "nest",
    "🫐": "blueberry",
    "🌶": "chili",
    "🫑": "green pepper",
    "🥜": "peanut",
    "🥖": "baguette",
    "🍗": "chicken leg",
    "🥩": "steak",
    "🥗": "salad",
    "🍜": "noodle soup",
    "🍤": "shrimp tempura",
    "🍫": "chocolate",
    "🍮": "pudding",
    "🥛": "milk",
    "🫖": "tea pot",
    "🍸": "cocktail",
    "🍾": "champagne",
    "🧊": "ice cube",
    "🔪": "knife",
    "🏺": "vase",
    "🏔": "mountain",
    "🏝": "island",
    "🏛": "temple",
    "🧱": "bricks",
    "🪵": "log",
    "🗼": "red tower",
    "⛩": "torii gate",
    "🎪": "circus",
    "🚚": "truck",
    "🛵": "scooter",
    "⛽": "gas pump",
    "🛟": "life ring",
    "🌧": "rain",
    "🌊": "wave",
    "🎉": "confetti",
    "🎀": "bow",
    "🏅": "medal",
    "🏓": "table tennis",
    "🎮": "game controller",
    "🧩": "puzzle",
    "♠": "spade",
    "♟": "pawn",
    "🧶": "yarn ball",
    "👔": "shirt and tie",
    "👜": "bag",
    "🧢": "cap",
    "🎵": "music note",
    "🎹": "piano",
    "📱": "smartphone",
    "🔌": "plug",
    "💿": "cd",
    "🔍": "magnifying glass",
    "📜": "parchment",
    "💵": "money",
    "📦": "box",
    "🖌": "brush",
    "📎": "paper clip",
    "🗡": "sword",
    "⚖": "scales",
    "🗿": "stone head",
    "♻": "recycling",
    "❓": "question mark",
    "❗": "exclamation mark",
    "🏁": "racing flag",
    "🚩": "red flag",
}
