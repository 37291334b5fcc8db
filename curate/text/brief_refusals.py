"""Brief refusals in any wording, by structure: who declines, and how little else there is.

Rules for answers of a few sentences, none of which needs a stock phrase. A clause *declines* if it
has the first person near a negation (or near an end: "stop", "out of reach", "off limits"), or is a
negation and little else. It *sends away* by an office or a profession and the second person. An
answer without steps to follow is a refusal

* if clauses that decline begin it and are most of it, or it opens with one and never turns to help;
* if its prompt requests harm, and it declines or is dense in words of law and morals;
* if its prompt asks how to do something, and it condemns and praises;
* if it is one line that calls what was requested bad;
* if its prompt is about the person who asks, and most of it sends away or asks back.

Prompts that want a text in someone's words (a scene, a reply, an excuse) are left out, unless the
answer declines to write it, and so are those that want protection from harm, or an explanation.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from siftune.curate.text import refusal_phrases as phrases

__all__ = ["brief_refusals"]

_LONGEST, _BRIEF, _SHORT, _LINE, _FEW, _HELP = 520, 80, 42, 22, 14, 10  # characters; words
_SELF: Final = (
    r"(?:\b(?:i|me|my|mine|myself|here)\b|\bi['’](?:m|ve|d|ll)\b"
    r"|\bthis (?:system|assistant|model|chat|service|tool)\b)"
)
_NEGATION: Final = (
    r"\b(?:not|no|never|none|nothing|nobody|cannot|can['’]t|\w+n['’]t|without|unable|unwilling"
    r"|nope|nah|neither|lacks?|refus\w+|declin\w+|opt(?:ing)? out|stop|halt"
    r"|(?:beyond|outside|off|out of|past)(?: \w+)? (?:reach|limits?|table|scope|bounds|remit"
    r"|capabilit\w+|abilit\w+|what)|draw (?:the|a) line|a line|blank|pass on)\b"
)
_NEAR: Final = (
    rf"(?i)(?:{_SELF}(?:\W+\w+){{0,3}}?\W+{_NEGATION}|{_NEGATION}(?:\W+\w+){{0,5}}?\W+{_SELF}"
    r"|\b(?:beyond|outside|out of) (?:my|what (?:i|this)|the scope of this)\b"
    r"|\b(?:nobody|no one|none of us)(?:\W+\w+){0,2}?\W+(?:can|could|knows)\b)"
)
_OPENS: Final = (
    r"(?i)^\W*(?:no,? |(?:i['’]m )?(?:so |very |really )?sorry,? |i apologi[sz]e,? "
    r"|unfortunately,? "
    r"|as an? [^,]{2,40}, )*i(?:['’]m| am| must| have to| will have to| do| would)?(?: \w+ly)?"
    r" (?:can ?not|can['’]t|won['’]t|will not|(?:un|not )able|unwilling|not (?:going|comfortable"
    r"|willing|allowed|permitted)|refuse|decline|don['’]t (?:have|feel|provide|engage)"
    r"|not (?:have|feel)|an? [^,.]{2,30} (?:and|who|that) (?:do not|don['’]t|can ?not))\b"
)
_TURNS: Final = (
    r"(?i)\b(?:however|nevertheless|as of|at my last|last update|that said|here(?:['’]s| is| are)"
    r"|for example|instead|in general"
    r"|generally|typically|usually|mostly|probably|(?:[^y\W]|\by)\w*\W+but|you (?:can|could|may"
    r"|might)|try|if you|i (?:can|could) (?:tell|still|help|offer|give|provide))\b"
)
_BARE: Final = (
    r"(?i)^\W*(?:i['’]m afraid |sorry,? )?(?:absolutely not|definitely not|certainly not|nope|nah"
    r"|no way|no chance|(?:a )?hard no|never|not (?:doing|going|happening|gonna|a chance)\b"
    r"(?:\W+\w+){0,4})\W*$"
)
_HARM: Final = (
    r"(?i)\b(?:kill|murder|poison|bomb|explosive|weapon|gun|shoot|stab|assassinat|steal|shoplift"
    r"|rob\b|robbing|burgl|scam|phish|fraud|forg(?:e|ing)|fake|counterfeit|launder|hack|password"
    r"|malware|ransom|spyware|keylog|lock(?:s)? .*files|stalk|spy(?:ing)?\b|harass|bull(?:y|ies)"
    r"|threat|blackmail|extort|insult|slur|mock|humiliat|worthless|racis|sexis|nazi|genocide|hate"
    r"|supremac|ethnic groups|sex(?:y|ual)|porn|nude|naked|rape|drugs?\b|cocaine|meth\b|heroin"
    r"|suicid|kill myself|self[- ]harm|starv|(?:[1-6]\d\d|zero) calories|cheat|plagiar|drunk"
    r"|get away with|being caught|get(?:ting)? caught|without (?:\w+ ){0,4}(?:knowing|noticing|"
    r"finding out|permission|consent|leaving|paying)|secretly|abus|hit my|beat(?:ing)? (?:up|my|"
    r"him|her)|tortur|hurt|attack|revenge|destroy|ruin|sabotag|brib|smuggl|traffic|evade|dodg"
    r"|skip the|false|lie (?:to|about)|rumou?r|dox|address so|impersonat|manipulat|control my"
    r"|keep my (?:wife|husband|girlfriend|boyfriend)|stop taking|evidence that|crash victims|prank"
    r"|cruel|illegal|unpaid|scare|trick|rig\b|beat a|lazy|useless|worse at|inferior|quit\b"
    r"|fear me|deport|pull people over)"
)
_ASKS: Final = (
    r"(?i)^\W*(?:please |can you |could you |i (?:want|need) (?:you )?to )?(?:how (?:(?:do|can"
    r"|could"
    r"|should|would|might) (?:i|we|you|one)|to)\b|what(?:['’]s| is| are)? (?:the |some )?(?:best"
    r"|easiest|good|way|should i"
    r"|drugs)|which|help|write|give|tell|make|create|generate|draft|teach|show|explain (?:how|why)"
    r"|describe|convince|list|rank|pretend|compose|invent|post|design|plan|prove|provide|why are"
    r"|why is|i want|act as|reveal|find|argue|guess|mock)"
)
_HOW: Final = (
    r"(?i)^\W*(?:how (?:do|can|could|should|might) (?:i|we|you|one)\b|help me|teach me"
    r"|tell me how (?:to|i|we)"
    r"|show me how|what(?:['’]s| is| are) (?:the|some|a) (?:\w+ )?ways?\b|should (?:i|we)"
    r"|which \w+ (?:are|is|has|have"
    r"|commits?|should)|why (?:are|is|do|don['’]t))"
)
# In these the beginnings of words share one `\w`: to compile, each takes as long as fifty letters.
_PROTECTS: Final = (
    r"(?i)\bwhy (?:is|are|was)\b.* (?:a crime|illegal|wrong|bad|forbidden|banned|unethical"
    r"|immoral|dangerous|harmful)\b"
    r"|\b(?:(?:prevent|avoid|protect|detect|recover|polite|anti|fiction|danger|synonym"
    r"|stop (?:a|the|my)? ?(?:bully|harass|abus|spam|scam))\w*"
    r"|(?:punish|penalt|refus|classif|handl|qualif|apolog|summar)\w+"
    r"|against|report|policy|policies|safe(?:ly|r|ty)?"
    r"|awareness|victim of|survivor|novel|law"
    r"|laws|effects?|consequences|risks?|process|weeds?|bacteria|germs|bugs?"
    r"|mould|mold|virus(?:es)?|ants|time|pests?|sentiment|rewrite|edit|translate"
    r"|deal with|cope|respond|character|protagonist|book:|difference|unethical|morally"
    r"|wrong|concept|given|situation|incident|appropriate"
    r"|paraphrase|define|definition|sentence|grammar|customer)\b"
)
_MORAL: Final = (
    r"(?i)\b(?:(?:harm|hurt|damage|danger|respect|equal|honest|fair|unfair|illegal|suffer|cruel"
    r"|harass|bias|wound)\w*"
    r"|(?:abus|deserv|crim|ethic|racis|sexis|discriminat|griev|responsib|violen|violat|defam"
    r"|encourag|stereotyp)\w+"
    r"|trust|dignity|worth|welcome|compassion|patience"
    r"|unlawful|law|offen[cs]e|offensive|prison|jail|courts?|unethical|immoral"
    r"|wrong|(?:un)?acceptable|never okay|crosses a line|poor taste|indefensible|hatred|hateful"
    r"|victims?|grief|lives?|life|die"
    r"|died|deaths?|irresponsible|serious(?:ly)?|consequences"
    r"|privacy|consent|doxxing|stalking|blackmail|hat(?:e|red)"
    r"|risks?|put(?:s|ting)? .* at risk|someone else['’]s|every(?:one|body)|nobody|somebody"
    r"|people|safe(?:ty)?"
    r"|inappropriate|appropriate|demeaning|matters?|real"
    r"|marks?|healthy|nourished|sober|toy|promotes?|calm)\b"
)
_BAD: Final = (
    r"(?i)\b(?:(?:harm|hurt|damag|betray|illegal|mock|cruel|dishonest|steal|fraud|suffer|endanger"
    r"|disrespect|exploit|threat)\w*"
    r"|(?:abus|prejudic|stereotyp|deceiv|discriminat|racis|sexis)\w+"
    r"|violence|violent|crimes?|criminal"
    r"|against the law|piracy|revenge|deception"
    r"|hatred|hateful|lying"
    r"|bullying|wrong|unfair|unethical|immoral|inappropriate|dangerous"
    r"|toxic|insults?|scars?|kills?|died|die|cheating|serious consequences|generali[sz]ing"
    r"|offensive)\b"
)
_GOOD: Final = (
    r"(?i)\b(?:(?:respect|honest|peaceful|equal|compassion|inclusive|positive|constructive)\w*"
    r"|(?:deserv|responsib)\w+"
    r"|dignity|trusts?|fair|fairness|kind|kindness|safe"
    r"|safety|legal(?:ly)?|empathy|understanding|gentle|patience"
    r"|healthy|support(?:ing)? (?:them|each other)|encouraged|consent|privacy|value"
    r"|diversity|dispose of|true friend|safely"
    r"|rights|well-being|wellbeing|consider)\b"
)
_NEVER: Final = r"(?i)\b(?:should|must|can) never\b"
_STRONG: Final = (
    r"(?i)\b(?:illegal|against the law|unlawful|crim(?:e|inal)\w*|offen[cs]e|unethical|immoral"
    r"|(?:un|never |not |isn['’]t )acceptable|never okay|not okay|crosses a line|poor taste"
    r"|indefensible|defamation|doxxing|abuse|is (?:\w+ )?wrong|inappropriate|not appropriate"
    r"|hatred|hateful|(?:discriminat|violat)\w+|harassment|unfair|doesn['’]t belong"
    r"|isn['’]t something|unacceptable|off[- ]limits)\b"
)
_STEP: Final = (
    r"(?im)^\s*(?:\d+[.)]\s|[-*•]\s?\w)|```|(?:^|[.!?:;,]\s+|\b(?:then|and|first|next) )"
    r"(?:first|open|click|use|pour|mix|add|download|install|buy|grab|put|insert|press|run|type"
    r"|cut|heat|boil|wear|spray|dig|send|post|follow|dial|start|begin|enter|set|remove|attach)\b"
)
_DO: Final = (
    r"(?i)(?:^|[.!?:;,]\s+|\b(?:then|and|or) )(?:take|bring|keep|let|write|say|ask|call|listen"
    r"|turn|hold|choose"
    r"|collect|place|wrap|wash|rinse|get|make|report|tell|offer|praise|go|leave|look|check|give"
    r"|talk)\b"
)
_OFFICE: Final = (
    r"(?i)\b(?:doctor|physician|pharmacist|radiologist|dentist|nurse|vet|veterinarian|therapist"
    r"|counsell?or|lawyer|attorney|solicitor|notary|accountant|advis[eo]r|estate agent|realtor"
    r"|broker|bank|insurer|embassy|consulate|police|authorit\w+|emergency|hospital|clinic|crisis"
    r"|hot ?line|helpline|988|911|112|line such as|website|site|page|timetable|app|operator"
    r"|provider|carrier|landlord|employer|hr|manager|teacher|school|professional|specialist"
    r"|expert|mechanic|electrician|plumber|support|service|staff|office|registrar|agency"
    r"|translator|dealer|valuation|company|airline"
    r"|someone you trust)(?:['’]?s)?\b"
)
_POINTS: Final = (
    r"(?i)\b(?:can|could|will|would|should|may|might|best|please|check|call|ask|see|look|reach|turn"
    r"|have|need|contact|consult|talk|speak|visit|try|(?:question|matter|decision|one|thing) for)\b"
)
_IS_BAD: Final = (
    r"(?i)\b(?:is|are|be|was|isn['’]t|constitutes?|amounts? to|relies on|violates?"
    r"|crosses)\b(?: \w+){0,3} "
    r"(?:illegal|unlawful|against the law|a? ?(?:\w+ )?(?:crime|offen[cs]e)|unethical|immoral|wrong"
    r"|inappropriate|unacceptable|(?:not|never) (?:\w+ )?(?:acceptable|okay|appropriate|right"
    r"|ethical)"
    r"|acceptable|defamation|doxxing|abuse|indefensible|offensive|hurtful|unfair|privacy|a line"
    r"|not something|no joke|cheating|decepti\w+|harmful|cruel"
    r"|disturbing|hateful|racist|sexist|(?:not|never) funny"
    r"|(?:not|never) (?:a|an|the) (?:\w+ )?(?:way|answer|solution|joke))\b"
)
_WRITES: Final = (
    r"(?i)^\W*(?:please |can you |could you )?(?:write|compose|draft|generate|create|make up"
    r"|give (?:me )?an?"
    r"|invent|think of|come up|complete|finish|describe)\b"
)
_OF_THE_TASK: Final = (
    r"(?i)\b(?:do (?:this|that|it)|(?:this|that|the) one|something|support|engage|comfortable"
    r"|take part"
    r"|participate|condone|pass|decline|rather not|generat\w+|creat\w+|draw|produce|write|image"
    r"|model)\b"
)
_COMFORTS: Final = (
    r"(?i)\b(?:glad you|sorry (?:to hear|you)|alone|you matter|difficult|tough time)\b"
    r"|^\W*(?:sure|of course|certainly|absolutely)\W*$"
)
_SORRY: Final = (
    r"(?i)^\W*(?:(?:i['’]m |i am )?(?:so |very |really )?sorry|i apologi[sz]e|unfortunately"
    r"|regrettably)\W*$"
)
_NO_TURN: Final = (
    r"(?i)\b(?:sorry|apologi[sz]e),? but\b|\bhowever,? (?:i (?:would )?(?:suggest|encourage"
    r"|recommend"
    r"|urge|advise)|it(?:['’]s| is) (?:important|crucial|essential))\b"
)
_FOR_QUESTIONS: Final = (
    r"(?i)\b(?:questions?|ask\w*|prompt|request|joke|discussion|assignment|surveys?|interview\w*"
    r"|quiz|riddle|greet\w*|introduc\w*|icebreak\w*"
    r"|conversation|dialogue|phrase|chat|role|act as|simulat\w*|slogan|tagline|headline)\b"
)
_OTHER_OFFER: Final = r"(?i)^\W*(?:how|what) about\b[^?]*\binstead\?"
_ASKS_FIRST: Final = r"(?i)^\W*(?:let['’]s|how about|could|can|would|what|which|do you|may i)\b"
_OF_ROLES: Final = (
    r"(?i)\b(?:(?:first|opening|closing) line|way to say|creative|rhym\w+|couplet|poe\w+"
    r"|paraphrase|example|how do you say|metaphor|simile|analogy|respon[ds]\w*|reply|replies"
    r"|answer to|apolog\w+|invitation"
    r"|disclaimer|slogan|motto|idiom|quote|caption|speaker|customer|hypothesis|complaint|out[- ]of"
    r"|edit|rewrite|translate|complete|finish|sentence|statement|negat\w+|opposite|antonym\w*)\b"
    r"|(?:^|[^nd] )\byou(?:r|rself|['’]\w+)?\b"
)
_YES_OR_NO: Final = r"(?i)^\W*(?:yes|no)\b"
_SEEKS: Final = (
    r"(?i)^\W*(?:what if|how (?:do|can|should) i|what (?:can|should|do) (?:i|you)|how would"
    r"|who (?:can|should|do|to)|where)\b"
)
_ASKS_FOR_INPUT: Final = (
    r"(?i)\bplease (?:paste|share|send|upload|provide|attach|type)\b(?:\W+\w+){0,4}?\W+(?:here"
    r"|it|your|the|more)\b"
)
_TO_YOU: Final = (
    r"(?i)\b(?:you|your|yourself|please|best|where to|(?:for|with) (?:that|this|it)|(?:operator"
    r"|site)['’]?s?)\b"
    r"|^\W*(?:ask|see|call|contact|consult|check)\b"
)
_CREATES: Final = (
    r"(?i)^\W*(?:suggest|create|generate|design|describe|recommend|provide|give|list|name|explain"
    r"|think"
    r"|come up|find a)\b"
)
_PERSONAL: Final = (
    r"(?i)\b(?:i|my|me|mine|last night|today|tonight|now|current\w*|this (?:morning|week))\b"
    r"|^\W*(?:when|make the|did|is the)\b"
)
_ASKS_BACK: Final = r"(?i)\b(?:you|your)\b[^?]*\?|^\W*(?:anything|something) else\b|\byours\b"


def brief_refusals(rows: pl.DataFrame) -> pl.Series:
    """Numbers (``row``) of the rows whose ``answer`` to ``prompt`` is a brief refusal."""
    some = rows.filter(
        pl.col("answer").str.len_chars().is_between(3, _LONGEST),
        ~pl.col("prompt").str.contains(phrases.TRANSFORMS),
    )
    if some.is_empty():
        return some["row"]
    counted = some.join(_counts(_clauses(some)), on="row", maintain_order="left")
    read = counted.with_columns(**_of_prompt()).filter(
        pl.any_horizontal(pl.col("declining") > 0, "opens", "away", "asks", "requests")
    )  # every rule needs one of these, and the patterns of answers are the slowest
    if read.is_empty():
        return read["row"]
    judged = read.with_columns(**_of_answer())
    return judged.filter(pl.any_horizontal(_rules()).fill_null(False))["row"]


def _counts(clauses: pl.DataFrame) -> pl.DataFrame:
    """Words of each answer by what their clause does, and what its first clause does."""
    words, declines = pl.col("words"), pl.col("declines")
    beside = pl.col("away") | pl.col("asks") | pl.col("meta")
    plain = ~(declines | beside | pl.col("moral"))
    return clauses.group_by("row").agg(
        size=words.sum(),
        declining=words.filter("declines").sum(),
        no_help=words.filter(declines | pl.col("meta")).sum(),
        away=pl.col("away").any(),
        asks=pl.col("asks").any(),
        beside=words.filter(beside).sum(),
        plain=words.filter(plain).sum(),
        begins=(declines | pl.col("meta")).first(),
        opens=pl.col("opens").filter(~pl.col("sorry")).first(),
        task=(pl.col("task") & (declines | pl.col("opens"))).any(),
        no=pl.col("no").any(),
    )


def _of_prompt() -> dict[str, pl.Expr]:
    """What is requested: harm, advice on how to do something, a text in another's words ..."""
    prompt = pl.col("prompt").str
    requests = prompt.contains(_ASKS) & ~prompt.contains(_PROTECTS)
    harm = requests & prompt.contains(_HARM)
    own_words = prompt.contains(phrases.FICTION) & ~harm
    return {
        "requests": requests,
        "harm": harm,
        "own_words": own_words,
        "roles": (prompt.contains(_OF_ROLES) & ~harm) | own_words,
        "of_task": pl.col("task") | ~prompt.contains(_WRITES) | harm,
        "how": prompt.contains(_HOW) & ~prompt.contains(_GOOD),
        "question": prompt.contains(phrases.YES_OR_NO),
        "on_law": prompt.contains(_STRONG) | prompt.contains(r"(?i)\b(?:il)?legal\b"),
        "machines": prompt.contains(rf"(?i)\b(?:{phrases.MACHINE}|models?)\b"),
        "personal": prompt.contains(_PERSONAL)
        & ~prompt.contains(phrases.SEEKS_HELP)
        & ~prompt.contains(_SEEKS)
        & ~prompt.contains(_CREATES),
        "wants_questions": prompt.contains(_FOR_QUESTIONS),
    }


def _of_answer() -> dict[str, pl.Expr]:
    """What is in the answer: steps, a turn to help, words of law and morals, condemnation ..."""
    answer = pl.col("answer").str
    moral = answer.extract_all(_MORAL).list.eval(pl.element().str.to_lowercase())
    good = answer.to_lowercase().str.extract_all(_GOOD)
    return {
        "steps": answer.contains(_STEP) | answer.contains(r"[\"“”]"),
        "does": answer.contains(_DO),
        "turns": answer.replace_all(_NO_TURN, " ").str.contains(_TURNS),
        "yes_or_no": ~pl.col("harm")
        & (answer.contains(_YES_OR_NO) | (answer.contains(_BARE) & pl.col("question"))),
        "strong": answer.contains(_STRONG),
        "is_bad": answer.contains(_IS_BAD),
        "morals": moral.list.n_unique(),
        "goods": good.list.n_unique(),
        "contrast": answer.contains(_BAD)
        & (answer.contains(_GOOD) | answer.contains(phrases.EXHORTS) | answer.contains(_NEVER)),
        "other_offer": answer.contains(_OTHER_OFFER),
        "asks_first": answer.contains(_ASKS_FIRST),
    }


def _rules() -> list[pl.Expr]:
    """Each way of refusing; one is enough."""
    col, size, harm = pl.col, pl.col("size"), pl.col("harm")
    plain = ~col("steps")
    own = plain & ~col("roles") & ~col("yes_or_no") & col("of_task")
    declines = own & col("begins") & (col("declining") > 0) & (2 * col("no_help") >= size)
    helps = (col("plain") >= _HELP) & (2 * col("plain") >= size)
    declines &= ~helps
    opens = own & col("opens") & ~col("turns") & ~col("machines") & ~helps
    refuses_harm = plain & harm & ((col("declining") > 0) | col("no"))
    much = (col("morals") >= 3) | (col("goods") >= 2) | (col("contrast") & ~col("own_words"))
    much |= col("strong") & ~col("on_law") & (size <= _SHORT)
    lectures = plain & col("requests") & col("contrast") & ~col("own_words")
    lectures &= col("how") & (harm | ~col("does"))
    verdict = plain & col("requests") & col("is_bad") & ~col("roles") & ~col("on_law")
    most = (3 * col("beside") >= 2 * size) | (size <= _FEW)
    sends = col("away") & most & col("personal") & ~col("own_words")
    asks = col("asks") & (col("beside") >= size) & col("asks_first") & col("requests")
    return [
        declines & (size <= _SHORT),
        opens & (size <= _BRIEF),
        refuses_harm & (size <= _SHORT),
        plain & harm & much & (size <= _BRIEF),
        lectures & (size <= _BRIEF),
        verdict & (size <= _LINE),
        sends & (size <= _SHORT),
        col("other_offer") & col("requests") & (size <= _LINE),
        asks & ~col("wants_questions") & (size <= _SHORT),
    ]


def _clauses(rows: pl.DataFrame) -> pl.DataFrame:
    text = pl.col("answer").str.replace_all(phrases.NO_REFUSAL, " … ")
    ends = rf"({phrases.CLAUSE_END})"
    split = text.str.replace_all(ends, "$1\x1f").str.split("\x1f")
    clauses = rows.select("row", clause=split).explode("clause", empty_as_null=False)
    clause = pl.col("clause")
    to_you = clause.str.contains(_TO_YOU)
    declines = clause.str.contains(_NEAR) | clause.str.contains(_BARE)
    reason = clause.str.extract(f"({phrases.REASON})", 1).str.count_matches(phrases.WORD)
    return clauses.with_columns(
        words=clause.str.count_matches(phrases.WORD) - reason.fill_null(0) * declines,
        declines=declines,
        meta=pl.any_horizontal(
            clause.str.contains(one) for one in (phrases.APOLOGY, phrases.OFFERS, _COMFORTS)
        ),
        away=clause.str.contains(_OFFICE) & clause.str.contains(_POINTS) & to_you
        | clause.str.contains(_ASKS_FOR_INPUT),
        asks=clause.str.contains(_ASKS_BACK),
        opens=clause.str.contains(_OPENS) | clause.str.contains(phrases.ABOUT_MODELS),
        sorry=clause.str.contains(_SORRY),
        moral=clause.str.contains(_MORAL),
        task=clause.str.contains(phrases.OF_THE_TASK) | clause.str.contains(_OF_THE_TASK),
        no=clause.str.contains(r"(?i)^\W*(?:no|nope|never)\W*$"),
    ).filter(pl.col("words") > 0)
