"""Defects that were read in the code of other projects, and the test that ours passes for each.

Where a test was missing, it is in this file. Faults of a program that no component here has, such
as a debugger left on or a call to a name that is not there, have no entry.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build
from siftune.curate.runs.recipe import load

ROOT = Path(__file__).parents[2]
HERE = "oracles/test_peer_defects.py"

DEFECTS: dict[tuple[str, str], str] = {
    # near-duplicates
    ("distilabel EmbeddingDedup", "every copy of a row is deleted"): (
        "curate/test_dedup.py::test_the_best_ranked_of_near_meaning_stays"
    ),
    ("distilabel MinHashDedup", "words as a set: the order of words counts for nothing"): (
        "curate/test_shingles.py::test_each_text_has_as_many_shingles_as_the_slow_reading"
    ),
    ("SemDeDup, NeMo", "compares with rows already removed, and deletes chains"): (
        "curate/test_cosine.py::test_the_cover_is_that_of_all_pairs"
    ),
    ("SemDeDup", "pairs across clusters are missed"): (
        "curate/test_cosine.py::test_looking_into_every_cluster_is_exact"
    ),
    ("SemDeDup", "vectors are taken to have length one"): (
        "curate/test_dedup.py::test_a_row_of_near_meaning_goes_and_one_without_an_embedding_stays"
    ),
    ("text-dedup, Data-Juicer, datatrove, NeMo", "one row is left of a whole component"): (
        "curate/test_cover.py::test_a_chain_is_covered_by_its_ends_not_swallowed"
    ),
    ("text-dedup", "texts of fewer words than an n-gram are never compared"): (
        "curate/test_dedup.py::test_texts_shorter_than_a_shingle_are_compared_too"
    ),
    ("text-dedup", "texts of one script are all duplicates of each other"): (
        "curate/test_shingles.py::test_scripts_without_spaces_make_each_character_a_word"
    ),
    ("semhash", "rows of equal text are lost"): (
        "curate/test_dedup.py::test_equal_answers_go_and_name_the_one_that_stays"
    ),
    ("semhash", "whichever row comes first survives"): (
        "curate/test_dedup.py::test_twenty_orders_of_the_embeddings_give_one_answer"
    ),
    ("NeMo fuzzy", "rows that meet in a band are not verified"): (
        "curate/test_dedup.py::test_rows_of_equal_hash_are_still_told_apart"
    ),
    ("datasketch, datatrove", "near-duplicates are missed by chance"): (
        "curate/test_cover.py::test_the_join_finds_what_comparing_all_pairs_finds"
    ),
    ("datatrove", "the kept rows depend on the order of the work"): (
        "curate/test_dedup.py::test_twenty_orders_of_the_rows_give_one_answer"
    ),
    ("datatrove", "a duplicate does not name what it is a duplicate of"): (
        "curate/test_dedup.py::test_a_near_copy_goes_and_names_its_survivor_and_similarity"
    ),
    ("DataFlow", "similarities of all pairs are held at once"): (
        "curate/test_cosine.py::test_many_copies_are_held_in_parts_and_decided_the_same"
    ),
    ("several", "a similarity equal to the threshold is decided by rounding"): (
        "curate/test_cover.py::test_a_tie_with_the_threshold_is_decided_in_integers"
    ),
    # a ledger, and going on after a stop
    ("Data-Juicer tracer", "ten removed rows are shown, and none of a deduplicator"): (
        "curate/test_run.py::test_every_row_that_came_in_has_one_last_word"
    ),
    ("distilabel", "a run that was stopped hangs or asks again"): (
        "curate/test_judge_killed.py::test_a_killed_run_never_asks_an_answered_question_twice"
    ),
    ("several", "a run that was stopped ends in other rows"): (
        "curate/test_run.py::test_killed_at_any_moment_and_started_again_it_ends_in_the_same_bytes"
    ),
    # IFD
    ("Cherry, Superfiltering, Data-Juicer", "one name for ratios of losses and of perplexities"): (
        "curate/test_lm.py::test_ifd_is_the_ratio_it_is_called"
    ),
    ("Data-Juicer", "keeps the rows that the paper drops"): (
        f"{HERE}::test_presets_by_ifd_drop_what_the_prompt_does_not_help_and_keep_the_hardest_below"
    ),
    ("Cherry", "an error becomes a score of 0"): (
        "curate/test_lm.py::test_what_cannot_be_scored_is_nan_and_leaves_its_neighbours_alone"
    ),
    ("Cherry", "rows without a prompt or an answer have a ratio"): (
        "curate/test_lm.py::test_ifd_of_rows_without_prompt_or_answer_is_null"
    ),
    ("Superfiltering, Data-Juicer", "the first token is left out of one of the two losses"): (
        "curate/test_lm.py::test_mean_nll_is_that_of_one_row_at_a_time"
    ),
    ("Superfiltering", "a model without a start token scores other tokens"): (
        "curate/test_lm.py::test_a_model_without_a_start_token_is_refused_in_words"
    ),
    ("Cherry", "the answer is cut differently in the two passes"): (
        "curate/test_lm.py::test_a_row_fits_to_the_last_token_of_the_window"
    ),
    ("Cherry, Superfiltering", "right for one row at a time only"): (
        "curate/test_lm.py::test_company_and_order_do_not_matter"
    ),
    ("Cherry, Superfiltering", "rows of several turns are not defined"): (
        "contracts/test_scorers.py::test_every_turn_is_scored_on_the_turns_up_to_it"
    ),
    ("Cherry", "the number of kept rows is a share of 52,002, whatever the rows are"): (
        "curate/test_selectors_by_value.py::test_top_fraction_is_of_all_rows_and_at_least_one"
    ),
    # RDS, DEITA, InsTag, SelectIT, Nuggets, MoDS, CaR, LESS, DSIR
    ("RDS+", "padding moves the mean of a batch"): (
        "curate/test_rds.py::test_padding_does_not_matter"
    ),
    ("RDS+", "the default takes the least similar rows"): (
        "curate/test_rds_round_robin.py::test_nearer_is_larger_and_the_detail_names_the_target"
    ),
    ("RDS+", "a task loses its turn where its row is taken"): (
        "curate/test_rds_round_robin.py::test_it_takes_what_a_full_ranking_takes"
    ),
    ("DEITA, vLLM", "3.0 where a rating has no probability"): (
        "curate/test_judge_tasks.py::test_an_answer_without_a_verdict_is_refused"
    ),
    ("DEITA", "in a batch, a row is dropped for one that is dropped itself"): (
        "curate/test_deita_filter.py::test_the_kept_rows_are_those_of_one_at_a_time"
    ),
    ("distilabel DeitaFiltering", "compares with the whole corpus, by distance: none can pass"): (
        "curate/test_deita_filter.py::"
        "test_each_dropped_row_names_the_most_similar_row_kept_before_it"
    ),
    ("distilabel DeitaFiltering", "of two copies neither is kept"): (
        "curate/test_deita_filter.py::"
        "test_a_better_row_stands_for_a_similar_one_and_the_budget_ends_the_rest"
    ),
    ("DataFlow InsTag", "counts tags and draws no diverse sample"): (
        "curate/test_instag.py::test_rounds_by_hand"
    ),
    ("SelectIT", "a softmax of probabilities"): (
        "curate/test_selectit.py::test_selectit_applies_softmax_once"
    ),
    ("SelectIT", "an exception moves every later score by one row"): (
        "curate/test_selectit.py::test_an_exception_shifts_no_later_score"
    ),
    ("SelectIT", "weights of models that do not add up to one"): (
        "curate/test_selectit.py::test_models_weigh_by_their_share_of_all_parameters"
    ),
    ("SelectIT", "the tokens of one tokenizer are written into the code"): (
        "curate/test_selectit.py::test_the_ratings_are_those_of_the_model"
    ),
    ("Nuggets", "made for 52,002 rows in eleven files"): (
        "curate/test_nuggets.py::test_it_is_the_share_of_anchors_that_the_row_makes_likelier"
    ),
    ("MoDS", "a threshold is compared as a text"): (
        f"{HERE}::test_a_threshold_that_is_no_number_is_refused"
    ),
    ("MoDS, Cherry", "rows that fail vanish"): (
        "contracts/test_selectors.py::test_every_row_gets_a_decision_and_a_reason"
    ),
    ("CaR", "the best of a cluster that are among the best of all"): (
        "curate/test_car.py::test_the_best_of_all_and_of_each_cluster_are_kept"
    ),
    ("LESS", "ε inside the root, and no correction of the moments"): (
        "finetune/test_less.py::test_an_adam_direction_is_the_step_of_torch"
    ),
    ("LESS", "made for three tasks, whose rows must divide evenly"): (
        "finetune/test_less.py::test_it_equals_its_definition"
    ),
    ("DSIR", "rows of fewer than 100 tokens are dropped without a word"): (
        f"{HERE}::test_a_row_of_one_word_has_a_weight"
    ),
    ("DSIR", "a sum, which long rows win"): ("curate/test_dsir.py::test_weights_by_a_dictionary"),
    ("DSIR", "the noise is nothing beside the weights, so nothing is drawn"): (
        "curate/test_dsir.py::test_one_over_the_deviation_is_the_temperature_of_the_paper"
    ),
    ("DSIR", "draws without a seed"): (
        "curate/test_selectors_by_value.py::"
        "test_a_draw_depends_on_the_seed_and_the_scale_of_a_score_on_nothing"
    ),
    ("DSIR", "fails where as many rows are wanted as there are"): (
        "contracts/test_selectors.py::test_more_rows_than_there_are_keeps_all_that_can_be_compared"
    ),
    ("submodlib, apricot", "a matrix of all pairs, so no more than some thousand rows"): (
        "curate/test_facility_location.py::"
        "test_the_pairs_that_matter_are_those_above_what_covers_the_row"
    ),
    # judges
    ("AlpaGasus", "of 4.5 the first character is read"): (
        "curate/test_judge_parsing.py::test_a_score_is_read_where_it_is_unambiguous"
    ),
    ("AlpaGasus", "an answer without a score is -1, and the row is dropped for it"): (
        "curate/test_judge_engine.py::test_what_never_parses_has_no_value"
    ),
    ("AlpaGasus", "a failed call is tried for ever"): (
        "curate/test_judge_engine.py::"
        "test_a_failure_that_stays_ends_after_five_tries_without_a_value"
    ),
    ("AlpaGasus", "which of many equal scores are kept is chance"): (
        "curate/test_selectors_by_value.py::"
        "test_top_k_breaks_ties_by_digest_and_says_where_a_row_came"
    ),
    ("open-instruct", "the verdict is never used: the first answer is always chosen"): (
        "curate/test_judge_tasks.py::"
        "test_planted_preferences_come_back_and_planted_inconsistency_is_found"
    ),
    ("open-instruct", "a judgement that fails ends the run"): (
        "curate/test_judge_engine.py::test_a_row_without_a_value_has_an_error"
    ),
    ("PairRM, Prometheus in distilabel", "one order of the answers is judged"): (
        "curate/test_judge_tasks.py::"
        "test_both_orders_cancel_a_planted_position_bias_in_probabilities"
    ),
    ("distilabel", "tokens are counted and no price is capped"): (
        "curate/test_judge_cache.py::test_the_cap_is_never_passed_and_what_does_not_fit_has_no_value"
    ),
    # pairs
    ("UltraFeedback", "an overall score of 1 became 10"): (
        "curate/test_ultrafeedback.py::"
        "test_an_overall_score_that_was_one_is_marked_and_does_not_count"
    ),
    ("Difficulty-based selection", "takes the most negative gaps: pairs with a wrong label"): (
        "curate/test_pair_selectors.py::test_difficulty_takes_small_gaps_not_negative_ones"
    ),
    ("Difficulty-based selection", "padding is summed into the log-probability"): (
        "contracts/test_scorers.py::test_batches_do_not_matter"
    ),
    # contamination
    ("open-instruct, Elasticsearch", "not every overlap is found"): (
        "curate/test_contamination.py::test_the_share_is_that_of_a_plain_search"
    ),
    ("datatrove, open-instruct", "items shorter than an n-gram are not looked for"): (
        "curate/test_contamination.py::test_a_short_question_inside_a_longer_one_is_found"
    ),
    ("several", "only the prompt is searched"): (
        "curate/test_contamination.py::"
        "test_a_leak_in_the_answer_is_found_and_a_short_answer_is_no_item"
    ),
}


@cache
def names_of(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text("utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("defect", DEFECTS, ids=" - ".join)
def test_the_test_of_each_defect_is_there(defect: tuple[str, str]) -> None:
    file, _, name = DEFECTS[defect].partition("::")
    assert name in names_of(file)


@pytest.mark.parametrize("name", ["cherry", "superfilter", "superfilter_diverse"])
def test_presets_by_ifd_drop_what_the_prompt_does_not_help_and_keep_the_hardest_below(
    name: str,
) -> None:
    stages = load(ROOT / "curate" / "recipes" / f"{name}.yaml", ["source=rows.jsonl"]).stages
    bound, best = (one for one in stages if one.options.get("by") == "ifd")
    table = pl.DataFrame(
        {
            "id": [f"f:{at}" for at in range(20)],
            "digest": [f"{at:02}" for at in range(20)],
            "ifd": np.linspace(0.15, 1.1, 20),
        }
    )
    kept = table.filter(build("curate.selectors", bound.name, bound.options)(table)["keep"])
    below = kept["ifd"].to_list()
    assert max(below) == pytest.approx(1.0)
    last = build("curate.selectors", best.name, best.options)(kept)
    assert kept.filter(last["keep"])["ifd"].to_list() == sorted(below)[-last["keep"].sum() :]
    assert 0 < last["keep"].sum() < len(below)


def test_a_threshold_that_is_no_number_is_refused() -> None:
    with pytest.raises(UsageError, match="min"):
        build("curate.selectors", "threshold", {"by": "classifier", "min": "good"})


def test_a_row_of_one_word_has_a_weight(tmp_path: Path) -> None:
    from siftune.curate.scorers.dsir import DSIR
    from tests.curate.test_dsir import chats

    (tmp_path / "targets.jsonl").write_text('{"text": "two plus two"}\n')
    found = DSIR(against=str(tmp_path / "targets.jsonl"))(chats(["two", "cat"]))
    assert found["dsir"].null_count() == 0
    assert found[0, "dsir"] > found[1, "dsir"]
