"""Strings that tokenizers get wrong: all scripts, emoji, code, numbers, white space, control tokens, broken UTF-8."""
import random

SCRIPTS = [(0x20, 0x7E), (0xA0, 0x17F), (0x180, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x530, 0x58F),
           (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0xB80, 0xBFF), (0xE00, 0xE7F), (0x10A0, 0x10FF),
           (0x1100, 0x11FF), (0x1200, 0x137F), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x209F),
           (0x20A0, 0x20CF), (0x2100, 0x214F), (0x2150, 0x218F), (0x2190, 0x22FF), (0x2460, 0x24FF), (0x2500, 0x25FF),
           (0x2600, 0x27BF), (0x3000, 0x303F), (0x3040, 0x30FF), (0x3130, 0x318F), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
           (0xF900, 0xFAFF), (0xFB00, 0xFB4F), (0xFE00, 0xFE0F), (0xFF00, 0xFFEF), (0x10330, 0x1034F), (0x1D400, 0x1D7FF),
           (0x1F300, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F900, 0x1F9FF), (0x20000, 0x2A6DF)]
WORDS = ("the of and to in a is that it was for on are as with his they I at be this have from or one had by word but not "
         "what all were we when your can said there use an each which she do how their if will up other about out many "
         "don't It's we'll I'VE you're HE'D 'Twas o'clock naïve café Straße İstanbul ſecond it'ſ "
         "internationalization Донаудампфшиффарт εὐαγγέλιον 日本語 東京都 中文字符 한국어 العربية עברית हिन्दी ไทย").split()
SPACES = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n", "\n ", "\u00a0", "\u2003", "\u3000", "\u2028", "\u200b",
          "\u0085", "\u180e", "\x0b", "\x0c", "\x1c", "\x00", "\u2581"]
EMOJI = ["😀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "❤️", "1️⃣", "🧑🏿‍🚀", "☺", "\ufe0f", "\u200d"]
CODE = ["int main() { return 0; }\n", "def f(x):\n    return x ** 2\n", "for (auto& [k, v] : map) {\n\t++k;\n}", "#include <x>",
        "a = b[i+1]->c;", "// ------\n", "/* ***** */", "https://example.org/?q=1&r=%20", "<div class=\"a\">&amp;</div>",
        "{\"k\": [1, 2.5e-3, null]}", "SELECT * FROM t WHERE x >= 10;", "\\frac{1}{2}", "foo.bar/baz//\n", "$$$", "C:\\x\\y"]
NUMBERS = ["0", "12", "123", "1234", "12345678", "3.14159", "1e-9", "٣٤٥", "Ⅷ", "½", "²", "१२३", "1,000,000", "0x1F", "𝟘𝟙"]
MARKS = ["\u0301", "\u0308", "\u0327", "\u0323", "\u05b0", "\u064b", "\u093f", "\u0e34", "\u20dd", "\u3099"]


def a_char(rng):
    if rng.random() < 0.05:
        while True:
            c = rng.randrange(0x110000)
            if not 0xD800 <= c < 0xE000:
                return chr(c)
    low, high = rng.choice(SCRIPTS)
    return chr(rng.randint(low, high))


def a_part(rng, controls):
    kind = rng.randrange(13)
    if kind == 0:
        return "".join(a_char(rng) for _ in range(rng.randint(1, 8)))
    if kind == 1:
        low, high = rng.choice(SCRIPTS)
        return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 12)))
    if kind <= 4:
        return rng.choice(["", " "]) + rng.choice(WORDS)
    if kind == 5:
        return "".join(rng.choice(SPACES) for _ in range(rng.randint(1, 4)))
    if kind == 6:
        return rng.choice(EMOJI) * rng.randint(1, 2)
    if kind == 7:
        return rng.choice(CODE)
    if kind == 8:
        return rng.choice(NUMBERS)
    if kind == 9:
        return rng.choice("aeioucnAZדकか한\u0627") + "".join(rng.choice(MARKS) for _ in range(rng.randint(1, 4)))
    if kind == 10:
        token = rng.choice(controls)
        return rng.choice([token, token[:-1], " " + token + " ", token * 2, token.upper(), "<" + token, "<0x0A>"])
    if kind == 11:
        return rng.choice(["a", " ", "\n", "=", "é", "🙂", "'", "А", "0", "\t", "-", "東", "\u0301"]) * rng.randint(2, 60)
    return rng.choice(WORDS).upper() + rng.choice([".", ", ", "!", "?!", "...", "'s", "'LL", ")", "_x", "-"])


def strings(count, controls, seed):
    """`count` byte strings: edge cases first, then random ones; about one in ten is broken UTF-8."""
    rng = random.Random(seed)
    out = [b"", b" ", b"\n", b"a", "\u2581".encode(), b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\x98",
           b"\xf4\x90\x80\x80", b"\xc0\xaf", b"a\xffb", ("x" * 5000).encode(), (" " * 5000).encode(), b"\n" * 3000,
           b"1" * 3000, ("日" * 2000).encode(), ("a" + "\u0301" * 500).encode(), ("A" * 3000).encode()]
    while len(out) < count:
        data = "".join(a_part(rng, controls) for _ in range(rng.randint(1, 8))).encode()
        if rng.random() < 0.1 and data:
            broken = bytearray(data)
            for _ in range(rng.randint(1, 3)):
                at = rng.randrange(len(broken))
                if rng.random() < 0.5:
                    broken[at] = rng.randrange(256)
                else:
                    del broken[at]
                    if not broken:
                        break
            data = bytes(broken)
        out.append(data)
    return out
