#!/usr/bin/env python3
"""Writes tests/golden/tokenizer/: small tokenizers of every kind with what the references make of some strings.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3
    python3 scripts/make_tokenizer_golden.py tests/golden/tokenizer

<name>/tokenizer.json   trained here on generated strings, about 500 tokens
<name>/cases.tsv        a string in hex, its ids as trusted text with the post-processor's tokens, its ids as untrusted
                        text ("=" when these are the trusted ids without the post-processor's), the decoded trusted
                        ids (hex) with and without control tokens ("=" when the same)
<name>/decode.tsv       ids, decoded (hex) with and without control tokens ("=" when the same)
sentencepiece/pieces.tsv, cases.tsv   pieces (hex), score and GGUF token type; strings in hex and their ids
"""
import io
import json
import pathlib
import random
import sys

import sentencepiece
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

from tokenizer_json import PATTERNS
from tokenizer_strings import strings

CASES = 400
SPACE = "\u2581"


def corpus(seed):
    return [s.decode("utf-8", errors="ignore") for s in strings(4000, ["<x>"], seed) if len(s) < 500]


def short_strings(tokenizer, seed):
    added = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
    return [s for s in strings(CASES * 4, added, seed) if len(s) < 80][:CASES]


def train(tokenizer, size, alphabet=()):
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=list(alphabet), limit_alphabet=max(len(alphabet), 120),
                                  show_progress=False, max_token_length=16)
    tokenizer.train_from_iterator(corpus(7), trainer)


def byte_level(pre_tokenizer, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    train(tokenizer, 480, pre_tokenizers.ByteLevel.alphabet())
    return tokenizer


def gpt2():
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True))
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


def smollm():
    tokenizer = byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(True),
                                                    pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return tokenizer


def split(name):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERNS[name]), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def llama3():
    tokenizer = byte_level(split("llama3"), ignore_merges=True)
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
    begin = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)])])
    return tokenizer


def qwen2():
    tokenizer = byte_level(split("qwen2"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("<l>", lstrip=True, normalized=False),
                          AddedToken("<r>", rstrip=True), AddedToken("word", single_word=True, normalized=True)])
    return tokenizer


def tekken():
    tokenizer = byte_level(split("tekken"), ignore_merges=True)
    tokenizer.add_special_tokens(["<s>", "</s>", "[INST]"])
    return tokenizer


def with_byte_tokens(trained, **options):
    """The trained merges in a vocabulary that begins as Llama 2's does."""
    model = json.loads(trained.to_str())["model"]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    tokens += [t for t in sorted(model["vocab"], key=model["vocab"].get) if t not in tokens]
    merges = [tuple(m) for m in model["merges"]]
    return Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges, unk_token="<unk>", **options))


def sentencepiece_style():
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", SPACE)
    train(trained, 300)
    return trained


def llama2():
    tokenizer = with_byte_tokens(sentencepiece_style(), fuse_unk=True, byte_fallback=True)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def metaspace(scheme, split_words, **options):
    tokenizer = with_byte_tokens(sentencepiece_style(), **options)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme=scheme, split=split_words)
    tokenizer.decoder = decoders.Metaspace(SPACE, prepend_scheme=scheme, split=split_words)
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def odd():
    """Steps that few models have, and a pattern that has no scanner."""
    tokenizer = byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\s?\p{L}+|\s+$"), "merged_with_previous"),
        pre_tokenizers.Split("--", "merged_with_next"), pre_tokenizers.Punctuation("contiguous"),
        pre_tokenizers.Split(Regex(r"[^\s]+"), "isolated", invert=True), pre_tokenizers.Digits(False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip(left=False, right=True),
        normalizers.Replace(Regex(r"\s{2,}"), "  "), normalizers.Replace("...", "\u2026")])
    tokenizer.add_special_tokens(["<s>", "</s>", AddedToken("<mask>", lstrip=True, rstrip=True, special=True)])
    tokenizer.add_tokens(["naïve"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", tokenizer.token_to_id("</s>")),
                                                            ("<s>", tokenizer.token_to_id("<s>")))
    return tokenizer


def ids_of(tokenizer, text, special, trusted):
    tokenizer.encode_special_tokens = not trusted
    return tokenizer.encode(text, add_special_tokens=special).ids


def decoded(tokenizer, ids):
    whole, plain = (tokenizer.decode(ids, skip_special_tokens=skip).encode().hex() for skip in (False, True))
    return whole + "\t" + ("=" if plain == whole else plain)


def joined(ids):
    return " ".join(map(str, ids))


def write(folder, tokenizer, seed):
    folder.mkdir(parents=True, exist_ok=True)
    definition = json.loads(tokenizer.to_str())
    definition["model"]["merges"] = [" ".join(m) for m in definition["model"]["merges"]] if seed % 2 else \
        definition["model"]["merges"]  # both spellings of merges
    (folder / "tokenizer.json").write_text(json.dumps(definition, ensure_ascii=False, separators=(",", ":")))
    special = {i for i, t in tokenizer.get_added_tokens_decoder().items() if t.special}
    with open(folder / "cases.tsv", "w") as out:
        for data in short_strings(tokenizer, seed):
            text = data.decode("utf-8", errors="replace")
            ids = ids_of(tokenizer, text, True, True)
            untrusted = ids_of(tokenizer, text, False, False)
            if special & set(untrusted) - {0 if tokenizer.model.unk_token else None}:
                continue  # the reference lets merges make control tokens
            same = untrusted == ids_of(tokenizer, text, False, True)
            out.write(f"{data.hex()}\t{joined(ids)}\t{'=' if same else joined(untrusted)}\t{decoded(tokenizer, ids)}\n")
    rng = random.Random(seed)
    size = tokenizer.get_vocab_size()
    with open(folder / "decode.tsv", "w") as out:
        for _ in range(CASES // 2):
            ids = [rng.randrange(size + 3) for _ in range(rng.randint(0, 10))]
            out.write(f"{joined(ids)}\t{decoded(tokenizer, ids)}\n")


def write_sentencepiece(folder):
    folder.mkdir(parents=True, exist_ok=True)
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([t.replace("\n", " ").replace("\x00", " ") for t in corpus(8) if max(t, default="") < "\u0500"]),
        model_writer=written, vocab_size=800, model_type="bpe", byte_fallback=True, character_coverage=0.98, normalization_rule_name="identity",
        remove_extra_whitespaces=False, hard_vocab_limit=True, num_threads=1, minloglevel=2)
    model = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    with open(folder / "pieces.tsv", "w") as out:
        for i in range(model.vocab_size()):
            kind = 2 if model.is_unknown(i) else 3 if model.is_control(i) else 6 if model.is_byte(i) else 1
            out.write(f"{model.id_to_piece(i).encode().hex()}\t{model.get_score(i)}\t{kind}\n")
    with open(folder / "cases.tsv", "w") as out:
        for data in [s for s in strings(CASES * 2, ["<s>", "</s>"], 11) if len(s) < 120]:
            text = data.decode("utf-8", errors="replace")
            out.write(f"{data.hex()}\t{joined(model.encode(text))}\n")


def main():
    out = pathlib.Path(sys.argv[1])
    kinds = {"gpt2": gpt2, "smollm": smollm, "llama3": llama3, "qwen2": qwen2, "tekken": tekken, "llama2": llama2,
             "metaspace_first": lambda: metaspace("first", False, fuse_unk=False, byte_fallback=False),
             "metaspace_always": lambda: metaspace("always", True, fuse_unk=True, byte_fallback=False), "odd": odd}
    for seed, (name, make) in enumerate(kinds.items()):
        write(out / name, make(), seed)
    write_sentencepiece(out / "sentencepiece")


main()
