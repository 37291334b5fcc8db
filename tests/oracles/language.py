"""A language small enough to list: every sentence of at most two words, under a one-layer Llama.

The same code scores it that trains on real data (collator, masks, tiles, heads), so what holds for
a bandit is held here for tokens.
"""

from __future__ import annotations

import torch

from siftune.finetune.data.answer_rows import AnswerRow
from siftune.finetune.data.collator import AnswerCollator
from siftune.finetune.losses.types import Answers, PairLogps, needs_of
from siftune.finetune.oracles.bandit import Bandit, minimise
from siftune.finetune.scoring.logps import read_answers, score_answers
from siftune.finetune.training.pair_loop import pairs_of
from siftune.finetune.training.preference_loop import answers_of

__all__ = ["SENTENCES", "land", "language", "log_probs", "score_as_answers"]

PAD, END, WORDS = 0, 1, (2, 3)
PROMPT = [4, 5, 4]
SENTENCES = [[END], [2, END], [3, END], *[[a, b] for a in WORDS for b in WORDS]]
"""Cut after two tokens, so the last ones have no end: together they have probability one."""


def language(seed):
    """The model, in float64; only the words and the end can follow the prompt."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=6,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=PAD,
        bos_token_id=None,
        eos_token_id=END,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).double()
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(6).double())
    with torch.no_grad():
        model.lm_head.bias[[PAD, 4, 5]] = -1e4
        model.lm_head.weight.mul_(10)
    return model


def _batch():
    """All sentences twice, as a collator lays them out: once as chosen, once as rejected."""
    pairs = [AnswerRow(str(at), PROMPT, [words, words]) for at, words in enumerate(SENTENCES)]
    return AnswerCollator(PAD, dtype=torch.float64)(pairs)


def _score(model, reference, loss):
    batch = _batch()
    frozen = None
    if reference is not None:
        with torch.no_grad():
            frozen = read_answers(reference, batch)
    asked = needs_of(loss).tokens
    statistics = [name for name in asked if name not in ("policy", "formatting")]
    tokens = score_answers(model, batch, statistics, frozen)
    answers = answers_of({**tokens, "formatting": batch["formatting"]}, batch, asked)
    return pairs_of(answers, batch).chosen


def score_as_answers(model, reference, value=False):
    """Of every sentence as answers to one prompt, ``(K,)``, and what the value head says, if any.

    By the layout of a batch that losses on answers and on lists are trained with.
    """
    batch = AnswerCollator(PAD, dtype=torch.float64)([AnswerRow("all", PROMPT, SENTENCES)])
    with torch.no_grad():
        frozen = read_answers(reference, batch)
    tokens = score_answers(model, batch, (), frozen, value=value)
    lengths = batch["answer_mask"].sum(1).double()
    answers = Answers(tokens["policy"].sum(1), lengths, tokens["reference"].sum(1))
    return answers, tokens.get("value")


def log_probs(model):
    """Of every sentence, ``(K,)``."""
    with torch.no_grad():
        return _score(model, None, object()).policy


def land(loss, model, reference, reward, rounds=1, flip=0.0):
    """Train ``model`` on the population loss of all pairs of sentences, labelled by ``reward``.

    ``flip`` is the share of labels that are turned round.
    """
    size = len(SENTENCES)
    first, second = torch.triu_indices(size, size, 1)
    rows = torch.cat([first, second]), torch.cat([second, first])
    bandit = Bandit(reward, log_probs(reference), torch.tensor([float(len(s)) for s in SENTENCES]))
    weight = ((1 - flip) * bandit.wins + flip * bandit.wins.T)[rows]
    columns = {"score_chosen": reward[rows[0]], "score_rejected": reward[rows[1]]}
    needed = {name: columns[name] for name in needs_of(loss).columns}

    def value():
        scored = _score(model, reference, loss)
        sides = [_take(scored, side) for side in rows]
        return (weight * loss(PairLogps(sides[0], sides[1], needed)).loss).sum() / weight.sum()

    minimise(value, list(model.parameters()), rounds)
    return bandit


def _take(scored, rows):
    tokens = {name: value[rows] for name, value in scored.tokens.items()}
    return Answers(scored.policy[rows], scored.length[rows], scored.ref[rows], tokens)
