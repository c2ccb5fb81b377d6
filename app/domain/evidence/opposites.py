"""Words that say the opposite of each other."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

from app.domain.evidence.stems import stem_of

# Each line: words before the bar against words after it; a number as `words` compares it, so that
# 1 is "first" and "1st" too.
_TABLE = """
enable allow permit grant | disable block forbid deny prevent ban prohibit refuse
on | off
open | close shut
start begin launch launched | stop end finish quit cease
add insert create include attach | remove delete erase exclude detach drop
install | uninstall remove
increase raise gain boost grow | decrease reduce lower lose lessen shrink cut
high higher highest tall | low lower lowest short
big bigger biggest large larger largest huge | small smaller smallest little tiny
long longer longest | short shorter shortest brief
good better great | bad worse terrible awful
best | worst
1 | last final
before | after
early earlier earliest | late later latest
buy purchase | sell
import | export
upload | download
encrypt encode | decrypt decode
compress zip | decompress unzip extract
login | logout
signin | signout
subscribe | unsubscribe
hire employ | fire dismiss
win victory | lose defeat loss
love like | hate dislike
push | pull
send | receive
give lend | take borrow receive
lend | borrow
rent | own
teach | learn
ask question | answer reply
accept approve agree | reject decline refuse disagree
attack | defend
build | destroy demolish
break damage | fix repair mend
rise climb ascend | fall drop descend
up above upstairs | down below downstairs
inside indoor in internal | outside outdoor out external
left | right
right correct true real genuine | wrong incorrect false fake
public | private
male man men boy he king | female woman women girl she queen
husband father son brother | wife mother daughter sister
old older oldest elder ancient | young younger youngest new newer newest modern
rich wealthy | poor
strong stronger strongest | weak weaker weakest
fast faster fastest quick quicker quickly | slow slower slowest slowly
hot hotter hottest warm | cold colder coldest cool
heavy | light
hard harder hardest difficult | easy easier easiest simple soft
full | empty
wet | dry
light bright day | dark night
day morning | night evening
happy glad | sad unhappy
alive living live | dead
life birth born | death die dead
positive | negative
plus | minus
advantage pro benefit | disadvantage con drawback
success succeed pass | failure fail
safe | dangerous unsafe
healthy | sick ill unhealthy
cheap cheaper cheapest | expensive costly
free | paid
always | never
more most | less least fewer fewest
maximum max | minimum min
maximize | minimize
expand | collapse
lock | unlock
show display reveal | hide conceal
mute | unmute
follow | unfollow
friend | enemy foe
forward | backward
input | output
cause | cure prevent
arrive arrival | depart departure leave
come | go leave
enter entry | exit leave
north northern | south southern
east eastern | west western
summer | winter
legal | illegal
married marry | single divorced divorce
marriage wedding | divorce
introvert | extrovert
vegetarian vegan | nonvegetarian
liberal | conservative
democrat | republican
client | server
buyer | seller
employer | employee
parent | child
ancestor | descendant
deposit | withdraw withdrawal
debit | credit
lender | borrower
profit | loss
horizontal | vertical
manual | automatic
online | offline
upgrade | downgrade
activate | deactivate cancel
connect | disconnect
freeze | thaw melt
odd | even
local | remote global
temporary | permanent
optional | required mandatory
"""
# Longer words are no words of a language; they are not looked up, nor kept.
LONGEST = 40
_PREFIXES = ("un", "dis", "in", "im", "il", "ir", "non", "de", "anti")


def _read(table: str) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for line in table.strip().splitlines():
        one, other = ({stem_of(each) for each in part.split()} for part in line.split("|"))
        for stem in one:
            found[stem] |= other
        for stem in other:
            found[stem] |= one
    return {stem: frozenset(others - {stem}) for stem, others in found.items()}


OPPOSITES = _read(_TABLE)
_NONE: frozenset[str] = frozenset()


def opposites(stem: str) -> frozenset[str]:
    """Return the stems that say the opposite of one: from the table, and without its prefix.

    That `enable` is the opposite of an unknown `unenable` only the latter knows.
    """
    return _opposites(stem) if len(stem) <= LONGEST else _NONE


@lru_cache(maxsize=1 << 16)
def _opposites(stem: str) -> frozenset[str]:
    by_prefix = {
        stem[len(prefix) :]
        for prefix in _PREFIXES
        if stem.startswith(prefix) and len(stem) >= len(prefix) + 4
    }
    return OPPOSITES.get(stem, _NONE) | by_prefix


def opposed(one: frozenset[str], other: frozenset[str]) -> int:
    """Return how many stems have their opposite on the other side, each side's counted alone.

    The fewer count: one word against two of another text is one contrast, from either side.
    """
    return min(_against(one, other), _against(other, one))


def contrasted(stems: frozenset[str], among: frozenset[str]) -> frozenset[str]:
    """Return those of `stems` that have their opposite among others."""
    return frozenset([stem for stem in stems if not opposites(stem).isdisjoint(among)])


def _against(one: frozenset[str], other: frozenset[str]) -> int:
    """Return how many stems of `one` have their opposite in `other`."""
    knowing = {stem for stem in one if not opposites(stem).isdisjoint(other)}
    known = {opposite for stem in other for opposite in opposites(stem) if opposite in one}
    return len(knowing | known)
