"""Invented names for the demonstration, in pools by origin. Any resemblance to a real child is coincidental."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NamePool:
    """Names of one origin: their share of pupils, how often the family speaks another language than English at home,
    and ethnicity codes."""

    share: float
    another_language: float
    ethnicities: tuple[str, ...]
    girls: tuple[str, ...]
    boys: tuple[str, ...]
    surnames: tuple[str, ...]


def _make_pool(share: float, another_language: float, ethnicities: str, girls: str, boys: str, surnames: str) -> NamePool:
    return NamePool(share, another_language, *(tuple(names.split()) for names in (ethnicities, girls, boys, surnames)))


POOLS = (
    _make_pool(
        0.62,
        0.01,
        "WBRI WBRI WBRI WBRI WBRI WBRI WBRI WBRI WIRI MWBC MWAS",
        "Ada Amelia Ava Bonnie Charlotte Daisy Eleri Eliza Ella Elsie Emily Erin Esme Eva Evie Florence Freya Georgia Grace Hallie Harriet"
        " Heidi Holly Imogen Isla Ivy Jessica Lily Lottie Lucy Mabel Maisie Margot Martha Matilda Millie Niamh Olive Orla Penelope Phoebe"
        " Poppy Robyn Rosie Ruby Sienna Sophie Summer Thea Willow",
        "Albie Alfie Archie Arlo Arthur Barnaby Ben Callum Charlie Daniel Dylan Edward Elliot Ethan Evan Finley Finn Freddie Gabriel George"
        " Harley Harry Henry Hugo Jack Jacob James Jasper Joseph Joshua Jude Lewis Logan Louie Luca Max Noah Oakley Oliver Oscar Owen Ralph"
        " Reuben Riley Rory Samuel Sebastian Teddy Theo Tom Toby William",
        "Abbott Ainsworth Allen Appleby Baker Barlow Bell Bennett Birch Bishop Booth Brennan Brook Burton Byrne Carr Chapman Clarke Coates"
        " Cole Cross Dale Davies Dawson Dixon Doyle Ellis Evans Farrow Fenwick Fletcher Ford Foster Gallagher Gibson Grant Greenhalgh"
        " Griffiths Hale Harding Hartley Hewitt Holt Howarth Hughes Hunt Ingham Jarvis Jones Kay Kirk Lamb Lane Larkin Lloyd Marsh Mason"
        " Mercer Moody Morgan Nolan North Oakes Osborne Palmer Parry Pearce Pickering Platt Quinn Reeve Rhodes Rowe Sadler Sharp Shaw"
        " Sutton Tate Thorne Turner Vickers Wade Walsh Ward Webb West Whittle Wood Yates",
    ),
    _make_pool(
        0.15,
        0.62,
        "AIND APKN APKN ABAN AOTH",
        "Aaliyah Aisha Amina Anaya Anika Fatima Hafsa Inaya Isha Jasmin Khadija Laiba Maryam Meera Nadia Priya Riya Safa Simran Zara",
        "Aarav Adam Arjun Ayaan Bilal Dev Eshan Hamza Haris Ibrahim Imran Ismail Jai Kabir Mohammed Rohan Samir Vihaan Yusuf Zain",
        "Ahmed Akhtar Ali Begum Bhatt Chaudhry Das Desai Dhillon Gill Hussain Iqbal Joshi Kaur Khan Mahmood Malik Mehta Mistry Nair Patel"
        " Rahman Rao Sandhu Shah Sharma Siddiqui Singh Uddin",
    ),
    _make_pool(
        0.08,
        0.85,
        "WOTH",
        "Alicja Amelia Anastasia Daria Emilia Gabriela Julia Lena Maja Maria Nikola Oksana Sofia Zofia",
        "Adrian Aleksander Antoni Bartosz David Filip Jakub Kacper Luca Marek Matei Mateusz Nikodem Szymon",
        "Balan Dragan Horvath Ionescu Kaminski Kovac Kowalczyk Lewandowski Marinescu Nowak Petrauskas Popa Shevchenko Wojcik Zielinski",
    ),
    _make_pool(
        0.10,
        0.35,
        "BAFR BAFR BCRB MWBA BOTH",
        "Abigail Adaeze Amara Blessing Chidera Efua Esther Faith Gloria Imani Naomi Nia Ruth Temperance Zuri",
        "Caleb Chidi David Elijah Emmanuel Ezra Isaiah Israel Jeremiah Kofi Kwame Malachi Nathaniel Samuel Tobi",
        "Addo Adeyemi Agyeman Asante Bailey Balogun Boateng Campbell Clarke Danso Eze Francis Gordon Ibekwe Mensah Nwosu Obi Okafor Okoro"
        " Osei Owusu Reid",
    ),
    _make_pool(
        0.05,
        0.75,
        "OOTH WOTH AOTH",
        "Amal Elif Farah Hana Layla Leila Linh Mei Mina Nour Rania Salma Sara Yara",
        "Ali Amir Berat Emir Hassan Jun Karim Khalid Minh Omar Rayan Tariq Wei Yunus",
        "Abdi Aydin Chen Demir Farah Haddad Hassan Karimi Lam Mohamud Nguyen Omar Saleh Tran Warsame Yilmaz",
    ),
)
