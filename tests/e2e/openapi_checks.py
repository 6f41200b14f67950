"""A check for schemathesis: a body that fits openapi.json is refused only for what a schema cannot say, and the refusal
says it. scripts/check_api.sh loads this."""
import json
import re

import schemathesis

# What the document cannot express: by the field that the error names, and what its message says.
BEYOND_THE_SCHEMA = [
    ("top_logprobs", "needs logprobs"), ("stream_options", "for stream: true only"), ("logprobs", "echo with logprobs"),
    ("logit_bias", "no id of the vocabulary"),  # names are bound by a pattern alone
    ("best_of", "not supported"), ("n", "prompts times n"), ("grammar", "exclude each other"),
    ("response_format", "forced tool call"), ("tool_choice", "no tools are given"), ("tool_choice", "not among the tools"),
    ("stop", "bytes, not"), (r"messages\[\d+\]\.content.*", "text only|data: URL|base64|images"),
    ("messages|prompt|input", "with a context of"),  # a prompt that is too long
    ("response_format|grammar|tools", "schema|grammar|first"),  # a form that cannot be compiled
    ("tools", "no place for them"), ("messages", "chat template leaves out"),
    (None, "schema|grammar"),
]


def excused(error):
    return any((re.fullmatch(param, error["param"] or "") if param else error["param"] is None) and
               re.search(message, error["message"]) for param, message in BEYOND_THE_SCHEMA)


@schemathesis.check
def refusals_have_a_reason(ctx, response, case):
    generated = case.meta and case.meta.generation
    if response.status_code != 400 or generated is None or not generated.mode.is_positive:
        return
    error = json.loads(response.content)["error"]
    assert excused(error), f"a body that fits the document was refused: {error['message']} ({error['param']})"
