"""Builds Hugging Face tokenizers from the vocabularies that other formats carry; used by check_tokenizers.py.

    pip install tokenizers sentencepiece gguf
    python3 scripts/tokenizer_json.py tiktoken FILE llama3|qwen2|qwen35|llama4 > tokenizer.json
    python3 scripts/tokenizer_json.py sentencepiece FILE > tokenizer.json
"""
import base64
import json
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
PATTERNS = {
    "llama3": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES,
    "qwen2": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES,
    "qwen35": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + SPACES,
    "tekken": rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}"
              r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES,
    "llama4": rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?"
              rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?|\p{{N}}{{1,3}}"
              r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES,
}
SPECIALS = {
    "llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>",
               "<|eot_id|>", "<|python_tag|>"],
    "qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>"],
    "qwen35": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "tekken": ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]"],
    "llama4": ["<|begin_of_text|>", "<|end_of_text|>", "<|header_start|>", "<|header_end|>", "<|eot|>"],
}


def byte_alphabet():
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


ALPHABET = byte_alphabet()


def spell(data):
    return "".join(ALPHABET[b] for b in data)


def read_tiktoken(path):
    ranks = {}
    for line in open(path, "rb"):
        if line.strip():
            token, rank = line.split()
            ranks[base64.b64decode(token)] = int(rank)
    return ranks


def merges_of(order):
    """(left, right) for every way to cut each token in two tokens, by the rank of the whole, then of the parts."""
    merges = []
    for token, rank in order.items():
        cuts = [(token[:i], token[i:]) for i in range(1, len(token))]
        cuts = [(a, b) for a, b in cuts if a in order and b in order]
        merges += [(rank, order[a], order[b], a, b) for a, b in cuts]
    return [(a, b) for _, _, _, a, b in sorted(merges)]


def byte_level(ranks, name):
    """A tokenizer of bytes -> rank with the split pattern and some control tokens of the model family."""
    vocab = {spell(token): rank for token, rank in ranks.items()}
    merges = [(spell(a), spell(b)) for a, b in merges_of(ranks)]
    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=name in ("llama3", "tekken")))
    if name.startswith("qwen"):
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERNS[name]), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIALS[name]])
    if name.startswith("qwen"):
        tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("</tool_call>", normalized=False)])
    return tokenizer


def sentencepiece(path, metaspace=False):
    """A SentencePiece BPE model as tokenizer.json has it: Llama 2's way, or with a Metaspace pre-tokenizer."""
    from sentencepiece import SentencePieceProcessor
    model = SentencePieceProcessor(model_file=path)
    size = model.vocab_size()
    vocab = {model.id_to_piece(i): i for i in range(size)}
    score = {model.id_to_piece(i): -model.get_score(i) for i in range(size)}
    plain = {p: i for p, i in vocab.items() if not (model.is_control(i) or model.is_unknown(i) or model.is_byte(i))}
    merges = []
    for piece in plain:
        cuts = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        merges += [(score[piece], vocab[a], vocab[b], a, b) for a, b in cuts if a in plain and b in plain]
    merges = [(a, b) for _, _, _, a, b in sorted(merges)]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    space = "\u2581"
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(space, prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(space), normalizers.Replace(" ", space)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace(space, " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    controls = [model.id_to_piece(i) for i in range(size) if model.is_control(i) or model.is_unknown(i)]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in controls])
    return tokenizer


def main():
    kind, path = sys.argv[1:3]
    tokenizer = byte_level(read_tiktoken(path), sys.argv[3]) if kind == "tiktoken" else sentencepiece(path)
    json.dump(json.loads(tokenizer.to_str()), sys.stdout, ensure_ascii=False)


if __name__ == "__main__":
    main()
