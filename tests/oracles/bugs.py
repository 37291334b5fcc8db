"""The classic bugs of losses on pairs and of their loop: what they stand for in our code."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PAIRS", "Mutation"]

OBJECTIVES = (
    "tests/finetune/test_pair_losses.py tests/oracles/test_optima.py tests/contracts/test_losses.py"
)
LOOP = "tests/finetune/test_preference.py"
LOGPS = "tests/finetune/test_logps.py"
PAIR = "finetune/losses/pair"


@dataclass(frozen=True)
class Mutation:
    """A bug: the text it stands for in a file, what is there instead, and the tests that look."""

    bug: str
    file: str
    right: str
    wrong: str
    tests: str = OBJECTIVES


PAIRS = (
    Mutation(
        "mask off by one", "finetune/scoring/logps.py", "states[:, :-1]", "states[:, 1:]", LOGPS
    ),
    Mutation(
        "labels not shifted",
        "finetune/scoring/logps.py",
        '["input_ids"][:, 1:]',
        '["input_ids"][:, :-1]',
        LOGPS,
    ),
    Mutation(
        "temperature missing",
        "finetune/scoring/lm_head.py",
        "logits / self.temperature",
        "logits",
        LOGPS,
    ),
    Mutation(
        "temperature missing where the backward pass is written by hand",
        "finetune/scoring/lm_head.py",
        "self.scale / self.temperature if",
        "self.scale if",
        LOGPS,
    ),
    Mutation(
        "logit scale missing",
        "finetune/scoring/lm_head.py",
        "logits = logits * self.scale",
        "pass",
        LOGPS,
    ),
    Mutation(
        "softcap missing",
        "finetune/scoring/lm_head.py",
        "torch.tanh(logits / self.softcap) * self.softcap",
        "logits",
        LOGPS,
    ),
    Mutation(
        "adapter left on in the reference's head",
        "finetune/scoring/lm_head.py",
        "if not adapter:",
        "if False:",
        LOGPS,
    ),
    Mutation(
        "reference not detached",
        "finetune/scoring/lm_head.py",
        "    @torch.no_grad()\n    def _log_ref",
        "    def _log_ref",
        LOGPS,
    ),
    Mutation(
        "a small last tile kept after a large one was not",
        "finetune/scoring/chunked_logps.py",
        "                kept -= logs.nbytes  # once below zero, always: the first are kept\n"
        "                if kept >= 0:\n",
        "                if kept >= logs.nbytes:\n                    kept -= logs.nbytes\n",
        LOGPS,
    ),
    Mutation(
        "the label left out of the gradient by hand",
        "finetune/scoring/chunked_logps.py",
        "pull.scatter_add_(1, labels[part, None], gradient[part].to(pull.dtype))",
        "pass",
        LOGPS,
    ),
    Mutation(
        "the scale left out of the gradient by hand",
        "finetune/scoring/chunked_logps.py",
        "gradient = given[0][:, None] * ctx.factor",
        "gradient = given[0][:, None]",
        LOGPS,
    ),
    Mutation(
        "prompt tokens counted",
        "finetune/data/collator.py",
        "[[0] * len(p) + mask for",
        "[[1] * len(p) + mask for",
        LOOP,
    ),
    Mutation(
        "end of turn dropped",
        "finetune/data/collator.py",
        "[[0] * len(p) + mask for",
        "[[0] * len(p) + mask[:-1] + [0] for",
        LOOP,
    ),
    Mutation(
        "padding scored",
        "finetune/data/collator.py",
        "mask for p, _, mask in laid_out], 0)",
        "mask for p, _, mask in laid_out], 1)",
        LOOP,
    ),
    Mutation(
        "prompt cut at its end",
        "finetune/data/answer_rows.py",
        "row.prompt[max(0, len(row.prompt) - longest) :]",
        "row.prompt[:longest]",
        LOOP,
    ),
    Mutation(
        "sides in the wrong order",
        "finetune/training/pair_loop.py",
        'chosen, rejected = batch["row_of"].unbind(1)',
        'rejected, chosen = batch["row_of"].unbind(1)',
        LOOP,
    ),
    Mutation(
        "normalised by micro-batch",
        "finetune/training/preference_loop.py",
        "return result.loss.sum() * self.accelerator.num_processes / num_items_in_batch",
        "return result.loss.mean()",
        LOOP,
    ),
    Mutation(
        "padding in the metrics",
        "finetune/training/preference_loop.py",
        "totals.add(name, values[mask])",
        "totals.add(name, values)",
        LOOP,
    ),
    Mutation(
        "mean logits without their scale",
        "finetune/scoring/lm_head.py",
        "return mean * (self.scale / self.temperature)",
        "return mean",
        LOGPS,
    ),
    Mutation(
        "mean logits of both sides",
        "finetune/training/preference_loop.py",
        "values[mask & chosen[:, None]]",
        "values[mask]",
        LOOP,
    ),
    Mutation(
        "dropout left on",
        "finetune/training/policy.py",
        "    without_dropout(policy)\n",
        "",
        f"{LOOP}::test_dropout_is_off",
    ),
    Mutation(
        "reference trained along",
        "finetune/training/policy.py",
        "if own else frozen(folder, share, dtype)",
        "if own else __import__('siftune.finetune.scoring.reference', fromlist=['x'])"
        ".Frozen(policy)",
        LOOP,
    ),
    Mutation(
        "adapter not merged",
        "finetune/models/lora.py",
        "        return trained.merge_and_unload()",
        "        return trained.unload()",
        f"{LOOP}::test_what_comes_out_is_a_plain_model_folder",
    ),
    Mutation(
        "kept reference values without the model in their key",
        "finetune/scoring/reference.py",
        "digest_of([loading.model_hash(folder), share, dtype, autocast, [*distinct]])",
        "digest_of([share, dtype, autocast, [*distinct]])",
        f"{LOOP}::test_kept_reference_values_are_those_of_the_model_and_found_again",
    ),
    Mutation(
        "kept reference values without the prompt in their key",
        "finetune/scoring/reference.py",
        "return tuple(row.prompt), *map(tuple, row.sequences), *map(tuple, row.scored)",
        "return *map(tuple, row.sequences), *map(tuple, row.scored)",
        LOOP,
    ),
    Mutation(
        "DPO's sign",
        f"{PAIR}/dpo.py",
        "self.beta * (chosen - rejected)",
        "self.beta * (rejected - chosen)",
    ),
    Mutation(
        "beta missing", f"{PAIR}/dpo.py", "-F.logsigmoid(self.beta * (", "-F.logsigmoid(1.0 * ("
    ),
    Mutation("rewards with gradient", f"{PAIR}/dpo.py", "chosen.detach()", "chosen"),
    Mutation("IPO on sums for means", f"{PAIR}/ipo.py", 'if self.ratios == "mean":', "if False:"),
    Mutation("IPO's target doubled", f"{PAIR}/ipo.py", "1 / (2 * self.beta)", "1 / self.beta"),
    Mutation(
        "SimPO on sums",
        f"{PAIR}/simpo.py",
        "logps.chosen.mean, logps.rejected.mean",
        "logps.policy_chosen, logps.policy_rejected",
    ),
    Mutation(
        "SimPO's γ not scaled",
        f"{PAIR}/simpo.py",
        "self.beta * (chosen - rejected - self.gamma_beta_ratio)",
        "self.beta * (chosen - rejected) - self.gamma_beta_ratio",
    ),
    Mutation(
        "ORPO's odds are probabilities",
        f"{PAIR}/orpo.py",
        "return mean - torch.log(-torch.expm1(mean))",
        "return mean",
    ),
    Mutation(
        "DPOP's charge outside β",
        f"{PAIR}/dpop.py",
        "self.penalty * lost))",
        "self.penalty * lost / self.beta))",
    ),
    Mutation("DPOP charges gains", f"{PAIR}/dpop.py", "torch.relu(-chosen)", "torch.relu(chosen)"),
    Mutation("R-DPO's sign", f"{PAIR}/r_dpo.py", "+ self.alpha * longer", "- self.alpha * longer"),
    Mutation(
        "RPO's KL turned round",
        f"{PAIR}/rpo_reward_aware.py",
        "return _kl(target, logit)",
        "return _kl(logit, target)",
    ),
    Mutation("robust DPO not rescaled", f"{PAIR}/robust_dpo.py", " / (1 - 2 * flip)", ""),
    Mutation(
        "cDPO ignores its smoothing", f"{PAIR}/cdpo.py", "+ self.label_smoothing * flipped", ""
    ),
    Mutation(
        "f-DPO's α turned round", f"{PAIR}/f_dpo.py", "else self.alpha", "else 1 - self.alpha"
    ),
    Mutation(
        "TDPO2's gradient through chosen", f"{PAIR}/tdpo2.py", "chosen_kl.detach()", "chosen_kl"
    ),
    Mutation(
        "TDPO1's drift turned round",
        f"{PAIR}/tdpo1.py",
        "rejected_kl - chosen_kl",
        "chosen_kl - rejected_kl",
    ),
    Mutation("WPO's weight with gradient", f"{PAIR}/wpo.py", "@torch.no_grad()\n", ""),
    Mutation(
        "LD-DPO drops the shared part",
        f"{PAIR}/ld_dpo.py",
        "position < shared",
        "position >= shared",
    ),
    Mutation(
        "Llama 3 keeps formatting",
        f"{PAIR}/dpo_llama3.py",
        '(1 - answers.token("formatting"))',
        "1.0",
    ),
    Mutation(
        "AOT does not sort",
        f"{PAIR}/aot.py",
        "(logps.ref_chosen - logps.ref_rejected).sort().values",
        "(logps.ref_chosen - logps.ref_rejected)",
    ),
    Mutation(
        "SPPO's target doubled",
        f"{PAIR}/sppo_soft.py",
        ") - 0.5) / self.beta",
        ") - 0.5) / (2 * self.beta)",
    ),
    Mutation("NCA forgets the rejected", f"{PAIR}/nca.py", "+ F.logsigmoid(-rejected)", ""),
    Mutation(
        "EXO's smoothing turned round", f"{PAIR}/exo.py", "math.log(flip)", "math.log1p(-flip)"
    ),
    Mutation(
        "APO-zero ups the rejected",
        f"{PAIR}/apo_zero.py",
        "torch.sigmoid(rejected)",
        "torch.sigmoid(-rejected)",
    ),
    Mutation(
        "SLiC without its regulariser", f"{PAIR}/slic_hf.py", "- self.regularisation * chosen", ""
    ),
    Mutation(
        "GPO's savage loss unsquared",
        f"{PAIR}/gpo.py",
        "torch.sigmoid(-z) ** 2",
        "torch.sigmoid(-z)",
    ),
    Mutation(
        "CPO's NLL summed",
        f"{PAIR}/cpo.py",
        "self.sft_weight * logps.chosen.mean",
        "self.sft_weight * chosen",
    ),
    Mutation(
        "AlphaPO's exponent the wrong way round",
        f"{PAIR}/alphapo.py",
        "torch.exp(-self.alpha * held)",
        "torch.exp(self.alpha * held)",
    ),
    Mutation(
        "unpaired AOT does not sort",
        f"{PAIR}/aot_unpaired.py",
        "(chosen.sort().values - rejected.sort().values)",
        "(chosen - rejected)",
    ),
    Mutation(
        "APO-down holds the chosen up",
        f"{PAIR}/apo_down.py",
        "torch.sigmoid(chosen) +",
        "torch.sigmoid(-chosen) +",
    ),
    Mutation(
        "BCO on pairs wants the rejected up",
        f"{PAIR}/bco_pair.py",
        "F.logsigmoid(-rejected)",
        "F.logsigmoid(rejected)",
    ),
    Mutation(
        "DiscoPOP's temperature missing",
        f"{PAIR}/discopop.py",
        "torch.sigmoid(-z / self.tau)",
        "torch.sigmoid(-z)",
    ),
    Mutation(
        "DPO-norm on sums",
        f"{PAIR}/dpo_norm.py",
        "logps.rejected.ratio / logps.rejected.length",
        "logps.rejected.ratio",
    ),
    Mutation(
        "RSO's hinge pays beyond its margin",
        f"{PAIR}/rso_hinge.py",
        "torch.relu(1 - self.beta * (chosen - rejected))",
        "(1 - self.beta * (chosen - rejected))",
    ),
    Mutation(
        "RSO's sign",
        f"{PAIR}/rso_sigmoid.py",
        "self.beta * (chosen - rejected)",
        "self.beta * (rejected - chosen)",
    ),
    Mutation(
        "fine-tuning on the rejected side",
        f"{PAIR}/sft.py",
        "PairLoss(-chosen,",
        "PairLoss(-rejected,",
    ),
    Mutation(
        "SPPO pulls both sides up",
        f"{PAIR}/sppo_hard.py",
        "(rejected + target)",
        "(rejected - target)",
    ),
)
