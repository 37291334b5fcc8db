"""The classic bugs, put back one at a time; the suite has to catch every one.

``python -m tests.oracles.mutations [WORD]`` prints the kill table (of the mutations whose line has
WORD in it) and exits 1 if one survives. Each runs in a copy, so the working tree is not touched.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MUTATIONS", "Mutation"]

LOSSES = "tests/finetune/test_pair_losses.py tests/oracles tests/contracts/test_losses.py"
LOOP = "tests/finetune/test_preference.py"
LOGPS = "tests/finetune/test_logps.py"
PAIR = "finetune/losses/pair"


@dataclass(frozen=True)
class Mutation:
    """A bug: the text it stands for in a file, and what the tests see instead."""

    bug: str
    file: str
    right: str
    wrong: str
    tests: str = LOSSES


MUTATIONS = (
    Mutation("mask off by one", "finetune/logps.py", "states[:, :-1]", "states[:, 1:]", LOGPS),
    Mutation(
        "labels not shifted",
        "finetune/logps.py",
        '["input_ids"][:, 1:]',
        '["input_ids"][:, :-1]',
        LOGPS,
    ),
    Mutation(
        "temperature missing", "finetune/logps.py", "logits / self.temperature", "logits", LOGPS
    ),
    Mutation(
        "logit scale missing", "finetune/logps.py", "logits = logits * self.scale", "pass", LOGPS
    ),
    Mutation(
        "adapter left on in the reference's head",
        "finetune/logps.py",
        "if not adapter:",
        "if False:",
        LOGPS,
    ),
    Mutation(
        "reference not detached",
        "finetune/logps.py",
        "    @torch.no_grad()\n    def _look",
        "    def _look",
        LOGPS,
    ),
    Mutation(
        "prompt tokens counted",
        "finetune/collate.py",
        "[[0] * len(p) + [1] * len(a) for",
        "[[1] * len(p) + [1] * len(a) for",
        LOOP,
    ),
    Mutation(
        "end of turn dropped",
        "finetune/collate.py",
        "[[0] * len(p) + [1] * len(a) for",
        "[[0] * len(p) + [1] * (len(a) - 1) + [0] for",
        LOOP,
    ),
    Mutation(
        "padding scored",
        "finetune/collate.py",
        "[1] * len(a) for p, a in rows], 0)",
        "[1] * len(a) for p, a in rows], 1)",
        LOOP,
    ),
    Mutation(
        "prompt cut at its end",
        "finetune/collate.py",
        "pair.prompt[max(0, len(pair.prompt) - longest) :]",
        "pair.prompt[:longest]",
        LOOP,
    ),
    Mutation(
        "sides in the wrong order",
        "finetune/pairs.py",
        "(slice(None, pairs), slice(pairs, None))",
        "(slice(pairs, None), slice(None, pairs))",
        LOOP,
    ),
    Mutation(
        "normalised by micro-batch",
        "finetune/pairs.py",
        "return result.loss.sum() * self.accelerator.num_processes / num_items_in_batch",
        "return result.loss.mean()",
        LOOP,
    ),
    Mutation(
        "padding in the metrics", "finetune/pairs.py", "tokens[name][mask]", "tokens[name]", LOOP
    ),
    Mutation(
        "dropout left on",
        "finetune/trainers/preference.py",
        "        without_dropout(policy)\n",
        "",
        LOOP,
    ),
    Mutation(
        "reference trained along",
        "finetune/trainers/preference.py",
        "self.lora else frozen(folder)",
        "self.lora else __import__('finetune.reference').reference.Frozen(policy)",
        LOOP,
    ),
    Mutation(
        "adapter not merged",
        "finetune/trainers/preference.py",
        "trained.merge_and_unload() if self.lora else trained",
        "trained",
        LOOP,
    ),
    Mutation(
        "kept reference values without the model in their key",
        "finetune/reference.py",
        "digest_of([models.model_hash(folder), ids])",
        "digest_of([ids])",
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
)


def survives(mutation: Mutation, root: Path, work: Path) -> bool:
    """Whether every test of a mutated copy passes.

    Raises:
        LookupError: the text to change is not in the file exactly once.
    """
    for part in ("curate", "finetune", "pipelines", "tests"):
        shutil.copytree(root / part, work / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        if (root / name).is_file():
            shutil.copy(root / name, work / name)
    path = work / mutation.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutation.right) != 1:
        raise LookupError(f"{mutation.bug}: {mutation.file} holds it {text.count(mutation.right)}×")
    path.write_text(text.replace(mutation.right, mutation.wrong), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    ran = subprocess.run([*command, *mutation.tests.split()], cwd=work, capture_output=True)
    if ran.returncode not in (0, 1):
        raise LookupError(f"{mutation.bug}: the tests did not run\n{ran.stdout.decode()[-500:]}")
    return ran.returncode == 0


def main() -> int:
    """Print the table; 1 if a mutation survives."""
    root = Path(__file__).parents[2]
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [one for one in MUTATIONS if word in f"{one.bug} {one.file}"]
    alive = 0
    for mutation in chosen:
        with tempfile.TemporaryDirectory() as folder:
            lives = survives(mutation, root, Path(folder))
        alive += lives
        fate = "SURVIVED" if lives else "killed"
        print(f"{fate:8}  {mutation.bug} ({mutation.file})", flush=True)  # noqa: T201
    print(f"{len(chosen) - alive} of {len(chosen)} killed")  # noqa: T201
    return int(alive > 0)


if __name__ == "__main__":
    sys.exit(main())
