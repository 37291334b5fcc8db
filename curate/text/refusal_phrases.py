"""Phrases of English refusals, as patterns of a clause: what refuses, blames, urges, sends away."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ABOUT_MODELS",
    "APOLOGY",
    "ASKED_ADVICE",
    "BLAMES",
    "CHANGES_SUBJECT",
    "CLAUSE_END",
    "CONCESSION",
    "CRISIS",
    "DELIVERS",
    "EXHORTS",
    "FICTION",
    "FLAT",
    "HERE_IS_WHY",
    "JUDGES",
    "MACHINE",
    "NEGATED",
    "NO_REFUSAL",
    "OFFERS",
    "OF_THE_REQUEST",
    "OF_THE_TASK",
    "QUOTED",
    "REASON",
    "REFUSES",
    "SEEKS_CRISIS_LINE",
    "SEEKS_HELP",
    "SENDS_AWAY",
    "TRANSFORMS",
    "VERDICT",
    "VIRTUE",
    "WANTS_REFUSAL",
    "WORD",
    "YES_OR_NO",
]


def _any(*patterns: str) -> str:
    return "(?:" + "|".join(patterns) + ")"


_CANNOT: Final = (
    r"(?:can ?not|can['’]t|will (?:not|never)|won['’]t|shall not|would not|would never)"
)
_ADVERB: Final = (
    r"(?: (?:and|or) (?:won['’]t|will not))?(?: (?:\w+ly|just|also|in good conscience))*"
)
_TO_DO: Final = (
    r"(?:help(?:\W*$| [ac-z]\w*| b[a-tv-z]\w*)|assist|answer|provide|give|generate|create"
    r"|write|fulfil+|comply|complete|perform|access|respond|browse|display|draw|process"
    r"|predict|tell|see|open|read|produce|offer|suggest|support|show|discuss|share"
    r"|recommend|diagnose|continue|participate|engage|describe|explain|translate|execute"
    r"|verify|confirm|determine|identify|advise|condone|promote|encourage|endorse|satisfy"
    r"|accommodate|look up|search|check|fill|summari[sz]e|analy[sz]e|listen|watch|view"
    r"|play|book|proceed|contribute|facilitate|teach|plan|speculate|comment|compose"
    r"|pretend|role-?play|imitate|send|make (?:up|phone|calls|a|an|any|jokes|fun)"
    r"|do (?:that|this|so|it)|go (?:along|there)|take (?:part|on|sides)|be (?:part|of)"
    r"|locate|retrieve|evaluate|judge|form|express|rank|rate|insult)"
)
MACHINE: Final = "(?:ai|artificial intelligence|gpt(?:-?\\d)?|(?:large )?language model|chatbot)"
_RULES: Final = r"(?:\w+ )?(?:guidelines|programming|polic(?:y|ies)|principles)"
_FORBID: Final = "(?:prohibit|prevent|forbid|(?:do|does) not (?:allow|permit))"
REFUSES: Final = r"(?i)" + _any(
    rf"\bi{_ADVERB} {_CANNOT}{_ADVERB} {_TO_DO}\b",
    r"\b(?:i['’]m|am)(?: \w+ly| just)? (?:unable|not able|incapable|not capable|not allowed)\b",
    r"\bi(?:['’]m| am)(?: \w+ly)? not (?:permitted|comfortable|willing|designed|authori[sz]ed)\b",
    rf"\bi(?:['’]m| am) not (?:going|programmed|equipped|here|inclined) to {_TO_DO}",
    r"\bi(?:['’]m| am) (?:programmed|designed|instructed|trained) (?:not to|to (?:avoid"
    r"|decline))\b",
    r"\bi (?:do not|don['’]t)(?: \w+ly)? have (?:the )?"
    + _any(
        *("access", "ability", "abilities", "capab", "necessary", "real[- ]?time", "live", "eyes"),
        *("personal", "enough", "sufficient", "intention", "physical", "current", "up-to-date"),
        *("any (?:information|way|intention|access|context|data|record|knowledge|means)",),
        *("information", "feelings", "emotions", "opinions", "memory", "details"),
    ),
    r"\bi have no (?:way|access|ability|connection|information|intention|means|knowledge)\b",
    r"\bi (?:do not|don['’]t)(?: \w+ly)? (?:feel (?:comfortable|right)|engage in|condone"
    r"|provide)\b",
    r"\bi (?:do not|don['’]t) (?:see|find) (?:any|an|the) (?:attach|image|file|text|link|picture)",
    r"\bi (?:do not|don['’]t) (?:think|believe)(?: that)? (?:it|this|that)(?: would be| is|['’]s) "
    r"(?:appropriate|right|ethical|responsible|a good idea to)",
    r"\bi(?:['’]m going to| must| have to| will have to| am going to have to|['’]ll)?"
    r"(?: have to)?(?: respectfully| politely)? (?:decline|refuse|choose not|prefer not) to\b",
    r"\bi(?:['’]m going to| must| have to| will| am going to|['’]ll)(?: have to)?"
    r"(?: respectfully| politely)? (?:decline|refuse|pass)\b",
    r"\bi(?:['’]d| would)(?: much)? (?:rather|prefer) not\b",
    r"\bi(?:['’]m going to| must| have to| will have to| am going to have to)(?: have to)? decline",
    r"\bi won['’]t (?:do|be doing) (?:that|this|it)\b",
    r"\bsomething(?: that)? i(?:['’]m| am)?(?: \w+ly)? (?:can\b|can['’]t|unable|not able|able"
    r"|will)",
    r"\b(?:beyond|outside|outside of|n['’]t (?:with)?in|not (?:with)?in|out of"
    r"|exceeds?) (?:the (?:scope|limits) of )?"
    r"my (?:capab|abilit|scope|programming|expertise|limits|knowledge|skills|power|purview)",
    r"\b(?:not possible|impossible|not appropriate|inappropriate|not right|wrong) for me to\b",
    r"\bagainst (?:my|our|openai['’]s) (?:\w+ )?(?:programming|guideline|principle|polic|rule"
    r"|value)",
    r"\bmy answer (?:is|remains|stays|will (?:be|stay|remain))(?: an?)?(?: \w+)? no\b",
    r"\b(?:isn['’]t|is not|aren['’]t|are not) (?:supported|available|possible|offered)"
    r" (?:here|for me|to me|in this (?:chat|conversation))\b",
    rf"\b(?:my|our) {_RULES}.*\b{_FORBID}",
    rf"\bthe {_RULES}.*\b{_FORBID}\w* (?:me|us|such|th(?:is|at|ese)|(?:generat|creat|shar|discuss"
    r"|provid|writ|answer|help|produc)\w*)\b",
    rf"\bi(?:['’]m| am) (?:just |only |merely )?an? (?:\w+ )?{MACHINE},?(?: and| so|,)?"
    rf" (?:{_CANNOT}|have no|lack|do not|don['’]t|am (?:not able|unable))\b",
    r"\bi(?:['’]m| am) (?:choosing|electing|opting|deciding|inclined|disinclined)"
    r" (?:not to|to (?:decline|refuse|pass|skip|opt out))\b",
    r"\byou(?: won['’]t| will not|(?: aren['’]t|['’]re not"
    r"| are not)(?: going to)?) (?:\w+ )?(?:get|getting|find"
    r"|hear|see|receive|have)\b[^.!?]+\b(?:from me|here|out of me|through me)\b",
    r"^\W*(?:(?:oh|ha|hm+|um|well|sorry|nope|no|nah|thanks"
    r"|look)\W+)*(?:but )?(?:\w+ly )?(?:no can do"
    r"|(?:a |i['’]ll )?(?:hard|firm|big|easy)? ?pass(?: on|[.!]|\W*$)|not (?:doing|writing|touching"
    r"|helping|making|giving|playing|sharing|explaining|answering|going (?:there|to)|(?:about"
    r"|willing"
    r"|prepared|ready) to"
    r"|happening|on my watch)\b|count me out|leave me out|no dice\b|no deal\b|forget it\b"
    r"|(?:you['’]ll|you will) have to (?:ask|find|look|get)\b[^.!?]*\b(?:else|elsewhere)\b)",
    r"\b(?:is|are|['’]s|remains?|stays?) (?:(?:firmly|strictly|completely|simply) )?(?:a no-?go"
    r"|off the table|out of the question|off[- ]limits(?: for me| here)?)(?:[.!;]|$)",
    rf"^\W{{0,3}}(?:this|the|that|your) (?:request|question|task|instruction) {_CANNOT} be\b",
    rf"^\W{{0,3}}(?:it|this) is not possible to {_TO_DO}\b",
    r"\b(?:not|n['’]t) (?:enough|sufficient) (?:information|context|detail)s?.* for me\b",
)
NEGATED: Final = (
    r"(?i)\bi(?:['’]m|['’]d|['’]ll| am| will| would| must| have to| (?:\w+ly))*(?: \w+)? "
    r"(?:can ?not|can['’]t|won['’]t|will not|never|unable|unwilling|refuse|decline|reluctant"
    r"|say no|draw the line|have no|choose not|prefer not|(?:do not|don['’]t) "
    rf"(?:know|have|{_TO_DO}))\b"
    r"|\bi(?:['’]m| am) (?:unwilling|reluctant|unable|not|declining)\b|\bno way for me\b"
    r"|\bi(?:['’]d| would) (?:rather|prefer to) (?:stay away|avoid|refrain|keep)\b"
    r"|\b(?:a role|one|thing) i (?:won|can)['’]t\b"
)
NO_REFUSAL: Final = (
    r"(?i)\bcan(?:not| not|['’]t) (?:wait|believe|stop|get enough|imagine|help but|thank|resist)\b"
    r"|\bcan(?:not| not|['’]t) [^.!?;,]+\b(?:enough|highly|strongly|overstate\w*)\b"
    r"|\bdon['’]t have (?:any )?(?:money|time|children|kids|siblings)\b"
)
FLAT: Final = (
    r"(?i)\b(?:fulfil+|comply|assist|help|complete|answer|decline|refuse)\b.*"
    r"\b(?:requests?|that|this|questions?)\b"
)
ABOUT_MODELS: Final = r"(?i)" + _any(
    rf"\bas an? {MACHINE}\b.*\b(?:{_CANNOT}|do not|don['’]t|am not|unable)\b",
    rf"\b{MACHINE}(?: models?)? {_CANNOT}\b",
    rf"\b{MACHINE}s?(?: models?)? (?:is|are) (?:unable|not (?:able|designed))\b",
    rf"\b{_CANNOT} be \w+ by (?:a|an|the) (?:{MACHINE}|model)\b",
)
_BAD: Final = (
    r"(?:inappropriate|not appropriate|unethical|illegal|offensive|harmful|against|violat"
    r"|discriminat|stereotyp|derogatory|dangerous|hateful|disrespectful|unacceptable"
    r"|immoral|wrong|sensitive|objectionable|problematic|(?:poor|bad) taste"
    r"|not (?:ethical|legal|acceptable|respectful|allowed|okay|ok|suitable|an? (?:appropriate"
    r"|ethical)))"
)
_BREACHES: Final = (
    r"(?:(?:breach|violat|contraven|infring|flout|cross|break|conflict)\w*"
    r"|runs? (?:afoul|foul|counter|against)|go(?:es)? against|falls? (?:foul|outside))\b"
    r"[^.!?]*\b(?:polic\w+|standards?|guidelines?|rules?|laws?|lines?|terms|ethic\w*"
    r"|principles?|norms?|boundar\w+|limits?|values?|safety|privacy|rights?|bounds)\b"
)
_WANTED: Final = (
    r"(?:what|(?:the|any|this|that) \w+(?: \w+)?)(?: that)? you(?:['’](?:ve|re)| have| are)?"
    r" (?:ask(?:ed|ing)?|request(?:ed|ing)?|want(?:ed)?|describ\w+|propos\w+|suggest\w*)"
)
"""What was requested, as a subject: "what you are asking for", "the text you want"."""
VERDICT: Final = r"(?i)" + _any(
    r"\b(?:this|that|your|the|such|these|those)(?: (?:kinds?|types?) of| \w+)? ?"
    r"(?:requests?|questions?|prompts?|instructions?|topic|query)\b.*\b(?:is|are|seems?|"
    rf"appears?|goes|go|contains?|may|would|could|promotes?|involves?"
    rf"|violates?)\b.*{_BAD}",
    rf"\b(?:requests?|questions?|prompts?) (?:like|such as|of) th(?:is|ese|at)\b.*{_BAD}",
    r"\bthis (?:request|question|content|task).* (?:violates?|perpetuates?|promotes?)\b",
    rf"\b(?:that|this|it|content)(?:['’]d| would)(?: be| violate)\b.*"
    rf"(?:{_BAD}|privacy|unfair|not be (?:kind|right|appropriate|fair|ethical))",
    r"\bwould not be (?:kind|right|appropriate|fair|ethical|respectful|responsible)\b",
    r"^\W*(?:providing|generating|sharing|giving|writing|creating|offering|promoting|answering)\b"
    rf".*\b(?:would be|is|are|goes|violates|constitutes)\b.*{_BAD}",
    r"\b(?:an?|is|are) (?:illegal|unethical) (?:activity|request|act) and i\b",
    rf"\b{_WANTED}\b.*(?:{_BAD}|{_BREACHES})",
    rf"^\W*(?:sorry\W+)?such (?:an? )?\w+(?: \w+)?\b.*(?:{_BAD}|{_BREACHES})",
    rf"\b(?:it|this|that) (?:(?:isn['’]t|is not|wouldn['’]t be|would not be) (?:\w+ly )?(?:ethical"
    rf"|right|okay|ok|appropriate|acceptable|legal|safe|responsible|fair|proper)|(?:is|would be)"
    rf" (?:wrong|unethical|irresponsible|inappropriate|illegal))(?: (?:of|for) me)? to {_TO_DO}\b",
    rf"^\W*(?:sorry\W+)?(?:this|that|it|doing (?:so|this|that|it))\b(?:['’]d| would| will)?"
    rf"(?: \w+ly)? {_BREACHES}",
    r"\b(?:isn['’]t|is not|wouldn['’]t be|would not be|not) an? (?:appropriate|suitable|safe|proper"
    r"|acceptable) (?:topic|subject|request|thing|question|task|use)\b",
)
BLAMES: Final = (
    r"(?i)\b(?:illegal(?:ly)?|a (?:serious )?crime|criminal|unethical|immoral|wrong|arson"
    r"|harm(?:s|ful)?|cause harm|unaccept\w+|unfair|unjust|cruel(?:ty)?|fraud"
    r"|extremely dangerous|is dangerous|endangers?|life[- ]threatening|irresponsible"
    r"|punishable|disrespectful|stereotyp\w+|generali[sz]\w+|discrimination|abuse"
    r"|violation|violates?|dishonest|consequences|hurt(?:s|ful)?|inappropriate|stalking"
    r"|a tragedy|against the (?:law|rules)|(?:at|lives at) risk|in danger|death|poison\w*"
    r"|kills|unprofessional|bullying|misinformation|suffering|severe \w+|no place in"
    r"|racis[mt]|sexis[mt]|hateful|prejudice|mocking|serious offen[cs]e"
    r"|(?:not|never|neither|isn['’]t|wouldn['’]t)(?: \w+){0,3} (?:appropriate|ethical|okay|ok"
    r"|acceptable|safe|right"
    r"|fair|legal|funny|suitable|respectful))\b"
)
VIRTUE: Final = (
    r"(?i)\b(?:respect(?:ful|fully|ed)?|dignity|deserves?|are equal|as equals|equality|privacy"
    r"|consent|compassion|kind(?:ness)?|honest(?:y|ly)?|fairness|responsib(?:le|ly)"
    r"|peaceful(?:ly)?|lawful|safety|trust|individuals?|openly|love|safe|just society)\b"
)
JUDGES: Final = (
    r"(?i)^\W*(?:i['’]m sorry\W+|sorry\W+|no\W+)?(?:(?:it|that|this) (?:isn['’]t|wouldn['’]t be) "
    r"|(?:(?:it|that|this)(?:['’]s| is| would be)|\w+ing\b.*\b(?:is"
    r"|would be)) (?:\w+ly )?(?:not |never |neither |an? |un|il|im|inap"
    r"|dis|wrong))"
)
EXHORTS: Final = r"(?i)" + _any(
    r"\b(?:i|we)(?:['’]d| would| must| want to| have to| do| need to)?(?: also)?(?: strongly"
    r"| kindly)?"
    r" (?:urge|advise|encourage|discourage|remind|emphasi[sz]e|caution|implore|advocate|condemn)\b",
    r"\bplease (?:also )?(?:consider|respect|think|treat|remember|never|do not|don['’]t|refrain|"
    r"avoid|be (?:respectful|kind|mindful|considerate|careful|responsible)|\w+ responsibly"
    r"|reconsider|keep in mind)\b",
    r"\b(?:important|essential|crucial|vital|imperative|necessary|best)(?: \w+)? (?:to|that we"
    r"|that you)"
    r"(?: always| all| also)* (?:remember|avoid|treat|respect|rely|promote|recogni[sz]e|follow"
    r"|make "
    r"responsible|approach|prioriti[sz]e|be (?:respectful|mindful|aware|sensitive)"
    r"|understand that such"
    r"|uphold|abide|foster|strive|handle|seek|maintain|obey|act with|use (?:language|technology)"
    r"|work "
    r"(?:together|towards)|focus on|refrain|celebrate|value|challenge|acknowledge|note that)\b",
    r"\b(?:every(?:one| person| human(?: being)?| individual|body)|all (?:people|human beings"
    r"|humans|"
    r"races|genders|living beings|individuals|cultures))\b.*"
    r"\b(?:deserves?|are equal|is equal|should be treated|ha(?:ve|s) (?:the right|value|worth))",
    r"\bwe (?:should|must|need to)(?: all)? (?:strive|treat|respect|promote|avoid|focus|be|work)\b",
    r"\bmust always come first\b|\bresponsib(?:le|ility) (?:choices|as an? owner)\b",
    r"\b(?:i|we) (?:believe|think).*\bimportant to (?:promote|treat|respect)\b",
)
_ELSEWHERE: Final = (
    r"(?:doctor|physician|lawyer|attorney|professional|specialist|expert|clinic|advis[eo]r"
    r"|dermatologist|helpline|hot ?line|crisis|emergency|therapist|counsel|web ?sites?"
    r"|app\b|sources?|banks?\b|authorit|police|pharmac|management|provider|official"
    r"|someone you trust|support (?:line|group|service)|solicitor|pa?ediatrician"
    r"|association|services?|hospital|applications?|support|hospital|dentist|veterinar"
    r"|vet\b|agency|organi[sz]ation|resources?)"
)
_LEADS: Final = (
    r"\b(?:let(?:['’]s| us| me)|how about|what about|perhaps|maybe|(?:could|can|shall|may|should)"
    r" (?:we|i)|i(?:['’]d| would) (?:rather|prefer|like|love|be (?:happy|glad))|why don['’]t we"
    r"|would you (?:like|prefer|mind)|we (?:could|can|might))"
)
_NICER: Final = r"(?:(?:more|less) \w+|\w{3,}er)"
CHANGES_SUBJECT: Final = (
    rf"(?i){_LEADS}\b[^.?!]{{0,40}}\b(?:talk|chat|speak|discuss|turn|switch|move|focus|steer"
    rf"|pivot|shift"
    r"|explore|change|pick|try|go|look|write|help|stick|do)\w*\b[^.?!]*\b"
    r"(?:(?:something|anything|somewhere|topics?|subjects?|matters?|things)"
    rf" (?:else|different|{_NICER})|(?:different|another|other|new|{_NICER})"
    r" (?:topic|subject|conversation|theme|direction|note|matter)s?|the (?:subject|topic))\b"
)
SENDS_AWAY: Final = r"(?i)" + _any(
    r"\b(?:please|i(?:['’]d| would)?(?: strongly| highly)? (?:recommend|suggest|advise|encourage"
    r"|urge)"
    r"|you (?:should|may want to|might want to|could|will need to)|best to|better to"
    r"|is a question for)"
    r"\b.*\b(?:consult|contact|see|seek|reach|speak|talk|check|visit|call|ask|log in"
    r"|refer|"
    r"turn|go|get in touch|make an appointment|rely|find|us(?:e|ing)|look)(?:ing|ed)?\b"
    rf".*\b{_ELSEWHERE}",
    rf"\b{_ELSEWHERE}.* (?:can|will|could) (?:be able to )?(?:offer|help|provide|give|tell|examine"
    r"|assess|check|diagnose|assist|review|go (?:over|through)|look (?:at|into))\b",
    rf"\b(?:that|this|it)(?:['’]s| is|['’]d be| would be)(?: \w+){{0,3}} (?:for|to|by) (?:an?"
    rf"|your|the)"
    rf" (?:\w+ ){{0,2}}{_ELSEWHERE}",
    rf"\b{_ELSEWHERE}.*\b(?:is|are|would be)(?: \w+){{0,3}} (?:place|person|people|ones?|contact)"
    r" to (?:turn|ask|go|contact|call|talk|speak|see)\b",
    rf"^\W*you can\b.*\b(?:your|my|website|app)\b.*\b{_ELSEWHERE}",
    r"\b(?:could|can|would) you\b[^?]*\?|\binstead\?",
    CHANGES_SUBJECT,
    r"^\W*(?:rather than|instead of|in place of)\b[^.?!]*\b(?:may i|could i|can i|i (?:could|can"
    r"|would)|i['’]d|why not|let['’]?s?(?: me)?|how about|would you)\b",
    r"\b(?:can|will be able to) (?:tell|advise|help|answer|work (?:this|it) out)(?: with)? you\b",
    r"\bcan work (?:this|it) out with you\b",
    rf"^\W*(?:always |first )?(?:ask|consult|see|call|contact) (?:an?|your"
    rf"|the)\b.*{_ELSEWHERE}",
    rf"\bonly an? (?:\w+ )?{_ELSEWHERE}\b.*\bcan\b",
    r"\b(?:could|can|would|will) you (?:please )?(?:provide|clarify|specify|share|give|type|paste|"
    r"rephrase|send|describe)\b",
    r"\bplease (?:provide|clarify|specify|share|paste|rephrase|upload|type|send|give)\b.*\b"
    r"(?:more|details?|information|context|text|image|article|document|passage|content|question)",
    r"\b(?:your|the) (?:request|question|input|prompt) (?:is|seems|appears)(?: to be)? "
    r"(?:incomplete|unclear|missing|too vague)\b",
    r"^\W*instead of\b.*\bi (?:could|can|would)\b",
    rf"\b(?:question|matter|decision)s? for an? (?:\w+ )?{_ELSEWHERE}",
    r"\b(?:talk|speak) to your doctor\b|\b(?:make|book) an appointment\b"
    r"|^\W*let['’]s\b.*\belse\b",
)
OFFERS: Final = r"(?i)" + _any(
    r"\b(?:is there|do you have|are there)\b.*\b(?:else|other)\b",
    r"\blet['’]s (?:talk about|focus on|discuss|change|try|move on|keep)\b",
    r"\bi(?: can|['’]d| would|['’]m| am| could|['’]ll| will)(?: be| also| try to| do my best to)*"
    r" (?:instead|glad|happy|more than happy|pleased|help|explain|talk|offer|suggest|assist"
    r"|here to)\b",
    r"^\W*(?:instead|perhaps|how about|would you like|could we|what about)\b",
    r"\b(?:feel free|let me know|if you (?:have|need|or someone|would like|['’]d like"
    r"|are having))\b",
)
APOLOGY: Final = r"(?i)" + _any(
    r"\bsorry\b|\bapolog(?:i[sz]e|ies)\b|^\W*(?:unfortunately|regrettably|however|thanks?\b|no"
    r"|yes)",
    rf"^\W*as an? (?:\w+ )?{MACHINE}\b|\bi(?:['’]m| am)(?: just| only)? an? (?:\w+ )?{MACHINE}",
    r"\b(?:i hope|i understand|my (?:purpose|goal|aim|role) is|i aim|i strive|you are not alone)\b",
    r"\bhelp is available\b|\b(?:it (?:seems|looks like|sounds)|(?:that|it) depends)\b",
)
TRANSFORMS: Final = (
    r"(?i)^\W*(?:please |can you )?(?:re-?write|translate|correct|fix|convert|change|classify|edit|"
    r"paraphrase|rephrase|summari[sz]e|make (?:the|this) sentence|turn|identify|replace|proofread|"
    r"label|categori[sz]e|punctuate|shorten|finish|modify|remove|annotate|reword"
    r"|edit)\b.{0,200}(?::|\n)"
    r"|(?is)\b(?:sentence|statement|phrase)s?\b.*[:\n\"“]"
)
FICTION: Final = (
    r"(?i)\b(?:write|compose|create|give|tell|think of|draft|make up|generate|continue|describe"
    r"|add|"
    r"finish|complete|answer as)\b.*\b(?:story|poem|haiku|scene|dialogue|monologue|lyrics|song"
    r"|novel|opening|slogan|speech|"
    r"quot(?:e|ation)|motivational|excuse|character|rap|verse|limerick|message|text|note"
    r"|sentence|line|pirate|"
    r"comment|thought|phrase|tweet|call to action)\b"
)
OF_THE_TASK: Final = (
    r"(?i)\brequests?\b|\bfulfil|\bassist|\bhelp|\btask\b|\bappropriate|\bcomply|\bguidelines"
    r"|\bprogramm|\blanguage "
    r"model|\ban ai\b|\bto (?:write|create|generate|produce|provide)\b|\bsomething (?:that )?i\b"
    r"|(?:not|['’]t|decline) (?:to )?(?:write|create|generate|produce|provide)\b|\bharm"
)
OF_THE_REQUEST: Final = (
    r"(?i)\b(?:requests?|instructions?|task|an ai|language model|gpt|translat\w+|rewrit\w+"
    r"|provide)\b"
    r"|\b(?:audio|image|file|attach|input)"
)
SEEKS_HELP: Final = (
    r"(?i)\b(?:doctor|lawyer|attorney|therap|professional|consult|tips?|advice|disclaimer|customer|"
    r"how to (?:contact|reach|call|find|get)|"
    r"repl(?:y|ies)|respon|auto|requests?|questions?|asks?|polite\w*|"
    r"survey|interview\w*|sentence|statement|when should|what (?:should|can|to)|"
    r"how (?:should|can|do) (?:i|you|we) (?:treat|protect|report|find|stay|prevent)|ways? to|list)"
)
ASKED_ADVICE: Final = (
    r"(?i)\b(?:why (?:is|are|do|does)|slogan|motto|proverb|against (?:bull|racis|viol|hat|drug"
    r"|cruel)"
    r"|importan|ethic|moral|wrong|illegal|danger|risks?|safe|advice|"
    r"what should|should i\b|how should|tips?|doctor|lawyer|attorney|therap|professional|consult"
    r"|respect|prevent|disclaimer|"
    r"customer|consequence|warn|law\b|rules?|argument|essay|opinion|crime|effects?|"
    r"reasons?|sentences?|statement|thesis|determine|decide|classif|identify|scenario|dilemma|"
    r"repl(?:y|ies)|respon|explain|describe|advantage|solution|harms?\b|racism|discriminat|abuse"
    r"|prejudice|unfair|symptoms?|divers|bias|mean|define|name|what (?:is|are|can't|do))"
)
YES_OR_NO: Final = r"(?i)^\W*(?:is|are|was|were|does|did|may|has|have)\b"
CLAUSE_END: Final = r"[.!?]+(?:[\"”’)]|\s|$)|\n|;|:\s|,? (?:but|however|although|yet)\b,?"
WORD: Final = r"[\p{L}\p{N}]+"
QUOTED: Final = r"[\"“][^\"“”\n]{0,400}[\"”]|`[^`]*`"
CONCESSION: Final = (
    r"(?i)((?:\A|[.!?\n]\s*)\W{0,3}(?:while|although|though|even though|since"
    r"|because) [^,.;:!?\n]+),"
)
"""A subordinate clause that opens a sentence; what follows its comma is a clause of its own."""
REASON: Final = r"(?i)(?:,? (?:since|because)|, as) [^.;:!?]*"
"""Why something is declined; neither a refusal nor help."""
DELIVERS: Final = (
    r"(?is)\bhere(?:['’]s| is| are| goes?)\b[^.?!\n]*(?::|\n|\.\.\.|…)\s*\S.{20,}"
    r"|[,!?] (?:s?he|they|i|\p{Lu}\w+) (?:said|replied|cried|muttered|whispered|shouted|thought)\b"
)
"""What was requested is there: "here is a draft: ...", or a tale with speech."""
HERE_IS_WHY: Final = (
    r"(?i)\bhere(?:['’]s| is| are) (?:why|(?:\w+ )*(?:reasons?|resources|numbers))\b"
)
CRISIS: Final = (
    r"(?i)\b(?:988|crisis (?:line|hot ?line|text line|centre|center|service)|samaritans"
    r"|suicide (?:hot ?line|prevention|line|crisis)|life ?line|emergency (?:services|number))\b"
)
SEEKS_CRISIS_LINE: Final = (
    r"(?i)\b(?:hot ?lines?|help ?lines?|life ?line|crisis|who (?:can|should|do)|where (?:can"
    r"|should|do)"
    r"|friend|someone|support|help (?:him|her|them|a)|number)\b"
)
WANTS_REFUSAL: Final = (
    r"(?i)\b(?:write|draft|make|compose|give|generate|create|suggest|how (?:do|can|to|would)"
    r"|phrase)\b"
    r".*\b(?:refus\w+|declin\w+|rejection|rejecting|say(?:ing)? no|turn(?:ing)? (?:\w+ )?down"
    r"|excuse (?:for (?:not|miss)|to (?:skip|miss|avoid)))\b"
)
"""The prompt wants a text that declines something."""
