"""Answers in other languages than English, made up for `benchmarks.unlike_answers`."""

from __future__ import annotations

__all__ = ["FOREIGN", "NEW_LATIN", "NEW_OTHER"]

FOREIGN = (
    (
        "Natürlich! Um einen guten Kuchen zu backen, brauchst du Mehl, Zucker, Eier und "
        "Butter. Verrühre zuerst die Butter mit dem Zucker, gib dann die Eier dazu und "
        "zum Schluss das Mehl. Backe den Teig vierzig Minuten lang im heißen Ofen."
    ),
    (
        "Die Hauptstadt von Österreich ist Wien. Die Stadt liegt an der Donau und hat fast "
        "zwei Millionen Einwohner. Viele Menschen besuchen dort die Museen, die Oper und "
        "die alten Kaffeehäuser."
    ),
    (
        "Wer gesund bleiben will, sollte sich jeden Tag bewegen, genug schlafen und viel "
        "Obst und Gemüse essen. Auch Freunde zu treffen tut gut, denn Einsamkeit macht "
        "krank."
    ),
    (
        "Bien sûr ! Pour apprendre une langue, il faut lire tous les jours, écouter la "
        "radio et parler avec des gens. N'ayez pas peur de faire des fautes, car c'est "
        "ainsi que l'on progresse."
    ),
    (
        "La Révolution française a commencé en 1789, lorsque le peuple de Paris a pris "
        "la Bastille. Elle a mis fin à l'ancien régime et a proclamé les droits de l'homme "
        "et du citoyen."
    ),
    (
        "Voici trois conseils pour mieux dormir : couchez-vous à la même heure chaque soir, "
        "éteignez les écrans une heure avant, et gardez la chambre fraîche et sombre."
    ),
    (
        "¡Claro! Para preparar una tortilla de patatas necesitas huevos, patatas, cebolla "
        "y aceite de oliva. Fríe las patatas a fuego lento, mézclalas con los huevos batidos "
        "y cuaja la tortilla por los dos lados."
    ),
    (
        "El agua hierve a cien grados al nivel del mar. En la montaña la presión es menor, "
        "y por eso el agua hierve a una temperatura más baja y la comida tarda más en cocerse."
    ),
    (
        "Los volcanes se forman cuando el magma sube desde el interior de la tierra. Algunos "
        "están dormidos durante siglos y despiertan de repente con una gran erupción."
    ),
    (
        "Certo! Roma fu fondata, secondo la leggenda, nel 753 avanti Cristo da Romolo e "
        "Remo. La città divenne poi il centro di un impero che si estendeva in tutto il "
        "Mediterraneo."
    ),
    (
        "Per risparmiare energia in casa, spegni le luci quando esci, usa lampadine a basso "
        "consumo e abbassa il riscaldamento di notte. Anche le finestre nuove aiutano molto."
    ),
    (
        "Claro que sim! O Brasil é o maior país da América do Sul e faz fronteira com quase "
        "todos os outros. A língua oficial é o português, e a capital é Brasília."
    ),
    (
        "Om goed te leren schrijven moet je vooral veel lezen. Schrijf elke dag een korte "
        "tekst, laat die door een vriend lezen en verbeter daarna de zinnen die niet duidelijk "
        "zijn."
    ),
    (
        "Oczywiście! Warszawa jest stolicą Polski i leży nad Wisłą. Po wojnie miasto zostało "
        "prawie całkowicie odbudowane, a dziś mieszka w nim prawie dwa miliony ludzi."
    ),
    (
        "Självklart! För att odla tomater behöver du mycket sol, god jord och vatten varje "
        "dag. Plantera dem i maj och bind upp stjälkarna när de börjar växa på höjden."
    ),
    (
        "Hindi mahirap magluto ng kanin. Hugasan muna ang bigas, lagyan ng tubig na dalawang "
        "beses ang dami, at pakuluan sa mahinang apoy hanggang maubos ang tubig."
    ),
    (
        "Tabii ki! İstanbul, iki kıta üzerinde kurulmuş tek büyük şehirdir. Boğaz, Avrupa "
        "ile Asya'yı birbirinden ayırır ve her gün binlerce gemi buradan geçer."
    ),
    (
        "Конечно! Москва является столицей России. Город стоит на Москве-реке, и в нём "
        "живёт больше двенадцати миллионов человек. Самое известное место города это Красная "
        "площадь."
    ),
    (
        "Чтобы хорошо выучить математику, нужно решать много задач. Начните с простых примеров,"
        " проверяйте каждый шаг и не бойтесь спрашивать учителя, если что-то непонятно."
    ),
    (
        "当然可以！学习一门新的语言需要每天练习。你可以听音乐、看电影、读简单的书，也可以和朋友"
        "用这种语言聊天。不要害怕犯错误，错误会帮助你进步。"
    ),
    (
        "北京是中国的首都，有三千多年的历史。故宫、天坛和长城每年吸引几千万游客。城市的公共交通"
        "很方便，地铁线路很多。"
    ),
    (
        "もちろんです。日本の首都は東京です。人口は約千四百万人で、世界でも最も大きな都市の一つ"
        "です。電車がとても便利で、食べ物も美味しいです。"
    ),
    (
        "물론입니다! 김치를 만들려면 배추를 소금에 절이고 고춧가루, 마늘, 생강을 섞은 양념을 "
        "바릅니다. 그다음 항아리에 넣고 며칠 동안 익히면 됩니다."
    ),
    (
        "بالطبع! القاهرة هي عاصمة مصر وتقع على نهر النيل. يعيش فيها أكثر من عشرين مليون "
        "نسمة، ويزورها كثير من السياح كل عام لرؤية الأهرامات القديمة."
    ),
)
"""Answers in 17 languages. The features of the detector were compared on them."""

NEW_LATIN = (
    (
        "Hovedstaden i Danmark er København. Byen ligger på øerne Sjælland og Amager, og "
        "mange af indbyggerne cykler på arbejde hver dag, både om sommeren og om vinteren."
    ),
    (
        "For å lage gode vafler trenger du mel, melk, egg, sukker og litt smør. Rør alt "
        "sammen til en jevn røre, la den hvile en halv time, og stek vaflene til de er "
        "gylne."
    ),
    (
        "Suomen pääkaupunki on Helsinki. Kaupungissa asuu yli kuusisataatuhatta ihmistä, "
        "ja kesällä monet heistä viettävät viikonloput järven rannalla mökillä."
    ),
    (
        "Magyarország fővárosa Budapest. A Duna két részre osztja a várost, és sok turista "
        "jön azért, hogy megnézze a Parlamentet és kipróbálja a régi fürdőket."
    ),
    (
        "Hlavním městem České republiky je Praha. Leží na řece Vltavě a každý rok ji navštíví "
        "miliony lidí, kteří chtějí vidět Karlův most a Pražský hrad."
    ),
    (
        "Pentru a învăța să gătești, începe cu rețete simple, cum ar fi o supă de legume. "
        "Spală bine legumele, taie-le mărunt și fierbe-le la foc mic o jumătate de oră."
    ),
    (
        "Muốn khỏe mạnh, bạn nên ngủ đủ giấc, ăn nhiều rau và tập thể dục mỗi ngày. Đừng "
        "quên uống nước và nghỉ ngơi khi cảm thấy mệt mỏi."
    ),
    (
        "Untuk menanam cabai di rumah, siapkan pot, tanah yang gembur, dan benih yang baik. "
        "Siram setiap pagi dan letakkan pot di tempat yang terkena sinar matahari."
    ),
    (
        "Ili kujifunza lugha mpya, soma kila siku, sikiliza redio, na zungumza na watu "
        "wanaoijua vizuri. Usiogope kufanya makosa, kwa sababu makosa ni sehemu ya kujifunza."
    ),
    (
        "Per fer un bon pa amb tomàquet, talla unes llesques de pa de pagès, frega-hi un "
        "tomàquet ben madur i posa-hi sal i un raig d'oli d'oliva."
    ),
    (
        "Kaapstad is een van die mooiste stede in Suid-Afrika. Baie mense klim Tafelberg "
        "op en kyk van bo af na die see, die hawe en die ou geboue van die stad."
    ),
    (
        "La ĉefurbo de Japanio estas Tokio. Tie loĝas pli ol dek milionoj da homoj, kaj "
        "la trajnoj veturas tre akurate de frua mateno ĝis malfrua vespero."
    ),
    (
        "Romae hieme frigida incolae domi manent et panem calidum cum caseo edunt; aestate "
        "autem ad mare eunt, ubi pueri in aqua ludunt et senes sub arboribus sedent."
    ),
    (
        "Tá Baile Átha Cliath ar an gcathair is mó in Éirinn. Tá sí suite ar bhéal na Life, "
        "agus tagann daoine ó gach cearn den domhan chun í a fheiceáil."
    ),
)
"""New ones in Latin script: they were looked at once, after all choices."""

NEW_OTHER = (
    (
        "Η πρωτεύουσα της Ελλάδας είναι η Αθήνα. Κάθε χρόνο εκατομμύρια άνθρωποι επισκέπτονται "
        "την Ακρόπολη και τα μουσεία της πόλης."
    ),
    (
        "Щоб спекти хліб, потрібні борошно, вода, сіль і дріжджі. Замісіть тісто, залиште "
        "його на годину в теплому місці, а потім випікайте сорок хвилин."
    ),
    (
        "बिल्कुल! चाय बनाने के लिए पानी उबालें, उसमें चाय की पत्ती, अदरक और चीनी डालें, "
        "फिर दूध मिलाकर कुछ मिनट तक पकाएँ।"
    ),
    ("ঢাকা বাংলাদেশের রাজধানী। শহরটি বুড়িগঙ্গা নদীর তীরে অবস্থিত এবং এখানে প্রায় দুই কোটি মানুষ বাস করে।"),
    ("เมืองหลวงของประเทศไทยคือกรุงเทพมหานคร มีวัด ตลาดน้ำ และร้านอาหารริมทางมากมายที่นักท่องเที่ยวชอบ"),
    (
        "בירת ישראל היא ירושלים. העיר עתיקה מאוד, ובכל שנה מגיעים אליה מבקרים רבים מכל "
        "העולם כדי לראות את החומות ואת השווקים."
    ),
    (
        "برای درست کردن برنج ایرانی، برنج را چند ساعت در آب و نمک بخیسانید، سپس آن را بجوشانید "
        "و با کمی کره دم کنید."
    ),
    (
        "சென்னை தமிழ்நாட்டின் தலைநகரம். இது வங்காள விரிகுடாவின் கரையில் அமைந்துள்ளது, மேலும் "
        "பல மில்லியன் மக்கள் இங்கு வாழ்கின்றனர்."
    ),
    (
        "თბილისი საქართველოს დედაქალაქია. ქალაქი მდინარე მტკვრის ნაპირებზე მდებარეობს და "
        "ცნობილია თავისი ძველი უბნებით."
    ),
    (
        "София е столицата на България. Градът лежи в подножието на Витоша, а през зимата "
        "много хора карат ски съвсем близо до центъра."
    ),
)
"""New ones in other scripts."""
