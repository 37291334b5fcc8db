"""One sentence on each option that methods share; an entry in a docstring comes before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["OPTION_TEXTS"]

OPTION_TEXTS: Final[Mapping[str, str]] = {
    "adapter": "What is written of a LoRA adapter: the model with the adapter merged in (merge), "
    "the adapter alone (keep), or both.",
    "also": "Losses that are added, by name, each with its weight, such as sft=0.2, or with "
    "options, such as 'ipo={weight: 0.2, ratios: sum}'.",
    "assistant_only_loss": "Learn the assistant's turns alone; false learns the prompts too.",
    "batch_size": "Rows in a batch of each process; a batch is one optimizer step unless gradients "
    "are accumulated.",
    "beta": "Strength of the regularisation towards the reference, β: a larger one keeps the "
    "policy nearer to it.",
    "bins": "Number of equally large groups that rows are sorted into by their reward.",
    "cache": "Folder of the log-probabilities of a precomputed reference, beside the checkpoints "
    "by default.",
    "columns": "Columns of the numbers that a loss reads, such as win_probability=judge_score, "
    "where their names differ from the loss's.",
    "desirable_weight": "Weight of the loss on answers labelled good.",
    "distance": "Distance between the gap of the implicit rewards and that of the scores: "
    "KL(scores ‖ policy) (backward), KL(policy ‖ scores) (forward), or the squared difference.",
    "divergence": "Divergence from the reference in place of DPO's reverse KL.",
    "entropy_weight": "Weight of the policy's entropy, in nats a token, which is subtracted.",
    "epochs": "Passes over the rows; a fraction ends within one.",
    "eval_limit": "Held-out prompts that are answered at each checkpoint.",
    "eval_rows": "Held-out rows, a file or a run folder, to evaluate on at each checkpoint.",
    "f": "Function of β times the gap of the log-ratios; logistic is DPO.",
    "gamma": "Discount of later rewards for each token; 1 is none.",
    "gamma_beta_ratio": "Margin by which the chosen answer has to win, γ / β, in nats a token.",
    "gradient_accumulation": "Batches whose gradients are added up for one optimizer step.",
    "held_out": "Share of the prompts that is kept from training and evaluated at each checkpoint; "
    "0 keeps none.",
    "kl_weight": "Weight of the KL to the reference, in nats a token.",
    "label_smoothing": "Assumed probability that a pair is labelled the wrong way round, ε.",
    "lam": "λ of generalised advantage estimation: 0 trusts the value model, 1 the sampled return.",
    "length_penalty": "Power of an answer's number of tokens that its log-probability is divided "
    "by.",
    "limit": "Largest number of prompts or pairs that are used, drawn at random; 0 for all.",
    "load_in_4bit": "Load the frozen base model in 4 bits (QLoRA); needs lora and bitsandbytes.",
    "log_every": "Optimizer steps between two lines of metrics.jsonl.",
    "lora": "Rank of a LoRA adapter on all linear layers; 0 trains all weights instead.",
    "lora_alpha": "Scale of the LoRA adapter, α: its product is multiplied by α / rank.",
    "loss_options": "Options of the objectives by their names, such as 'dpo={beta: 0.2}'.",
    "lr": "Learning rate of the optimizer.",
    "max_kl": "KL to the reference, in nats a token, above which training ends at the next log.",
    "max_length": "Largest number of tokens of a row, prompt and answer together; by default what "
    "the model takes.",
    "max_new_tokens": "Largest number of tokens of a generated answer.",
    "max_prompt_length": "Number of tokens that a longer prompt is cut to, from its start.",
    "max_tokens": "Number of answer tokens to train on, over as many passes as it takes, in place "
    "of epochs.",
    "max_weight": "Largest weight of a row.",
    "mean": "Average over the tokens of a batch, so that long answers count for more, or over its "
    "rows.",
    "micro_tokens": "Largest number of tokens computed at once: fewer take less memory and more "
    "time, and change no result but for rounding.",
    "model": "Model to start from: a folder, a name of `siftune models list`, or a name on the "
    "hub.",
    "on_bad": "Rows that cannot be trained on end the command (refuse), or are left out and listed "
    "(drop).",
    "options": "Any other arguments of the Hugging Face trainer, by their names there.",
    "precision": "Number format of weights that are not trained: fp32, bf16, or bf16 where the "
    "processor multiplies it (auto).",
    "precompute_reference": "Compute the reference's log-probabilities once, before training, and "
    "free its memory.",
    "ratios": "Take an answer's log-ratio as the mean or the sum over its tokens.",
    "ref_mixup_alpha": "Share of the policy in the new reference at each update of it.",
    "ref_model": "Reference model, as a folder or name; by default the model before training.",
    "ref_sync_steps": "Optimizer steps between two updates of the reference towards the policy; 0 "
    "for none.",
    "reference": "Reference model that KL and log-ratios are computed against.",
    "retain_weight": "Weight of the loss on answers labelled good, which are to be kept.",
    "reward": "Reward of an answer: the folder of a reward model, a reward by name, such as "
    "math_answer or format, several by name with their weights, or a function of yours, "
    "FILE.py:NAME.",
    "reward_options": "Options of the reward, such as target=40 for length.",
    "save_every": "Optimizer steps between two checkpoints, from which a stopped run continues.",
    "seed": "Seed of all random draws: the same seed gives the same result.",
    "sft_weight": "Weight of the mean negative log-likelihood of the chosen answer, in nats a "
    "token.",
    "share_prefix": "Compute the prompt that answers share only once, where the model allows it.",
    "shift": "Baseline of the implicit rewards: the middle between the means of good and bad "
    "answers (classes), or the mean of all (pooled).",
    "temperature": "Temperature of sampling; 0 takes the most probable token.",
    "track_reference": "Measure the KL to a reference even where the loss needs none.",
    "undesirable_weight": "Weight of the loss on answers labelled bad.",
    "watch": "What an alarm does: it is written down (log); β is doubled (raise_beta); training "
    "ends with the weights of the last good checkpoint (roll_back), or as they are (stop). off is "
    "no watch.",
    "watch_detectors": "Options of detectors by their names, such as 'length={relative: 2}', none "
    "to leave one out, or detectors of yours, FILE.py:NAME.",
    "watch_gold": "Reward that is not trained on, for the answers to the watched prompts: a reward "
    "model's folder, a name, FILE.py:NAME, or one of weight 0 among several rewards, which scores "
    "every rollout.",
    "watch_prompts": "Number of fixed prompts, unlike each other, that are answered at each "
    "checkpoint; 0 for none.",
    "watch_rows": "Rows whose prompts are those, a file or a run folder; by default held-out rows, "
    "or without any those that are trained on.",
    "value_lr": "Learning rate of the value head, for losses that have one.",
}
