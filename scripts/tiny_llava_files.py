"""The files of a LLaVA-1.5 folder around its weights, in the layout of the published ones (pip: tokenizers).

The tokenizer is Llama's in small: BPE without a pre-tokenizer, spaces as "▁" with one before the text, bytes for what the
vocabulary cannot spell; <image> and <pad> are added behind it, as LLaVA did.
"""

import json

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

import tiny_llava_pictures as pictures

IMAGE_SIZE, PATCH = 64, 8
IMAGE_TOKENS = (IMAGE_SIZE // PATCH) ** 2
LEARNED_PIECES = 280  # single characters and merges
BOS, EOS = 1, 2
VOCAB = 512  # rows of the embedding: a multiple of 64, with room behind the last token, as LLaVA's 32064 for 32002

MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]

PREPROCESSOR = {
    "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}, "do_center_crop": True, "do_convert_rgb": True,
    "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": MEAN,
    "image_processor_type": "CLIPImageProcessor", "image_std": STD, "processor_class": "LlavaProcessor", "resample": 3,
    "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": IMAGE_SIZE}}

PROCESSOR = {"image_token": "<image>", "num_additional_image_tokens": 1, "patch_size": PATCH,
             "processor_class": "LlavaProcessor", "vision_feature_select_strategy": "default"}

# "USER: <image>\nquestion ASSISTANT: answer USER: question ASSISTANT:" as LLaVA-1.5's, images before the text.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] != 'system' -%}{{ message['role'].upper() + ': ' }}{%- endif -%}"
    "{%- if message['content'] is string -%}{{ message['content'] + ' ' }}"
    "{%- else -%}"
    "{%- for part in message['content'] -%}{%- if part['type'] == 'image' -%}{{ '<image>\\n' }}{%- endif -%}{%- endfor -%}"
    "{%- for part in message['content'] -%}{%- if part['type'] == 'text' -%}{{ part['text'] + ' ' }}{%- endif -%}{%- endfor -%}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}")


def normalizer():
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


def make_tokenizer():
    questions, answers = pictures.all_texts()
    texts = [f"USER: {q} ASSISTANT: {a}" for q in questions for a in answers]
    letters = [chr(c) for c in range(33, 127)]
    trained = Tokenizer(BPE(unk_token="<unk>"))
    trained.normalizer = normalizer()
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # merges stay inside words
    trained.train_from_iterator(texts, BpeTrainer(vocab_size=LEARNED_PIECES + 1, special_tokens=["<unk>"],
                                                  initial_alphabet=letters + ["▁"], show_progress=False))
    model = json.loads(trained.to_str())["model"]
    pieces = sorted((p for p in model["vocab"] if p != "<unk>"), key=model["vocab"].get)
    names = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + pieces
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    tokenizer = Tokenizer(BPE(vocab={n: i for i, n in enumerate(names)}, merges=merges, unk_token="<unk>",
                              fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizer()
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", BOS)])
    special = ["<unk>", "<s>", "</s>", "<image>", "<pad>"]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    assert tokenizer.get_vocab_size() <= VOCAB, tokenizer.get_vocab_size()
    return tokenizer


def model_config(tokenizer):
    text = {"architectures": ["LlamaForCausalLM"], "hidden_size": 128, "intermediate_size": 320,
            "max_position_embeddings": 1024, "model_type": "llama", "num_attention_heads": 2, "num_hidden_layers": 4,
            "num_key_value_heads": 2, "rms_norm_eps": 1e-05, "torch_dtype": "float16", "vocab_size": VOCAB,
            "bos_token_id": BOS, "eos_token_id": EOS}
    vision = {"hidden_size": 128, "image_size": IMAGE_SIZE, "intermediate_size": 384, "model_type": "clip_vision_model",
              "num_attention_heads": 2, "num_hidden_layers": 5, "patch_size": PATCH, "projection_dim": 64}
    return {"architectures": ["LlavaForConditionalGeneration"], "ignore_index": -100,
            "image_seq_length": IMAGE_TOKENS, "image_token_index": tokenizer.token_to_id("<image>"),
            "model_type": "llava", "pad_token_id": tokenizer.token_to_id("<pad>"), "projector_hidden_act": "gelu",
            "text_config": text, "tie_word_embeddings": False, "torch_dtype": "float16", "vision_config": vision,
            "vision_feature_layer": -2, "vision_feature_select_strategy": "default"}


def write_files(folder, tokenizer):
    """Everything but the weights."""
    pad = tokenizer.token_to_id("<pad>")
    tokenizer.save(str(folder / "tokenizer.json"))
    texts = {
        "config.json": model_config(tokenizer),
        "generation_config.json": {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": pad},
        "preprocessor_config.json": PREPROCESSOR,
        "processor_config.json": PROCESSOR,
        "chat_template.json": {"chat_template": CHAT_TEMPLATE},
        "special_tokens_map.json": {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
        "tokenizer_config.json": {
            "add_bos_token": True, "add_eos_token": False, "bos_token": "<s>", "eos_token": "</s>",
            "pad_token": "<pad>", "unk_token": "<unk>", "clean_up_tokenization_spaces": False,
            "model_max_length": 1024, "processor_class": "LlavaProcessor",
            "tokenizer_class": "PreTrainedTokenizerFast"},
    }
    for name, content in texts.items():
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def published_name(name):
    """A weight's name in the published folders, from what any transformers 5 calls it in memory."""
    if name == "lm_head.weight":
        return "language_model.lm_head.weight"
    name = name.removeprefix("model.")
    if name.startswith("language_model.") and not name.startswith(("language_model.model.", "language_model.lm_head.")):
        return name.replace("language_model.", "language_model.model.", 1)
    if name.startswith("vision_tower.") and not name.startswith("vision_tower.vision_model."):
        return name.replace("vision_tower.", "vision_tower.vision_model.", 1)
    return name


class Conversations:
    """Token ids of conversations, put together from pieces that are encoded once."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.image = tokenizer.token_to_id("<image>")
        self.pad = tokenizer.token_to_id("<pad>")
        self.cache = {}

    def encode(self, text, first):
        key = (text, first)
        if key not in self.cache:
            ids = self.tokenizer.encode(text, add_special_tokens=first).ids
            if first:
                at = ids.index(self.image)
                ids = ids[:at] + [self.image] * IMAGE_TOKENS + ids[at + 1:]
            self.cache[key] = ids
        return self.cache[key]

    def prompt(self, question, first=True):
        text = f"USER: <image>\n{question} ASSISTANT:" if first else f"USER: {question} ASSISTANT:"
        return self.encode(text, first)

    def answer(self, text):
        return self.encode(text, False)

    def training(self, turns, length):
        """(ids, targets) of as many (question, answer) turns as fit; target -100 where nothing is asked."""
        ids, targets = [], []
        for number, (question, answer) in enumerate(turns):
            prompt, reply = self.prompt(question, number == 0), self.answer(answer)
            if len(ids) + len(prompt) + len(reply) > length:
                break
            ids += prompt + reply
            targets += [-100] * (len(prompt) - 1) + reply + [EOS]
        missing = length - len(ids)
        return ids + [self.pad] * missing, targets + [-100] * missing
