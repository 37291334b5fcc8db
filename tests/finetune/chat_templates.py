"""Chat templates to test with: TRL's pairs, other families, conversations, a small tokenizer.

``python -m tests.finetune.chat_templates`` prints how many masks of TRL's unmarked templates are
equal to those of the marked ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import trl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from siftune.curate.chat.encoding import Encoded, encode_chats
from siftune.curate.core.errors import DataError

__all__ = ["CHATS", "ENDS", "FAMILIES", "PAIRS", "byte_tokenizer", "compared", "shown", "unmarked"]

TRL: Final = Path(trl.__file__).with_name("chat_templates")
PAIRS: Final = sorted(
    file.name.removesuffix("_training.jinja") for file in TRL.glob("*_training.jinja")
)
"""Names of the templates that TRL holds with and without markers."""

FAMILIES: Final = {
    file.stem: file.read_text(encoding="utf-8")
    for file in sorted(Path(__file__).with_name("templates").glob("*.jinja"))
}

ENDS: Final = {
    "cohere": "<|END_OF_TURN_TOKEN|>",
    "deepseek": "<｜end▁of▁sentence｜>",
    "diffusion_gemma": "<turn|>",
    "falcon": "<|endoftext|>",
    "gemma": "<end_of_turn>",
    "glm": "<|endoftext|>",
    "gptoss": "<|return|>",
    "granite": "<|end_of_text|>",
    "idefics3": "<end_of_utterance>",
    "internlm": "</s>",
    "llama3": "<|eot_id|>",
    "llava": "</s>",
    "mistral": "</s>",
    "muse": "<|eot|>",
    "olmo": "<|endoftext|>",
    "phi3": "<|endoftext|>",
    "smolvlm": "<end_of_utterance>",
}
"""The eos_token of models whose template has a name with this prefix; of others ``<|im_end|>``."""

_CONTROL: Final = re.compile(
    r"<\|[^|<>{}\s'\"]+\|>|<｜[^｜]+｜>|</?s>|\[/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]"
    r"|<(?:start|end)_of_(?:turn|utterance)>|<\|[a-z_]+>|<[a-z_]+\|>|\[gMASK\]|<sop>"
)


@cache
def byte_tokenizer(name: str, *templates: str) -> PreTrainedTokenizerBase:
    """A tokenizer of bytes and of the control tokens that the templates spell."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(models.BPE({sign: at for at, sign in enumerate(alphabet)}, []))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    end = next((end for prefix, end in ENDS.items() if name.startswith(prefix)), "<|im_end|>")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<BOS>", eos_token=end, pad_token="<PAD>"
    )
    control = sorted({token for text in templates for token in _CONTROL.findall(text)} - {end})
    tokenizer.add_special_tokens({"additional_special_tokens": control})  # type: ignore[dict-item]
    tokenizer.name_or_path = name
    tokenizer.chat_template = templates[0]
    return tokenizer


def _turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


_CALL: Final = {"name": "weather", "arguments": {"city": "Paris", "days": 2}}
_SCHEMA: Final = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "A city."}},
    "required": ["city"],
}
_WEATHER: Final = {"name": "weather", "description": "Weather of a city.", "parameters": _SCHEMA}

CHATS: Final[Mapping[str, tuple[list[dict[str, Any]], list[dict[str, Any]] | None]]] = {
    "single": ([_turn("user", "Hi"), _turn("assistant", "Hello")], None),
    "multi": (
        [
            _turn("user", "Hello"),
            _turn("assistant", "Hello"),
            _turn("user", "Hello"),
            _turn("assistant", "Hello, Hello"),
        ],
        None,
    ),
    "system": (
        [_turn("system", "Be kind."), _turn("user", "Hi"), _turn("assistant", " Hello ")],
        None,
    ),
    "tools": (
        [
            _turn("user", "Weather?"),
            _turn(
                "assistant",
                "",
                tool_calls=[{"id": "abcdefghi", "type": "function", "function": _CALL}],
            ),
            _turn("tool", "sunny", name="weather", tool_call_id="abcdefghi"),
            _turn("assistant", "It is sunny."),
            _turn("user", "Good."),
            _turn("assistant", "Yes."),
        ],
        [{"type": "function", "function": _WEATHER}],
    ),
    "thinking": (
        [
            _turn("user", "Hi"),
            _turn("assistant", "Hello", reasoning_content="greet"),
            _turn("user", "Again?"),
            _turn("assistant", "Bye", reasoning_content="leave"),
        ],
        None,
    ),
}


def runs(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], keys: Sequence[Any]
) -> Iterator[Any]:
    """``(key, text)`` of each run of ids with equal keys."""
    for key, run in groupby(zip(ids, keys, strict=True), key=lambda pair: pair[1]):
        yield key, tokenizer.decode([token for token, _ in run])


def shown(tokenizer: PreTrainedTokenizerBase, encoded: Encoded) -> str:
    """The text, with what is learned between ``⟦`` and ``⟧``."""
    parts = runs(tokenizer, encoded.ids, encoded.mask)
    return "".join(f"⟦{text}⟧" if bit else text for bit, text in parts)


def unmarked(template: str) -> str:
    """A template without its generation markers that writes the same text."""
    return re.sub(
        r"\{%(-?)\s*(?:end)?generation\s*(-?)%\}", r"{%\1 set generation_unused = 0 \2%}", template
    )


class Compared(NamedTuple):
    """The mask of an unmarked template beside that of its marked copy."""

    refused: str | None  # why the template cannot write the conversation
    other_text: bool  # the copy writes another text: both masks are of that text
    differ: frozenset[tuple[str, str]]  # who alone learns what


def compared(name: str, case: str) -> Compared:
    """Encode one conversation with both templates of a pair of TRL."""
    marked = (TRL / f"{name}_training.jinja").read_text(encoding="utf-8")
    original = (TRL / f"{name}.jinja").read_text(encoding="utf-8")
    tokenizer = byte_tokenizer(name, original, marked)
    chat, tools = CHATS[case]
    try:
        (known,) = encode_chats(tokenizer, [chat], marked, [tools])
        (found,) = encode_chats(tokenizer, [chat], original, [tools])
    except DataError as error:
        return Compared(str(error), False, frozenset())
    other_text = found.ids != known.ids
    if other_text:
        (found,) = encode_chats(tokenizer, [chat], unmarked(marked), [tools])
    assert found.ids == known.ids
    keys = [
        bits if bits[0] != bits[1] else None for bits in zip(known.mask, found.mask, strict=True)
    ]
    differ = {
        ("marked" if key[0] else "located", text)
        for key, text in runs(tokenizer, known.ids, keys)
        if key is not None
    }
    return Compared(None, other_text, frozenset(differ))


def main() -> None:
    """Print how the masks compare, by kind of conversation."""
    for case in CHATS:
        counts: Counter[str] = Counter()
        for name in PAIRS:
            found = compared(name, case)
            if found.refused:
                counts["the template refuses the conversation"] += 1
            elif not found.differ:
                counts["equal"] += 1
            elif found.differ <= {("marked", "\n")}:
                counts["equal but for the newline after the end of turn"] += 1
            else:
                counts["other tokens differ"] += 1
            counts["(the marked copy writes another text)"] += found.other_text
        print(case, dict(counts))  # noqa: T201


if __name__ == "__main__":
    main()
