"""Merging: worked values of each method, whole models, adapters, shards, and what is refused."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import siftune as sf
from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build, names
from siftune.finetune.data.system_prompts import SystemPrompts
from siftune.finetune.merging.types import Group, disjoint_mean, dropped, keep_largest
from siftune.finetune.models import tensor_files
from siftune.finetune.models.loading import load_causal
from siftune.finetune.tools.merge import Merge
from siftune.pipelines.cli import siftune

HALVES = torch.tensor([0.5, 0.5], dtype=torch.float64)


def method(name, **options):
    return build("finetune.merging", name, options)


def group(models, weights=(0.5, 0.5), base=None, key=(0, "w")):
    wide = torch.tensor(models, dtype=torch.float64)
    under = None if base is None else torch.tensor(base, dtype=torch.float64)
    return Group(wide, torch.tensor(weights, dtype=torch.float64), under, key)


def test_ties_trims_elects_and_averages_what_agrees():
    base = [1.0, 1.0, 1.0, 1.0, 1.0]
    changes = [[5.0, -4.0, 3.0, 1.0, 2.0], [1.0, 6.0, 4.0, -5.0, -2.0]]
    models = [[b + c for b, c in zip(base, row, strict=True)] for row in changes]
    found = method("ties", density=0.6, scale=0.5)(group(models, base=base))
    # kept: 5, -4, 3, 0, 0 and 0, 6, 4, -5, 0; elected +, +, +, -, none
    merged = [5.0, 6.0, 3.5, -5.0, 0.0]
    torch.testing.assert_close(found.tolist(), [1 + 0.5 * one for one in merged])


def test_the_elected_sign_and_the_mean_are_weighted():
    changes = torch.tensor([[2.0, 2.0], [-3.0, 4.0]])
    # .75 · 2 - .25 · 3 > 0 elects +; then (.75 · 2 + .25 · 4) / 1
    found = disjoint_mean(changes, torch.tensor([0.75, 0.25]))
    assert found.tolist() == [2.0, 2.5]
    assert disjoint_mean(torch.tensor([[2.0], [-2.0]]), HALVES).tolist() == [0.0]


def test_dare_keeps_the_expected_change_and_draws_each_model_and_tensor_apart():
    change = torch.ones(20_000)
    left = dropped(change, 0.25, (0, "a", 0))
    assert left.unique().tolist() == [0.0, 4.0]
    assert abs(float(left.mean()) - 1) < 5 * math.sqrt(3 / 20_000)  # variance (1 - d) / d
    assert left.equal(dropped(change, 0.25, (0, "a", 0)))
    for other in ((1, "a", 0), (0, "b", 0), (0, "a", 1)):
        both = (left > 0) & (dropped(change, 0.25, other) > 0)
        assert abs(float(both.double().mean()) - 1 / 16) < 0.01


def test_dare_adds_up_what_is_left_by_weight_or_elects_its_signs():
    given = group([[4.0, 2.0], [1.0, -1.0]], (0.75, 0.25), [1.0, 1.0])
    assert method("dare", density=1)(given).tolist() == [1 + 0.75 * 3, 1 + 0.75 - 0.5]
    elected = method("dare", density=1, elect_signs=True, scale=2)(given)
    assert elected.tolist() == [1 + 2 * 3, 1 + 2 * 1]


def test_slerp_keeps_the_length_and_averages_what_is_parallel():
    one, other = [3.0, 0.0], [1.5, 1.5 * math.sqrt(3)]  # 60 degrees apart, both of length 3
    for share in (0.25, 0.5, 0.9):
        found = method("slerp")(group([one, other], (1 - share, share)))
        angle = math.atan2(*reversed(found.tolist()))
        assert angle == pytest.approx(share * math.pi / 3)
        assert float(found.norm()) == pytest.approx(3)
    for pair in ([[1.0, 2.0], [2.0, 4.0]], [[1.0, 0.0], [-2.0, 0.0]], [[0.0, 0.0], [1.0, 3.0]]):
        mean = [(a + b) / 2 for a, b in zip(*pair, strict=True)]
        assert method("slerp")(group(pair)).tolist() == pytest.approx(mean)


def test_the_lowest_index_of_equal_magnitudes_is_kept():
    change = torch.tensor([[2.0, -2.0], [2.0, 5.0]])
    assert keep_largest(change, 0.5).tolist() == [[2.0, 0.0], [0.0, 5.0]]
    assert keep_largest(change, 0.01).tolist() == [[0.0, 0.0], [0.0, 5.0]]
    assert int((keep_largest(torch.arange(100.0), 0.29) > 0).sum()) == 29  # .29 · 100 < 29


@pytest.fixture(scope="module")
def family(tiny_model_dir, tmp_path_factory):
    """A base and two models trained from it, so to say."""
    place = tmp_path_factory.mktemp("family")
    generator = torch.Generator().manual_seed(0)

    def near(name, dtype=torch.float32):
        folder = place / name
        shutil.copytree(tiny_model_dir, folder)
        (folder / "siftune.json").unlink(missing_ok=True)
        weights = load_file(tiny_model_dir / "model.safetensors")
        moved = {
            key: (one + 0.1 * torch.randn(one.shape, generator=generator)).to(dtype)
            for key, one in weights.items()
        }
        save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})
        return str(folder)

    return {
        "base": str(tiny_model_dir),
        "a": near("a"),
        "b": near("b"),
        "half": near("half", torch.bfloat16),
        "half2": near("half2", torch.bfloat16),
    }


def weights_of(folder):
    return load_file(Path(folder) / "model.safetensors")


def test_the_average_of_equal_models_is_that_model(family, tmp_path):
    for model in ("a", "half"):
        out = sf.merge([family[model]] * 3, out=tmp_path / model, weights=[1, 5, 1]).model
        assert (out / "model.safetensors").read_bytes() == (
            Path(family[model]) / "model.safetensors"
        ).read_bytes()
        facts = json.loads((out / "siftune.json").read_text())
        assert facts["metrics"]["distance_3"] == 0


def test_a_merge_from_the_command_line_is_recorded_and_loads(family, tmp_path):
    command = ["finetune", "merge", family["a"], family["b"], "--method", "ties"]
    command += ["--weights", ".25,.75", "--base", family["base"], "--out", str(tmp_path / "m")]
    made = CliRunner().invoke(siftune, [*command, "--method-options", "density=0.5"])
    assert made.exit_code == 0, made.output
    assert "tensors merged; distance from each model:" in made.output
    load_causal(tmp_path / "m")
    facts = json.loads((tmp_path / "m/siftune.json").read_text())
    assert [facts["merged"][one]["weight"] for one in "12"] == [0.25, 0.75]
    assert facts["changes_from"]["hash"] == Merge((family["base"],) * 2).hashes()[0]
    assert len({one["hash"] for one in facts["merged"].values()}) == 2
    assert facts["options"]["method_options"] == {"density": 0.5}
    assert "--weights 0.25,0.75" in (tmp_path / "m/README.md").read_text()
    exact = Merge((family["a"],) * 2, weights=(0.123456789, 2.0))._command()
    assert "--weights 0.123456789,2" in exact
    again = CliRunner().invoke(siftune, [*command, "--method-options", "density=0.5"])
    assert again.exit_code == 0, again.output  # a merge replaces a merge


def test_weights_are_merged_wider_than_they_are_stored(family, tmp_path):
    out = sf.merge([family["half"], family["half"], family["a"]], out=tmp_path / "m").model
    assert {one.dtype for one in weights_of(out).values()} == {torch.float32}
    assert json.loads((out / "config.json").read_text())["dtype"] == "float32"
    for name, found in weights_of(out).items():
        half, full = weights_of(family["half"])[name], weights_of(family["a"])[name]
        exact = (2 * half.double() + full.double()) / 3
        torch.testing.assert_close(found.double(), exact, rtol=6e-8, atol=0)  # rounded once
    pair = [family["half"], family["half2"]]
    found = weights_of(sf.merge(pair, out=tmp_path / "n", weights=[0.7, 0.3]).model)
    first, second = map(weights_of, pair)
    for name, merged in found.items():
        exact = 0.7 * first[name].double() + 0.3 * second[name].double()
        torch.testing.assert_close(merged.double(), exact, rtol=2**-8, atol=1e-7)


def test_shards_and_whole_files_give_the_same_model(family, tmp_path, monkeypatch):
    given = [family["a"], family["b"]]
    options = {"method": "dare", "base": family["base"], "seed": 3}
    whole = sf.merge(given, out=tmp_path / "whole", **options).model
    monkeypatch.setattr(tensor_files.write_tensors, "__defaults__", (20_000,))
    split = sf.merge(given, out=tmp_path / "split", **options).model
    assert len(list(split.glob("*.safetensors"))) > 2
    load_causal(split)
    monkeypatch.undo()
    joined = sf.merge([split, split], out=tmp_path / "joined").model
    assert (joined / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    other = sf.merge(given, out=tmp_path / "other", **{**options, "seed": 4}).model
    assert (other / "model.safetensors").read_bytes() != (whole / "model.safetensors").read_bytes()


def test_adapters_are_merged_as_the_products_of_their_factors(family, tmp_path):
    from peft import get_peft_model

    from siftune.finetune.models.lora import lora_config

    changes, folders = [], []
    for seed in (1, 2):
        model = get_peft_model(load_causal(family["base"]), lora_config(2, 8))
        torch.manual_seed(seed)
        for weight in model.parameters():
            if weight.requires_grad:
                torch.nn.init.normal_(weight)
        model.peft_config["default"].base_model_name_or_path = family["base"]
        model.save_pretrained(tmp_path / f"adapter{seed}")
        folders.append(str(tmp_path / f"adapter{seed}"))
        layer = model.get_base_model().model.layers[0].self_attn.q_proj
        changes.append(
            (4 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight).detach()
        )
    out = sf.merge(folders, out=tmp_path / "m", weights=[3, 1]).model
    name = "model.layers.0.self_attn.q_proj.weight"
    expected = weights_of(family["base"])[name] + 0.75 * changes[0] + 0.25 * changes[1]
    torch.testing.assert_close(weights_of(out)[name], expected)


def test_tied_weights_stay_tied_also_where_a_folder_has_the_copy(family, tmp_path):
    config = json.loads((Path(family["a"]) / "config.json").read_text())
    assert config["tie_word_embeddings"]
    copy = tmp_path / "copy"
    shutil.copytree(family["b"], copy)
    weights = weights_of(copy)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    for models in ([family["a"], copy], [copy, family["a"]]):
        out = sf.merge(models, out=tmp_path / "m").model
        assert "lm_head.weight" not in weights_of(out)
    model = load_causal(out)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_system_prompts_of_reward_models_stay_and_what_is_lost_is_named(
    tiny_reward_dir, tmp_path, capsys
):
    def trained(name, **facts):
        folder = shutil.copytree(tiny_reward_dir, tmp_path / name)
        known = json.loads((folder / "siftune.json").read_text())
        (folder / "siftune.json").write_text(json.dumps(known | facts))
        return str(folder)

    options = {"domain": "topic", "system_prompts": {"code": "Judge the code."}}
    one = trained("one", options=options, calibration={"scale": 2.0})
    other = trained("other", options=options, known_states="too few answers")
    out = sf.merge([one, other], out=tmp_path / "m").model
    assert SystemPrompts.of_model(out) == SystemPrompts.of_model(one)
    assert SystemPrompts.of_model(out) is not None
    assert "had beside their weights: calibration; it holds only" in capsys.readouterr().err
    third = trained("third", options={**options, "system_prompts": {"code": "Judge."}})
    for model, theirs in ((third, '"Judge."'), (str(tiny_reward_dir), "none and")):
        with pytest.raises(UsageError, match="different system prompts of domains") as caught:
            sf.merge([one, model], out=tmp_path / "n")
        assert theirs in str(caught.value)


def edited(family, folder, **config):
    shutil.copytree(family["b"], folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return str(folder)


def test_models_that_do_not_fit_are_refused_in_one_line(family, tmp_path):
    a, b = family["a"], family["b"]
    wider = edited(family, tmp_path / "wider", vocab_size=999)
    turned = edited(family, tmp_path / "turned", num_attention_heads=4)
    other = tmp_path / "other"
    shutil.copytree(b, other)
    text = (other / "tokenizer.json").read_text()
    tokens = json.loads(text)["model"]["vocab"]
    first, second = [one for one in tokens if one.isalpha()][-2:]
    swapped = text.replace(json.dumps(first) + ": ", '"§": ').replace(
        json.dumps(second) + ": ", json.dumps(first) + ": "
    )
    (other / "tokenizer.json").write_text(swapped.replace('"§": ', json.dumps(second) + ": "))
    broken = tmp_path / "broken"
    shutil.copytree(b, broken)
    weights = weights_of(b)
    weights["model.norm.weight"][0] = math.nan
    save_file(weights, broken / "model.safetensors")
    cases = [
        ({"models": [a, wider]}, "vocab_size is 999 in the one"),
        ({"models": [a, turned]}, "num_attention_heads is 4"),
        ({"models": [a, str(other)]}, "their tokenizers differ"),
        ({"models": [a, str(broken)]}, "model.norm.weight: the merged weights are not finite"),
        ({"models": [a, b], "method": "ties"}, "give the model that all were trained from"),
        ({"models": [a, b, a], "method": "slerp"}, "slerp merges 2 models, got 3"),
        ({"models": [a, b], "base": a}, "linear merges whole models and reads no base model"),
        ({"models": [a]}, "expected two at least, got 1"),
        ({"models": a}, "expected a list of two or more models"),
        ({"models": [a, b], "weights": [1]}, "expected one for each of the 2 models, got 1"),
        ({"models": [a, b], "weights": [0, 0]}, "expected one above 0"),
        ({"models": [a, b], "weights": [2, -1]}, "at least 0"),
        ({"models": [a, b], "method": "tie"}, "did you mean ties?"),
        ({"models": [a, b], "method_options": {"density": 1}}, "linear has no option 'density'"),
    ]
    for given, message in cases:
        with pytest.raises(UsageError) as caught:
            sf.merge(out=tmp_path / "out", **given)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()


def test_every_method_is_a_function_of_the_tensors_alone():
    generator = torch.Generator().manual_seed(1)
    models = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    base = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    for name in names("finetune.merging"):
        given = Group(models.clone(), HALVES, base.clone(), (5, "w"))
        found = method(name)(given)
        assert found.shape == (6, 4)
        assert found.equal(method(name)(given))
        assert given.models.equal(models)
        assert given.base.equal(base)


KNOWN = {
    "linear": [[0.2, -0.425, 1.7], [1.2, -0.3, -2.3]],
    "slerp": [
        [0.21886010468006134, -0.4327157139778137, 2.248654842376709],
        [1.7015045881271362, -0.45773813128471375, -2.9052352905273438],
    ],
    "ties": [[0.25, -1.25, 1.7], [2.25, -1.0, -3.5]],
}


def test_values_of_mergekit():
    """Of mergekit 0.1.5: linear and ties (density .5) with normalize, slerp at t .3."""
    one = [[0.5, -1.25, 2.0], [0.75, 0.0, -3.5]]
    other = [[-0.5, 1.5, 1.0], [2.25, -1.0, 0.5]]
    base = [[0.25, 0.25, -0.5], [0.0, 1.0, -1.0]]
    linear = method("linear")(group([one, other], (0.7, 0.3)))
    torch.testing.assert_close(linear.tolist(), KNOWN["linear"], rtol=1e-6, atol=1e-6)
    slerp = method("slerp")(group([one, other], (0.7, 0.3)))
    torch.testing.assert_close(slerp.tolist(), KNOWN["slerp"], rtol=1e-6, atol=1e-6)
    ties = method("ties", density=0.5)(group([one, other], (0.7, 0.3), base))
    torch.testing.assert_close(ties.tolist(), KNOWN["ties"], rtol=1e-6, atol=1e-6)
