"""A few texts of our own, in the styles a service meets.

They set the activation scales of an int8 graph, and tell whether two graphs give the same
vectors. Being part of the source, they make an export reproducible without any data set.
"""

SAMPLE_TEXTS = (
    "How old are you?",
    "What is your age?",
    "How do I reset my password?",
    "I forgot my password and the reset mail never arrives, what now?",
    "Where can I download last month's invoice?",
    "The app crashes when I open settings on Android 14.",
    "Is it safe to travel alone at night?",
    "What's the difference between a virus and a bacterium?",
    "my parcel hasn't arrived yet, order 48213",
    "Can I change the delivery address after paying?",
    "Who wrote the first computer program, and when was that?",
    "Why does the moon look bigger near the horizon?",
    "best way to learn french in 3 months",
    "Do you ship to Norway?",
    "I'd like to cancel my subscription.",
    "How many calories are there in two eggs and 100 g of oats?",
    "What happens if I don't pay my credit card bill on time?",
    "python list index out of range error when looping over two lists",
    "Which is better, a loan or a lease, for a small business?",
    "How can I become a better public speaker?",
    "Does the warranty cover water damage?",
    "PLEASE HELP!!! MY ACCOUNT WAS CHARGED TWICE",
    "hello",
    "thanks, that worked",
    "no",
    "?",
    "42",
    "What are some good books about the Roman Empire for a ten-year-old?",
    "How does one prove that the square root of 2 is irrational?",
    "Is there a way to export all my notes as PDF and delete the account afterwards?",
    "Can dogs eat grapes, raisins or chocolate?",
    "What time does the museum close on public holidays?",
    "turn off the lights in the kitchen and set an alarm for half past six",
    "Play something by Bach.",
    "What is the capital of Burkina Faso and how many people live there?",
    "How do vaccines train the immune system against a virus it has never met?",
    "Which universities in Canada offer scholarships for students of geology?",
    "SELECT name, COUNT(*) FROM orders GROUP BY name HAVING COUNT(*) > 3; returns nothing",
    "TypeError: 'NoneType' object is not subscriptable",
    "Should I buy the 13-inch laptop with 16 GB of memory or wait until next year?",
    "Why do we dream, and why do we forget most of our dreams within minutes?",
    "What would have happened if the printing press had never been invented?",
    "Ist die Lieferung nach Österreich kostenlos?",
    "¿Cómo puedo cambiar mi contraseña?",
    "Où se trouve la gare la plus proche, s'il vous plaît ?",
    "東京の天気はどうですか",
    "How to remove red wine stains from a white cotton shirt without bleach",
    "is bitcoin a good investment in the long term or will it go to zero",
    "Who would win, a lion or a tiger?",
    "How much does it cost to rent a van for a weekend, insurance included?",
    "What's the meaning of the phrase 'the proof of the pudding is in the eating'?",
    "My daughter is 4 and refuses to sleep in her own bed; what has worked for other parents?",
    "How are interest rates, inflation and exchange rates related to each other?",
    "wifi keeps dropping every few minutes, already restarted the router twice",
    "Can I use two discount codes in one order? The page only lets me enter one.",
    "What is the best time of the year to see the northern lights in Iceland?",
    "Why is the sky blue but the sunset red?",
    "Does anyone know a good dentist near the old harbour who is open on Saturdays?",
    (
        "I moved to another flat in March and told your office twice, but the letters still go to "
        "the old address. The last one was a reminder with a fee of 15 euros. Please correct the "
        "address, cancel the fee and confirm both in writing, or tell me whom I should call."
    ),
    (
        "We run a small bakery with two ovens, one of them from 1987. When both are on and the "
        "dough mixer starts, the main fuse goes. The electrician says that a new connection costs "
        "4,000. Is there a cheaper way, for instance a device that keeps the machines from "
        "starting at the same moment, and would the insurance accept it? We bake from three in "
        "the morning until nine and the mixer runs about forty minutes of that. The landlord has "
        "said that he will not pay for anything, although the lease says he must."
    ),
    "http://example.com/help?id=17&lang=en doesn't open, error 404",
    "asdf qwer zxcv 1234 !!! ###",
    "x = [i**2 for i in range(10)]; print(sum(x) / len(x))",
    "COVID-19 mRNA booster dosage, contraindications, pharmacokinetics",
)
