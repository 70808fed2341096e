"""Words that are one token for the tiny models: frequent in English, in code and in agents' prompts."""

WORDS = """
a able about above absolute accept acceptance accepted accepting accepts access accessing accompanying
accordance according acquiring across acting action active actual actually add added adding addition
additional additionally additions address addresses advertising affect after again against agent agents
agree agreed agreement agrees algorithm alias aliases all allow allowed allows alone along already also
altered alternative although always am amount an analyze and annotation annotations another answer answers
any anyone anything appear appears append appended applicable application applications applied applies apply
appropriate appropriately arbitrary architecture archive are argparse args argument arguments around array
as ask assert assigned assignment assistant associated assume assumed async asynchronous asyncio at attached
attempt attempting attempts attribute attributes attribution author authorization authorized authors
authorship automatic automatically available avoid await back backend backends background backward backwards
base based bash basic be because become becomes been before beginning behalf behavior behaviour being below
better between binaries binary bindings block body bool boolean both bound brackets branch break brief
buffer bug build building builds built builtin but by byte bytearray bytes cache call callable callback
called caller calling calls can cancellation cannot canonical carry case cases category cause caused causes
certain certificate certificates change changed changelog changes changing character characters charge
charset check checked checking checks child choice choose chunk circumstances claim claimed claims class
classes classified clause clear clearly client close closed closing cls code codebase codes collect
collected collection collections combination combine combined comes command commands comment comments
commercial commit commits common communication community comparison compatibility compatible compilation
compile compiled compiler compiling complete completed completely completion compliance comply component
components compressed compression computer concise concurrent condition conditions config configuration
configure configured conflict connect connection connections consequential consider considered consistent
console constitutes construct constructed constructor contact contain contained container containing
contains content contents context continue contract contribute contributed contribution contributions
contributor contributors control controlled controls convenience conversion convert converted copied copies
copy copying copyright copyrighted copyrights core coroutine correct correctly corresponding could count
cover coverage covered covers create created creates creating creation cross cryptographic current currently
custom damages data database dataclass date datetime deal debug debugging decode decoded decoding decorator
dedicated deemed def default defaults define defined defines defining definition definitions del delete
depend dependencies dependency depending depends deprecated deprecation derivative derived described
describes describing description descriptions descriptor designated designed desired destination detailed
details detect detected detection determine determined determines developed developers development dict
dictionary diff difference differences different differently direct direction directly directories directory
disable disabled disclaimed disclaimer disclaimers discussion disk display distribute distributed
distributes distributing distribution distributions do doc docs docstring document documentation documented
does doing domain don done double download downloaded due duplicate duration during dynamic dynamically each
earlier early edit edits effect effective effectively either electronic element elements else elsewhere
embedded empty enable enabled enables encode encoded encoding encodings encountered end enough ensure entire
entirely entirety entities entity entries entry enum enumerate environment environments equal equivalent
error errors escape etc even event events every everyone everything exact exactly example examples except
exception exceptions exchange exclude excluded excluding exclusion exclusive executable executables execute
executed execution exercise exercising exist existing exists exit expect expected experimental explain
explanation explicit explicitly export express expressed expression expressions expressly extension
extensions extent external extra extracted fail failed fails failure fallback false family feature features
fee fetch field fields file filename filenames files filesystem filter final finally find finished first
fixed fixture flag flags float floating folder follow followed following follows for force foregoing form
format formats formatted formatting forms forward found fragment framework free freedom freely from full
fully func function functionality functions further future general generally generate generated generates
generating generation generator generators generic get getattr gets git give given gives glob global good
got government grant granted grants greater grep group groups guaranteed had handle handled handler handles
handling happen happens has hash have having he header headers hello help helper helpful her here him his
holder holders hope host hostname how however http https i identical identified identifier identify identity
if ignore ignored immediately implement implemented implementing implements implied import important
imported importing imports impossible improvements in incidental include included includes including
inclusion incoming incompatible incomplete incorporate incorporated incorporates incorrect indent
independent index indicate indicated indicates indicating indirect indirectly individual individually
individuals info information informational inherited initial initialize initialized initially input inside
inspect install installation installed installing instance instances instead institutions instructions int
integer intellectual intended intentionally interactive interface interfaces internal internally interpreted
interpreter into introduced invalid invocation invoked is issue issues it item items iterable iteration
iterator its itself javascript json just keep kernel key keys keyword keywords kind know known kwargs label
language languages large larger last later latest law leading least left legacy legal len length less let
level liability liable libraries library license licensed licenses licensing like likely limit limitation
limitations limited line lines link linked linking links lint list listed lists load loaded local located
location locations log logger logging logic long longer look loop lower lowercase machine machines made
mailing main maintained major make makes making man management manager manual manually many mapping markdown
marked marker match matches matching material materials maximum may me mean meaning means mechanism media
medium member memory mentioned mentioning merely merge message messages met metadata method methods might
milliseconds minimum missing mode model models modification modifications modified modify modifying module
modules more most move moved much multi multiple must my name named names namespace native necessarily
necessary need needed needs neighboring nested network never new newline next no node non none nor normal
normalization normalize normalized normally not note nothing notice notices now null number numbers obj
object objects obligation obligations obtain obtained obtaining occurred of offer offered official offset
old older omitted on once one ones only open opened operating operation operations operator optimization
option optional optionally options or order ordinary organization organizations origin original originally
os other others otherwise our out output outside over overload overridden override overrides overwritten own
owned owner ownership package packages packaging page pairs paragraph paragraphs parallel parameter
parameters params parent parse parsed parser parsing part partial particular parties partnership parts party
pass passed passing password patch patches patent path paths pattern patterns payload pending people per
perform performance performed performing permission permissions permit permitted persistent person persons
physical place placed placeholder plain plan plans platform platforms please plugin plugins point policy
port portion portions position positional possibility possible possibly potential potentially practice pre
precedence preferred prefix prepare prepared prepares present preserve preserved prevent previous previously
print printed prior priority private probably problem problems process processed processes processing
processor produce produced product products program programming programs progress project projects prominent
promote prompt prompts properly properties property proprietary protecting protection protocol provide
provided provides providing provision provisions proxy public publication publish published publisher
purpose purposes put pytest python query question questions raise raised raises raising range rather re read
readable reading reads really reason reasonable reasonably receive received recipients recognized
recommended record recursive redistribute redistributed refer reference references refers regardless regex
registered registry regular related relationship relative release released releases relevant remain
remaining remains remote remove removed removing rename replace replaced replacement report reported
reporting reports repository represent represented representing represents reproduce reproduction request
requested requests require required requirement requirements requires requiring reserved resolve resolved
resource resources respect respective respectively response responses responsible rest restriction
restrictions result resulting results retain retained return returned returning returns reverse reversed
right rights root rule rules run running runs runtime safe said sale same satisfy say says schema scheme
scope script scripts search second seconds section sections security see seen select selected selection self
sell semantics send sending sense sent sentence separate separated separately separator separators sequence
sequences serialized server service services session sessions set setattr sets setting settings setup
several share shared she shell short should show signature signatures silently similar simple simply since
single size skeleton skip small so socket sockets software solely some something sorted source sources space
spec special specific specifically specification specified specifies specify specifying split src stack
standard start started starting starts state stated statement static stating status stdout step steps still
stop storage store stored str stream strict string strings stripped structure style sub subclass subclasses
subdirectory subject subprocess subsequent subsequently substantial substitute successor such suffix
suitable summarizes summary super supplied support supported supporting supports suppress sure symbols
syntax system systems table take taken takes taking target targets task tasks team tell template temporary
term terminal terminate terminated terms test testing tests text than thanks that the their them themselves
then there therefore these they things think third this those though thread three through thus time timeout
times title to todo todos together token tokens too tool tools top total trace traceback track trade
trailing transfer translate translated translation translations treat treated tree trigger triggers true try
tuple tuples two type types typescript typically typing unchanged undefined under underlying underscores
understand unexpected unicode unique unknown unless unlike unlimited unmodified unsupported until up update
updated updates upon url us usage use used useful user username users uses using usually utilities utility
valid validate validation value values van variable variables variant various verbatim verbose verify
version versions very via visible wait want wants warning warnings warranties warranty was way we web well
were what whatever when where whether which while whitespace who whole whom whose why will wish with within
without work working works workspace world would wrapper write writer writing written yet yield you your
zero All Always Any Assistant Call Do Example False File Files For General Git If Important In It License
List Never No None Not Note Only Optional Path Public Python Read Return Returns Run Search Software Source
String That The These This Tool True Usage Use User When Write You Your
"""

# Parts of all other words; one of the first two letters of each is a vowel (see vocabulary.py).
SYLLABLES = """
ab able ably ack act ad age ail ain air ake al ally als am ame an ance ances and ane ang ans ant ants ap ar
arch ard are ars ary as ase ass ast at ate ated ates ating ation ations att av ave aw ay ba bal bar bas be
ber bi bit bo bu but ca cal can car cat ce ced cent cep ces ci cial cil cing co col com con cor cu cur cut
da dat date de ded del den der des di din dis do dow du ead eal ear eat ect ection ed eed een eep eer el ell
ely em ement ements en ence ences ency end ens ent ents er erm ern ers ery es ess est et eth ex ext fa fe
fer fi fic fo for form fu ful ga gan ge ged gen ger ges gi gin go gu ha hal han har he her hi hip ho hol hor
hu ical ice ices ick ide ied ier ies ification ified ify ight ign ile ilities ility ill im ime in ination
inations ine ined iner ines ing ings ins int ion ional ions ious ip ir ire ired is ise ised ises ish ision
isions ism iss ission issions ist ists it ite ited ites ities ition itions itive ity ive ived ives ization
ize ized izes izing ja jo ju ka ke ked ken key ki king la lar lat le led lement ler les let li lic lied lies
lin line ling list lit lo load log long low lu ma mal man mat me med men ment ments mer mes mi min ming mit
mo mod mon more most mu na nal name ne ned ner ness net new ni nic ning no nor not now nu oard ocal ock od
ode og oin oke ol old ole oll ology om on one ong ook ool oon oot op or ord ore ories ork orm ort ory ose
oss ost ot ots ough ould ound ount oup our ous out over ow own pa pac par part pat pe ped pen per pi pin
ping po point pol por port pos pose pu ra rat re red ren res resent ress ri rid ring ro rom round row ru sa
se sed sel ser ses set si sing sion sit size so sol some son su sub sum ta tal te ted ter ters tes ti tion
tive to tor tu uct ude ue uff ug ul ull ult um ument un unc und ung up ur ure urity url urn us use ust ut
ute utes ution va val ve ved vel ven ver vers ves vi vice vid ving vis vo wa war we wi win with wo wor work
ye yo you za ze zi
"""
