"""Distance of answers from a reward model's training: AUROC on shuffled and foreign ones.

`python -m benchmarks.unlike_answers --pairs FILE --cache FOLDER` trains a reward model on pairs of
prompts with an odd number (AlpacaEval's layout), and looks at answers of 40 to 700 characters to
the other prompts: as they are, with their words shuffled, and answers in other languages (made up,
below). AUROC is the chance that such an answer has the larger distance.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reward_models import Answers, Array, read
from siftune.finetune.models.loading import read_facts
from siftune.finetune.rewards.reward_model import RewardModel
from siftune.finetune.trainers.reward_model import RewardModel as Trainer

_CHARS = (40, 700)


def auroc(known: Array, unlike: Array) -> float:
    """Chance that one of ``unlike`` is larger than one of ``known``, ties half."""
    above = unlike[:, None] > known[None]
    return float((above + 0.5 * (unlike[:, None] == known[None])).mean())


def interval(known: Array, unlike: Array) -> str:
    """AUROC with its 95 % interval, a bootstrap over the answers of both."""
    source = np.random.default_rng(0)
    drawn = [
        auroc(source.choice(known, len(known)), source.choice(unlike, len(unlike)))
        for _ in range(500)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{auroc(known, unlike):.3f} ({low:.3f} … {high:.3f})"


def shuffled(text: str, source: random.Random) -> str:
    """The words of a text in a random order."""
    words = text.split()
    source.shuffle(words)
    return " ".join(words)


def trained(asked: argparse.Namespace, pairs: Any, texts: Sequence[tuple[str, str]]) -> Path:
    """A reward model of some pairs of the odd prompts, trained unless it is in the cache."""
    fits = [
        at
        for at in np.flatnonzero(pairs.prompt % 2 == 1)
        if all(
            _CHARS[0] < len(texts[one][1]) < _CHARS[1]
            for one in (pairs.better[at], pairs.worse[at])
        )
    ]
    drawn = random.Random(0).sample(fits, asked.trained)
    rows = asked.cache / "pairs.jsonl"
    lines = (
        {
            "prompt": texts[pairs.better[at]][0],
            "chosen": texts[pairs.better[at]][1],
            "rejected": texts[pairs.worse[at]][1],
        }
        for at in drawn
    )
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    trainer = Trainer(
        asked.model, lr=1e-4, freeze=asked.freeze, held_out=0.35, on_bad="drop", max_length=256
    )
    return trainer(rows, asked.cache / "model").model


def main(words: Sequence[str] | None = None) -> None:
    """Train, score, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--pairs", type=Path, required=True, help="judgements in AlpacaEval's layout")
    add("--cache", type=Path, required=True, help="folder of the reward model")
    add("--model", default="minilm")
    add("--trained", type=int, default=300, help="pairs to train on and to set the threshold")
    add("--freeze", type=int, default=4)
    add("--answers", type=int, default=100, help="held-out answers, and shuffled ones")
    asked = parser.parse_args(words)
    asked.cache.mkdir(parents=True, exist_ok=True)
    answers = Answers()
    pairs = read(asked.pairs, answers)
    texts = list(answers.number)
    folder = trained(asked, pairs, texts)
    even = np.unique(np.append(*(getattr(pairs, s)[pairs.prompt % 2 == 0] for s in _SIDES)))
    held = [texts[at] for at in even if _CHARS[0] < len(texts[at][1]) < _CHARS[1]]
    source = random.Random(1)
    held = source.sample(held, asked.answers)
    kinds = {
        "as they are": held,
        "shuffled words": [(q, shuffled(a, source)) for q, a in held if len(a.split()) > 12],
        "other languages": [(held[at % len(held)][0], a) for at, a in enumerate(FOREIGN)],
    }
    reward, far = RewardModel(str(folder), max_length=256), {}
    for kind, listed in kinds.items():
        rows = [{"id": kind, "prompt": [{"role": "user", "content": q}]} for q, _ in listed]
        found = reward.scored([q for q, _ in listed], [a for _, a in listed], rows)
        far[kind] = np.array([one.distance for one in found if one.distance is not None])
    facts = read_facts(folder)
    print(f"known states: {facts['known_states']}; calibration: {facts['calibration']}\n")
    print(
        "| answers | number | median distance | AUROC | above the threshold |\n"
        "|---|---|---|---|---|"
    )
    for kind, distances in far.items():
        area = "" if kind == "as they are" else interval(far["as they are"], distances)
        above = (distances > facts["known_states"]["threshold"]).mean()
        print(f"| {kind} | {len(distances)} | {np.median(distances):.2f} | {area} | {above:.2f} |")


_SIDES = ("better", "worse")

FOREIGN = (
    (
        "Natürlich! Um einen guten Kuchen zu backen, brauchst du Mehl, Zucker, Eier und Butter. "
        "Verrühre zuerst die Butter mit dem Zucker, gib dann die Eier dazu und zum Schluss das "
        "Mehl. Backe den Teig vierzig Minuten lang im heißen Ofen."
    ),
    (
        "Die Hauptstadt von Österreich ist Wien. Die Stadt liegt an der Donau und hat fast zwei "
        "Millionen Einwohner. Viele Menschen besuchen dort die Museen, die Oper und die alten "
        "Kaffeehäuser."
    ),
    (
        "Wer gesund bleiben will, sollte sich jeden Tag bewegen, genug schlafen und viel Obst und"
        " Gemüse essen. Auch Freunde zu treffen tut gut, denn Einsamkeit macht krank."
    ),
    (
        "Bien sûr ! Pour apprendre une langue, il faut lire tous les jours, écouter la radio et "
        "parler avec des gens. N'ayez pas peur de faire des fautes, car c'est ainsi que l'on "
        "progresse."
    ),
    (
        "La Révolution française a commencé en 1789, lorsque le peuple de Paris a pris la "
        "Bastille. Elle a mis fin à l'ancien régime et a proclamé les droits de l'homme et du "
        "citoyen."
    ),
    (
        "Voici trois conseils pour mieux dormir : couchez-vous à la même heure chaque soir, "
        "éteignez les écrans une heure avant, et gardez la chambre fraîche et sombre."
    ),
    (
        "¡Claro! Para preparar una tortilla de patatas necesitas huevos, patatas, cebolla y "
        "aceite de oliva. Fríe las patatas a fuego lento, mézclalas con los huevos batidos y "
        "cuaja la tortilla por los dos lados."
    ),
    (
        "El agua hierve a cien grados al nivel del mar. En la montaña la presión es menor, y por "
        "eso el agua hierve a una temperatura más baja y la comida tarda más en cocerse."
    ),
    (
        "Los volcanes se forman cuando el magma sube desde el interior de la tierra. Algunos "
        "están dormidos durante siglos y despiertan de repente con una gran erupción."
    ),
    (
        "Certo! Roma fu fondata, secondo la leggenda, nel 753 avanti Cristo da Romolo e Remo. La "
        "città divenne poi il centro di un impero che si estendeva in tutto il Mediterraneo."
    ),
    (
        "Per risparmiare energia in casa, spegni le luci quando esci, usa lampadine a basso "
        "consumo e abbassa il riscaldamento di notte. Anche le finestre nuove aiutano molto."
    ),
    (
        "Claro que sim! O Brasil é o maior país da América do Sul e faz fronteira com quase todos"
        " os outros. A língua oficial é o português, e a capital é Brasília."
    ),
    (
        "Om goed te leren schrijven moet je vooral veel lezen. Schrijf elke dag een korte tekst, "
        "laat die door een vriend lezen en verbeter daarna de zinnen die niet duidelijk zijn."
    ),
    (
        "Oczywiście! Warszawa jest stolicą Polski i leży nad Wisłą. Po wojnie miasto zostało "
        "prawie całkowicie odbudowane, a dziś mieszka w nim prawie dwa miliony ludzi."
    ),
    (
        "Självklart! För att odla tomater behöver du mycket sol, god jord och vatten varje dag. "
        "Plantera dem i maj och bind upp stjälkarna när de börjar växa på höjden."
    ),
    (
        "Hindi mahirap magluto ng kanin. Hugasan muna ang bigas, lagyan ng tubig na dalawang "
        "beses ang dami, at pakuluan sa mahinang apoy hanggang maubos ang tubig."
    ),
    (
        "Tabii ki! İstanbul, iki kıta üzerinde kurulmuş tek büyük şehirdir. Boğaz, Avrupa ile "
        "Asya'yı birbirinden ayırır ve her gün binlerce gemi buradan geçer."
    ),
    (
        "Конечно! Москва является столицей России. Город стоит на Москве-реке, и в нём живёт "
        "больше двенадцати миллионов человек. Самое известное место города это Красная площадь."
    ),
    (
        "Чтобы хорошо выучить математику, нужно решать много задач. Начните с простых примеров, "
        "проверяйте каждый шаг и не бойтесь спрашивать учителя, если что-то непонятно."
    ),
    (
        "当然可以！学习一门新的语言需要每天练习。你可以听音乐、看电影、读简单的书，也可以和朋友用这种语言聊天。不要害怕犯错误，错"
        "误会帮助你进步。"
    ),
    "北京是中国的首都，有三千多年的历史。故宫、天坛和长城每年吸引几千万游客。城市的公共交通很方便，地铁线路很多。",
    (
        "もちろんです。日本の首都は東京です。人口は約千四百万人で、世界でも最も大きな都市の一つです。電車がとても便利で、食べ物も"
        "美味しいです。"
    ),
    (
        "물론입니다! 김치를 만들려면 배추를 소금에 절이고 고춧가루, 마늘, 생강을 섞은 양념을 "
        "바릅니다. 그다음 항아리에 넣고 며칠 동안 익히면 됩니다."
    ),
    (
        "بالطبع! القاهرة هي عاصمة مصر وتقع على نهر النيل. يعيش فيها أكثر من عشرين مليون نسمة، "
        "ويزورها كثير من السياح كل عام لرؤية الأهرامات القديمة."
    ),
)
"""Answers in 17 languages, made up for this table."""


if __name__ == "__main__":
    main()
