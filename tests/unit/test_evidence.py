"""Evidence is symmetric, lies in 0..1, and sees what each of its pieces is for."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.evidence.pair import NAMES, analyse, compare
from app.domain.evidence.words import MOST, split, word

WORDS = st.sampled_from(
    [
        "how",
        "do",
        "i",
        "enable",
        "disable",
        "block",
        "hot",
        "cold",
        "cool",
        "not",
        "never",
        "can't",
        "Python",
        "2.7",
        "3",
        "three",
        "iPhone",
        "6s",
        "Paris",
        "London",
        "to",
        "from",
        "convert",
        "JSON",
        "XML",
        "than",
        "why",
        "when",
        "the",
        "of",
        "wifi",
        "connect",
        "disconnect",
        "🍕",
        "été",
        "naïve",
    ]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=9).map(" ".join))


def seen(left: str, right: str) -> dict[str, float]:
    """Return the pieces of evidence that are not 0."""
    values = compare(analyse(left), analyse(right))
    return {name: value for name, value in zip(NAMES, values, strict=True) if value}


@given(TEXTS, TEXTS, st.frozensets(WORDS), st.frozensets(WORDS))
def test_evidence_is_symmetric_and_bounded(
    left: str, right: str, unknown: frozenset[str], other: frozenset[str]
) -> None:
    """Whichever text comes first, it is the same; bounds of the log odds rest on 0..1."""
    one, two = analyse(left, unknown), analyse(right, other)
    values = compare(one, two)
    assert values == compare(two, one)
    assert len(values) == len(NAMES)
    assert all(0.0 <= value <= 1.0 for value in values)


@given(TEXTS)
def test_a_text_has_no_evidence_against_itself(text: str) -> None:
    """Nothing speaks against a text being the same as itself."""
    assert seen(text, text) == {}


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("How do I enable two-factor login?", "How do I disable two-factor login?", "opposite"),
        ("How do I connect a printer?", "How do I disconnect the printer?", "opposite"),
        ("Is it safe to swim here?", "Is it unsafe to swim here?", "opposite"),
        ("Can I eat before the test?", "Can I eat after the test?", "opposite"),
        ("Which pills make me sleep?", "Which pills don't make me sleep?", "negation"),
        ("How to cook rice with oil", "How to cook rice without oil", "negation"),
        ("How do I install Python 2.7?", "How do I install Python 3.6?", "numbers"),
        ("Is the iPhone 6s worth it?", "Is the iPhone 7 worth it?", "numbers"),
        ("How do I lose ten pounds?", "How do I lose 20 pounds?", "numbers"),
        ("What is Windows 10?", "What is Windows?", "number_alone"),
        ("What should I see in Paris?", "What should I see in London?", "names"),
        ("Can I drink the tap water in Peru?", "Can I drink the tap water?", "name_alone"),
        ("How do I convert JSON to XML?", "How do I convert XML to JSON?", "swapped"),
        ("Is Java better than Scala?", "Is Scala better than Java?", "swapped"),
        ("Flights from Rome to Oslo", "Flights from Oslo to Rome", "swapped"),
        ("Can a dog hate a cat?", "Can a cat hate a dog?", "reordered"),
        ("Why should I vote?", "When should I vote?", "asks"),
    ],
)
def test_each_piece_sees_what_it_is_for(left: str, right: str, expected: str) -> None:
    """Where nothing else differs, the piece counts in full."""
    assert seen(left, right)[expected] == 1.0


@pytest.mark.parametrize(
    ("written", "stem"),
    [
        ("1,5", "1.5"),
        ("1.5", "1.5"),
        ("0,25", "0.25"),
        ("2,0", "2"),
        ("1,0001", "1.0001"),
        ("1,000", "1000"),
        ("12,345,678", "12345678"),
        ("1,00,000", "100000"),
        ("1,000.50", "1000.50"),
        ("15", "15"),
    ],
)
def test_a_comma_is_a_decimal_point_or_groups_thousands(written: str, stem: str) -> None:
    """Groups end in one of exactly three digits; lakhs have pairs before it."""
    assert [each.stem for each in split(written).words] == [stem]


def test_one_and_a_half_is_not_fifteen() -> None:
    """Nothing else differs: in full."""
    assert seen("Does it cost 1,5 euros?", "Does it cost 15 euros?") == {"numbers": 1.0}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("How do I reset my password?", "How can I reset my password"),
        ("What is 1,000 dollars worth?", "What are 1000 dollars worth?"),
        ("How do I install v2 of Python?", "How do I install Python 2.0?"),
        ("Who won three times?", "Who won 3 times?"),
        ("I can't log in", "I am unable to log in"),
        ("how old is paris", "How old is Paris?"),
        ("WHY IS MY PHONE SLOW", "Why is my phone slow?"),
        ("How are boys different from girls?", "How are girls different from boys?"),
    ],
)
def test_what_says_the_same_is_no_evidence(left: str, right: str) -> None:
    """Forms, spellings and case of the same are not taken for a difference."""
    assert set(seen(left, right)) <= {"reordered"}


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("How do I enable ads?", "How do I disable and block ads?", 0.5),
        ("Is it hot?", "Is it cold and cool?", 0.5),
        ("Do I enable and allow ads?", "Do I disable and block ads?", 1.0),
    ],
)
def test_an_opposite_counts_once_from_either_side(left: str, right: str, expected: float) -> None:
    """One word against two is one contrast, and the second of the two differs besides."""
    assert seen(left, right)["opposite"] == expected
    assert seen(right, left)["opposite"] == expected


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("How do I delete my first message?", "How do I delete my last message?"),
        ("When does the 1st bus leave?", "When does the last bus leave?"),
        ("What is the first step?", "What is the final step?"),
    ],
)
def test_first_and_last_are_opposites_and_no_numbers_besides(left: str, right: str) -> None:
    """One word against one: counted once, as what tells more."""
    assert seen(left, right) == {"opposite": 1.0}
    assert seen(right, left) == {"opposite": 1.0}


def test_a_number_beside_first_and_last_still_counts() -> None:
    """Only the word that has its opposite is no number."""
    assert seen("Are the first 5 messages free?", "Are the last 9 messages free?") == {
        "opposite": 0.25,
        "numbers": 0.25,
    }


def test_a_difference_among_many_counts_for_less() -> None:
    """1 alone; each more word of content that differs halves it: two make a quarter."""
    assert seen("Cheap hotels in Paris", "Cheap hotels in London")["names"] == 1.0
    assert seen("Cheap hotels in Paris", "Cheap rooms in London")["names"] == 0.25


def test_texts_of_different_unknown_words_are_told_apart() -> None:
    """Both have words of their own that the encoder knows nothing of: in full. One has: its share.

    One unknown word beside three others: (1 / 4) squared.
    """
    pizza, melon = frozenset(["🍕"]), frozenset(["🍉"])
    place = NAMES.index("unknown")
    assert compare(analyse("🍕", pizza), analyse("🍉", melon))[place] == 1.0
    assert compare(analyse("🍕", pizza), analyse("🍕", pizza))[place] == 0.0
    assert compare(analyse("I eat pizza 🍕", pizza), analyse("I eat pizza"))[place] == 1 / 16


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("How do I reset my password? 🙏", []),
        ("How do I reset my password?🍀🍀", []),
        ("how do i reset my password 🙏🏽 ❤️", []),
        ("👋 How do I reset my password?", []),
        ("🙏", ["🙏"]),
        ("What is it? 🙃", ["🙃"]),
        ("What does 🙃 mean? 🙃", ["🙃"]),
        ("What does 🍆 mean? 😀", ["🍆"]),
        ("Where can I buy 🍕?", ["🍕"]),
        ("Where can I buy 🍕", ["🍕"]),
        ("How do I write ꦲꦏ꧀ꦱꦫ", ["ꦲꦏ꧀ꦱꦫ"]),
    ],
)
def test_decoration_is_no_unknown_word(text: str, unknown: list[str]) -> None:
    """A picture after the last sentence, or a mood at an end, says nothing of what is asked.

    Unless there is nothing else in the text, or it is asked of.
    """
    words = frozenset(re.findall(r"[^\x00-\x7f]+", text))
    assert analyse(text, words).unknown == frozenset(unknown)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("My card was declined, what should I do?", "open"),
        ("What should I do when my card was declined?", "open"),
        ("My card was declined. What should I do?", "open"),
        ("What should I do? My card was declined.", "open"),
        ("When I log in, what should I click?", "open"),
        ("When I log in I get an error. What is it?", "open"),
        ("Can't log in. How do I reset my password?", "open"),
        ("Quick question: how do I reset my password", "open"),
        ("Which is better: Java or Scala?", "open"),
        ("How do I\nreset my password?", "open"),
        ("Please tell me how to reset my password.", "open"),
        ("Hi, can you please tell me how I reset it?", "open"),
        ("I was wondering how to reset it", "open"),
        ("At what time does it open?", "open"),
        ("Is it possible that the card was declined?", "whether"),
        ("So is it safe?", "whether"),
        ("Do you know if it is safe?", "whether"),
        ("Tell me whether it is safe", "whether"),
        ("Do you know Paris?", "whether"),
        ("Does the word “why” have a plural?", "whether"),
        ("Do you know why cats purr?", "why"),
        ("I want to know why cats purr", "why"),
        ("why do cats purr", "why"),
        ("In which year was it, and who was it?", ""),
        ("My card was declined", ""),
        ("When I log in I get an error", ""),
        ("When does it open", "when"),
        ("When it opens?", "when"),
        ("Tell me when it opens", "when"),
        ("where to buy stamps", "where"),
        ("I live in Paris, where can I park?", "where"),
        ("Do I need to know why?", ""),
        ("If the card is declined what now?", ""),
        ("Who is Dr. Who?", "who"),
        ("Who is the U.S. president?", "who"),
        ("", ""),
        ("Hello!", ""),
    ],
)
def test_a_text_asks_by_what_its_question_begins_with(text: str, kind: str) -> None:
    """Not by any asking word inside; where questions differ, or none is clear, by none."""
    assert analyse(text).asks == kind


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (
            "My card was declined, what should I do?",
            "What should I do when my card was declined?",
        ),
        (
            "I moved house. Change my address please.",
            "I moved house. Update my address please.",
        ),
        ("Help! Parcel is late", "Help! Package is late"),
        ("Address: Change it", "Address: Update it"),
        ("my address\nChange it", "my address\nUpdate it"),
    ],
)
def test_no_name_and_no_kind_of_question_where_a_sentence_begins(left: str, right: str) -> None:
    """A capital after a mark that ends a sentence, a colon or a line tells no name."""
    assert not {"asks", "names", "name_alone"} & set(seen(left, right))


def test_a_name_after_a_title_or_a_colon_inside_a_word_is_a_name() -> None:
    """Full stops of short forms end no sentence."""
    assert analyse("how old is Dr. Smith of the U.S. navy").names >= {"smith"}
    assert analyse("is it at 10:Gate").names == {"gat"}


def test_a_direction_is_seen_between_the_last_words_before_it() -> None:
    """Up to three words of content before it, and the next after it."""
    text = "Move all my old red blue contacts to the phone to car"
    assert analyse(text).directed == {
        ("red", "phon"), ("blu", "phon"), ("contact", "phon"),
        ("blu", "car"), ("contact", "car"), ("phon", "car"),
    }  # fmt: skip
    assert analyse("Did Rome beat Carthage before Greece?").directed == {
        ("rom", "carthag"), ("rom", "greec"), ("beat", "greec"), ("carthag", "greec"),
    }  # fmt: skip


def test_a_long_text_is_read_no_further_than_by_the_encoder() -> None:
    """What its vector says nothing of is no evidence, and takes no time."""
    words = [f"w{place}" for place in range(400)]
    analysis = analyse(" to ".join(words))
    assert analysis.length == MOST
    assert analysis.order == tuple(f"w{place}" for place in range(MOST // 2))
    assert ("w99", "w100") in analysis.directed


def test_very_long_words_are_not_kept() -> None:
    """A cache of words is for words that come again."""
    before = word.cache_info().currsize
    assert [each.stem for each in split("k" * 41 + "x " + "k" * 41).words] == [
        "k" * 41 + "x",
        "k" * 40,
    ]
    assert word.cache_info().currsize == before


def test_words_keep_what_belongs_together() -> None:
    """Contractions, decimals and names of languages are one word; hyphens part two."""
    assert [each.stem for each in split("Don't re-enable C++ 3.50 node.js's").words] == [
        "dont", "re", "enabl", "c++", "3.50", "nod", "js",
    ]  # fmt: skip
