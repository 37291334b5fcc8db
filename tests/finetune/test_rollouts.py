"""Completions from elsewhere: a server's log-probabilities are weighed, a file's are known."""

from __future__ import annotations

import json
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import orjson
import polars as pl
import pytest
import torch

from siftune.curate.core.errors import DataError, SiftuneError, UsageError
from siftune.curate.core.schema import schema_of
from siftune.curate.rows.chat import turn
from siftune.curate.text.sampling import Sampling, sample
from siftune.finetune.models import loading
from siftune.finetune.policy_losses.ppo_clip import PPOClip
from siftune.finetune.rl.collector import Collector
from siftune.finetune.rl.curriculum import PromptOrder
from siftune.finetune.rl.importance import importance_metrics, truncated_weights
from siftune.finetune.rl.model import Tokens, policy_scores
from siftune.finetune.rl.parts import Divisor
from siftune.finetune.rl.rollout import Prompt, Rollout
from siftune.finetune.rl.rollouts.in_process import InProcess
from siftune.finetune.rl.rollouts.samples import Samples
from siftune.finetune.rl.rollouts.server import Server
from siftune.finetune.rl.rollouts.types import Draw, Sampled
from siftune.finetune.rl.update import Update, update
from siftune.finetune.trainers.grpo import GRPO
from siftune.finetune.training.on_policy import OnPolicy
from tests.finetune import test_ppo
from tests.finetune.test_ppo import collector

ENDS = frozenset({2})
SAMPLING = Sampling(1.0, 3, ENDS, 0)
asked = test_ppo.rows


@contextmanager
def serving(answer: Callable[[dict[str, Any]], tuple[int, Any]]) -> Iterator[tuple[str, list[Any]]]:
    """A completions server: its address, and the requests that it got."""
    bodies: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Nothing is logged."""

        def do_POST(self) -> None:
            body = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bodies.append((self.path, body))
            status, said = answer(body)
            content = orjson.dumps(said)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}/v1#policy", bodies
    finally:
        http.shutdown()
        http.server_close()


def completion(ids: list[int] | None, logps: list[Any], tokens: list[str] | None = None) -> Any:
    shown = tokens or [f"token_id:{one}" for one in ids or ()]
    choice = {"text": "", "logprobs": {"tokens": shown, "token_logprobs": logps}}
    return {"choices": [choice | ({} if ids is None else {"token_ids": ids})]}


def test_weights_and_their_statistics_by_hand() -> None:
    old = torch.tensor([[-1.0, -1.0], [-2.0, 0.0]])
    server = torch.tensor([[-1.0, -1.0 - math.log(3)], [-2.0 + math.log(2), 0.0]])
    mask = torch.tensor([[True, True], [True, False]])
    assert truncated_weights(old, server, 2.0).tolist() == [
        pytest.approx([1.0, 2.0]),
        pytest.approx([0.5, 1.0]),
    ]
    found = importance_metrics(old, server, mask, 2.0)
    expected = {"mean": 1.5, "max": 3.0, "cut": 1 / 3, "weight": 3.5 / 3}
    expected["kl"] = (math.log(2) - math.log(3)) / 3
    assert found == pytest.approx(expected)
    assert truncated_weights(torch.tensor(0.0), torch.tensor(-1e6), 5.0) == 5.0


def test_with_weights_the_gradient_is_the_policys_own_and_without_it_is_not(
    tiny_model_dir, asked
) -> None:
    """Answers of one token; the server's law is q = (1, 2, ..., 6) / 21 on six of them.

    21 draws hold each as often as q says, so that the mean of w A ∇log π is Σ π A ∇log π to
    rounding, whatever q is; without weights it is that of the server.
    """
    made = collector(tiny_model_dir, asked)
    prompt, tokens = made.prompts[0], [5, 9, 12, 30, 44, 51]
    worth = {token: at - 2.5 for at, token in enumerate(tokens)}
    draws = [token for at, token in enumerate(tokens) for _ in range(at + 1)]
    law = {token: math.log(count / 21) for token, count in Counter(draws).items()}
    queue = iter(draws)
    lock = threading.Lock()

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        with lock:
            token = next(queue)
        return 200, completion([token], [law[token]])

    drawn: list[int] = []
    settings = replace(
        made.settings, batch_size=21, minibatches=1, micro_batch=21, temperature=1.0, kl_coef=0.0,
        whiten=False, lam=1.0, gamma=1.0, missing_eos_penalty=0.0, max_new_tokens=1,
        rollouts_from="http://localhost/v1#m", importance_cap=1e6,
    )  # fmt: skip
    one = replace(made.sampling, temperature=1.0, max_new_tokens=1)
    torch.nn.init.zeros_(made.model.value_head.weight)
    with serving(answer) as (address, bodies):
        server = Server.at(address, made.tokenizer, one, {})
        made = replace(made, sampling=one, settings=settings, sampler=server, prompts=[prompt])

        class Reward:
            def __call__(self, prompts, completions, rows):
                return [worth[token] for token in drawn]

        own = server.__class__.__call__
        with pytest.MonkeyPatch.context() as patch:

            def noted(self: Server, policy: Any, wanted: Any) -> Any:
                found = own(self, policy, wanted)
                drawn.extend(ids[0] for ids in found.ids)
                return found

            patch.setattr(Server, "__call__", noted)
            rollout = replace(made, reward=Reward())(0, 0.0)
    path, body = bodies[0]
    assert path == "/v1/completions"
    assert body["prompt"] == list(prompt.ids)
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (1.0, 1.0, 1)
    assert len({body["seed"] for _, body in bodies}) == 21
    assert Counter(drawn) == Counter(draws)

    policy = made.model.policy
    weight = policy.get_output_embeddings().weight

    def gradient(of: Any) -> torch.Tensor:
        policy.zero_grad()
        of.backward()
        return weight.grad.clone()

    def updated(rollout: Any) -> Update:
        rows = torch.arange(21)
        divisor = Divisor.of("token_mean", rollout.learned, rows, 1)
        return update(made.model, rollout, rows, PPOClip(), divisor, settings, "cpu")

    done = updated(rollout)
    weighted = gradient(done.loss / 21)
    plain = updated(replace(rollout, weights=None))
    unweighted = gradient(plain.loss / 21)
    batch = Tokens.of([prompt.ids] * 6, [[token] for token in tokens], 0)
    logps = policy_scores(policy, batch, 1.0)[0]["policy"].squeeze(1)
    exact = gradient(-(logps.exp().detach() * torch.tensor([*worth.values()]) * logps).sum())
    assert float((weighted - exact).norm() / exact.norm()) < 1e-4
    assert float((unweighted - exact).norm() / exact.norm()) > 0.1
    ratios = (logps.exp() / torch.tensor([law[token] for token in tokens]).exp()).detach()
    shares = torch.tensor([law[token] for token in tokens]).exp()
    metrics = rollout.metrics()
    assert metrics["rollout/importance_mean"] == pytest.approx(float((ratios * shares).sum()))
    assert metrics["rollout/importance_max"] == pytest.approx(float(ratios.max()))
    assert metrics["rollout/importance_cut"] == 0
    assert replace(made.settings, importance_cap=None).weight_cap == 2.0


class Words:
    """A tokenizer of single letters and of the pair "ab", which it always joins."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [7 if one == "ab" else ord(one) for one in re.findall("ab|.", text)]

    def decode(self, ids: list[int]) -> str:
        return "".join("ab" if one == 7 else chr(one) for one in ids)


DRAW = Draw({"id": "q:7"}, (4, 5), (1, 2))


def served(said: Any, **options: Any) -> tuple[list[int], list[float]]:
    server = Server.at("http://localhost:1/v1#m", Words(), SAMPLING, options)
    return server._completion(DRAW, said if isinstance(said, bytes) else orjson.dumps(said))


def test_ids_are_read_as_servers_write_them_and_end_with_the_end() -> None:
    logps = [-0.5, -1.0, -0.25]
    assert served(completion([8, 9, 2], logps)) == ([8, 9, 2], logps)
    assert served(completion(None, logps[:2], ["token_id:8", "token_id:2"])) == ([8, 2], [-0.5, -1])
    assert served(completion([8, 2, 6], logps)) == ([8, 2], [-0.5, -1.0])  # nothing after the end
    assert served(completion([8, 9, 6, 2], [*logps, -1.0]))[0] == [8, 9, 6]
    texts = completion(None, logps, ["x", "ab", "y"])
    assert served(texts) == ([ord("x"), 7, ord("y")], logps)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (completion(None, [-1.0] * 3, ["x", "a", "b"]), "encoded again, gives other tokens"),
        (completion([8, 9, 2], [-1.0, None, -1.0]), "None is no log-probability"),
        (completion([8, 9, 2], [-1.0, 0.5, -1.0]), "0.5 is no log-probability"),
        (completion([8, 9, 2], [-1.0] * 2), "3 tokens have 2 log-probabilities"),
        (completion([8, "9", 2], [-1.0] * 3), "expected token ids"),
        (completion([], [], ["token_id:1"]), "expected token ids"),
        (completion([8, 9], [-1.0] * 2), "stopped after 2 of 3 tokens without an end token"),
        ({"choices": [{"text": "yes"}]}, "no completion with logprobs"),
        (b"<html>", "no completion with logprobs: '<html>'"),
    ],
)
def test_what_is_no_completion_is_refused_with_the_row(said: Any, why: str) -> None:
    with pytest.raises(SiftuneError, match=f"completion of row q:7: .*{why}"):
        served(said)


def test_raw_logprobs_and_unknown_options_are_refused() -> None:
    warm = replace(SAMPLING, temperature=0.7)
    with pytest.raises(UsageError, match="logprobs raw are those of temperature 1"):
        Server.at("http://localhost:1/v1#m", Words(), warm, {"logprobs": "raw"})
    Server.at("http://localhost:1/v1#m", Words(), SAMPLING, {"logprobs": "raw"})
    with pytest.raises(UsageError, match="unknown option 'retries'; there are logprobs"):
        Server.at("http://localhost:1/v1#m", Words(), SAMPLING, {"retries": 3})
    with pytest.raises(UsageError, match="needs the name of a model"):
        Server.at("http://localhost:1/v1", Words(), SAMPLING, {})


def test_a_failure_that_passes_is_asked_again_and_one_that_does_not_names_the_row() -> None:
    seen = Counter[int]()

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        seen[body["prompt"][0]] += 1
        if body["prompt"] == [9] or seen[4] < 3:
            return 503 if body["prompt"] == [4, 5] else 404, {"error": {"message": "busy"}}
        return 200, completion([8, 2], [-1.0, -2.0])

    with serving(answer) as (address, _):
        server = Server.at(address, Words(), SAMPLING, {"pause": 0.0, "tries": 3})
        found = server(None, [DRAW])
        assert (found.ids, found.logps, seen[4]) == ([[8, 2]], [[-1.0, -2.0]], 3)
        with pytest.raises(SiftuneError, match=r"row q:9: http_404"):
            server(None, [Draw({"id": "q:9"}, (9,), (1,))])
        assert seen[9] == 1

    def busy(body: dict[str, Any]) -> tuple[int, Any]:
        seen[0] += 1
        return 503, {"error": {"message": "busy"}}

    with serving(busy) as (address, _), pytest.raises(SiftuneError, match="http_503"):
        Server.at(address, Words(), SAMPLING, {"pause": 0.0})(None, [DRAW])
    assert seen[0] == 5


def test_the_policy_itself_draws_in_batches_of_like_length(tiny_model_dir, monkeypatch) -> None:
    """A completion is the same to the token as alone; long prompts do not pad short ones."""
    policy: Any = loading.load_causal(tiny_model_dir)
    tokenizer: Any = loading.load_tokenizer(tiny_model_dir)
    sampling = Sampling(0.9, 6, frozenset({tokenizer.eos_token_id}), tokenizer.pad_token_id)
    lengths = (5, 60, 9, 70, 20)
    draws = [
        Draw({"id": str(at)}, tuple(10 + (at + i) % 50 for i in range(n)), (3, at))
        for at, n in enumerate(lengths)
    ]
    widths = []

    def noted(policy: Any, prompts: Any, *rest: Any) -> Any:
        widths.append(sorted(map(len, prompts)))
        return sample(policy, prompts, *rest)

    monkeypatch.setattr("siftune.finetune.rl.rollouts.in_process.sample", noted)
    together = InProcess(sampling)(policy, draws)
    assert widths == [[5, 9, 20], [60, 70]]
    assert together.logps is None
    alone = [InProcess(sampling)(policy, [draw]).ids[0] for draw in draws]
    assert together.ids == alone
    assert InProcess(sampling)(policy, draws[::-1]).ids[::-1] == alone


@pytest.fixture
def samples(tiny_model_dir, tmp_path):
    """A folder as `siftune finetune sample` writes it, of two prompts."""
    listed = [
        {
            "id": f"asked:{at}", "source": "asked", "row": at, "kind": "ranked", "digest": str(at),
            "prompt": [turn("user", "Say hello.")],
            "completions": [[turn("assistant", text)] for text in texts],
            "scores": [1.0] * len(texts),
        }
        for at, texts in enumerate((["yes", "no"], ["one"]))
    ]  # fmt: skip
    folder = tmp_path / "samples"
    folder.mkdir()
    pl.DataFrame(listed, schema=schema_of("ranked")).write_parquet(folder / "kept.parquet")
    facts = {
        "model": {"path": "policy", "hash": loading.model_hash(str(tiny_model_dir))},
        "options": {"temperature": 0.7, "opponents": 0},
    }
    (folder / "sampling.json").write_text(json.dumps(facts))
    return folder


def test_answers_of_a_file_are_drawn_in_turn_and_weighed_by_the_reference(
    tiny_model_dir, samples, asked
) -> None:
    made = collector(tiny_model_dir, asked)
    base = loading.model_hash(str(tiny_model_dir))
    given = (str(samples), "policy", base, made.tokenizer, made.sampling)
    read = Samples.read(*given)
    assert read.lacking(["asked:0", "asked:1", "asked:2"], 2) == ["asked:1", "asked:2"]
    row = {"id": "asked:0"}
    drawn = read(None, [Draw(row, (), (), number) for number in range(4)])
    texts = [made.tokenizer.decode(ids, skip_special_tokens=True) for ids in drawn.ids]
    assert texts == ["yes", "no", "yes", "no"]
    assert all(ids[-1] in made.sampling.ends for ids in drawn.ids)
    most = max(map(len, drawn.ids))
    for limit in (most, most - 1):  # longer answers are none of this policy
        few = Samples.read(*given[:4], replace(made.sampling, max_new_tokens=limit)).answers
        fitting = [[ids for ids in one if len(ids) <= limit] for one in read.answers.values()]
        assert list(few.values()) == [one for one in fitting if one]
    with pytest.raises(SiftuneError, match="no answer of row asked:9"):
        read(None, [Draw({"id": "asked:9"}, (), ())])
    settings = replace(made.settings, rollouts_from=str(samples))
    even = {"reward": lambda prompts, texts, rows: [1.0] * len(texts), "sampler": read}
    first = replace(made, prompts=made.prompts[:2], settings=settings, **even)
    rollout = first(0, 0.1)
    mask = rollout.tokens.mask
    expected = torch.exp(rollout.old.logps - rollout.ref_logps).clamp(max=2.0)
    torch.testing.assert_close(rollout.weights[mask], expected[mask])
    assert set(rollout.completions) <= {"yes", "no", "one"}
    k1 = (rollout.old.logps - rollout.ref_logps)[mask]
    weight = rollout.weights[mask]
    count = len(rollout.scores)
    assert rollout.kl == pytest.approx(float((weight * k1 + 1 - weight).sum()) / count)
    assert rollout.kl > 0
    k3 = (weight * ((-k1).exp() - 1 + k1)).sum() / count
    assert rollout.metrics()["objective/kl_k3"] == pytest.approx(float(k3), rel=1e-4)
    rows = torch.arange(count)
    in_loss = replace(settings, kl_in="loss", minibatches=1, micro_batch=count)
    divisor = Divisor.of("token_mean", rollout.learned, rows, 1)
    given = (rows, PPOClip(), divisor, in_loss, "cpu")
    with torch.no_grad():  # some updates later
        made.model.policy.get_output_embeddings().weight.mul_(1.1)
    plain = update(made.model, replace(rollout, weights=None), *given)
    nothing = replace(rollout, weights=torch.zeros_like(rollout.weights))
    done = update(made.model, nothing, *given)
    assert set(done.sums) > {"loss/policy", "loss/value", "loss/kl"}
    assert abs(plain.loss.item()) > 0.01
    assert plain.moved != 0
    assert (done.loss.item(), done.moved) == (0, 0)


def test_with_weights_the_estimate_of_the_kl_is_that_of_the_policy_whoever_sampled() -> None:
    policy, reference, other = (
        torch.tensor(law) for law in ([0.7, 0.2, 0.1], [0.2, 0.3, 0.5], [0.3, 0.4, 0.3])
    )
    exact = float((policy * (policy / reference).log()).sum())
    for sampler in (policy, reference, other):
        made: Any = SimpleNamespace(
            old=SimpleNamespace(logps=policy.log()),
            ref_logps=reference.log(),
            weights=truncated_weights(policy.log(), sampler.log(), 10.0),
        )
        found = Rollout.token_kl.fget(made)
        assert float((sampler * found).sum()) == pytest.approx(exact, abs=1e-6)
        made.weights = None
        plain = float((sampler * Rollout.token_kl.fget(made)).sum())
        assert (plain == pytest.approx(exact, abs=1e-6)) is (sampler is policy)


def test_a_prompt_is_answered_from_a_file_in_turn_however_often_it_is_drawn() -> None:
    numbers: dict[str, list[int]] = {}

    def sampler(policy: Any, draws: Any) -> Sampled:
        for draw in draws:
            numbers.setdefault(draw.row["id"], []).append(draw.number)
        return Sampled([[2] for _ in draws])

    made: Any = Collector(
        model=SimpleNamespace(policy=None),  # type: ignore[arg-type]
        reference=None,
        tokenizer=SimpleNamespace(batch_decode=lambda ids, **_: [""] * len(ids)),
        prompts=[Prompt({"id": str(at)}, "", (1,)) for at in range(5)],
        reward=lambda prompts, texts, rows: [1.0] * len(texts),
        sampling=SAMPLING,
        settings=GRPO(model="m", reward="length", batch_size=2, group_size=2, minibatches=1),
        order=PromptOrder((0, 1, 2, 2), 0),
        sampler=sampler,
    )
    for index in range(6):
        made._drawn(index)
    assert numbers == {"0": [*range(6)], "1": [*range(6)], "2": [*range(12)]}


def test_a_file_needs_answers_of_the_rows_alone_that_are_drawn(
    tiny_model_dir, asked, tmp_path, monkeypatch
) -> None:
    rows = pl.read_parquet(asked)
    ids = rows["id"].to_list()
    rows = rows.with_columns(p=pl.Series([0.5, 0.6, *[0.0] * (len(ids) - 2)]))
    rows.write_parquet(tmp_path / "rows.parquet")
    found = []

    def noted(self: Any, model: str, tokenizer: Any, sampling: Any, drawn: Any, size: int) -> Any:
        found.extend(drawn)
        raise UsageError("enough")

    monkeypatch.setattr(OnPolicy, "sampler_of", noted)
    trainer = test_ppo.ppo(tiny_model_dir, pass_rate="p", min_pass_rate=0.4, batch_size=2)
    with pytest.raises(UsageError, match="enough"):
        trainer(tmp_path / "rows.parquet", tmp_path / "out")
    assert found == ids[:2]


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"model": {"path": "other", "hash": "0"}}, "was sampled from other, and the run starts"),
        ({"options": {"temperature": 1.0}}, "at temperature 1.0, and the run's is 0.7"),
        ({"options": {"temperature": 0.7, "opponents": 2}}, "holds answers of opponents"),
    ],
)
def test_samples_of_another_policy_are_refused(tiny_model_dir, samples, facts, why) -> None:
    written = json.loads((samples / "sampling.json").read_text())
    (samples / "sampling.json").write_text(json.dumps(written | facts))
    base = loading.model_hash(str(tiny_model_dir))
    tokenizer = loading.load_tokenizer(tiny_model_dir)
    sampling = Sampling(0.7, 8, frozenset({tokenizer.eos_token_id}), 0)
    with pytest.raises((UsageError, DataError), match=why):
        Samples.read(str(samples), "policy", base, tokenizer, sampling)
    with pytest.raises(UsageError, match=r"neither URL#MODEL of a server nor a folder"):
        Samples.read("nowhere", "policy", base, tokenizer, sampling)
